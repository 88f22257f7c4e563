"""Names of settings that the previous release used. They work for one release, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "recipe": "preset",
    "data.chunk_rows": "machine.chunk_rows",
    "ingest.stamp": "ingest.label_side",
    "quality.docs_limit": "machine.docs_limit",
    "training.allow_cpu": "machine.allow_cpu",
    "training.checkpoint_seconds": "machine.checkpoint_seconds",
    "training.device": "machine.device",
    "training.engine": "machine.engine",
    "training.ladder": "machine.fallback",
    "training.processes": "machine.processes",
    "training.threads": "machine.threads",
    "training.vram_limit_gib": "machine.vram_limit_gib",
}
"""Name in the previous release -> name now. A name without a dot is a key of a run's conf, not a setting."""


def current_names(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return ``given``, keyed by dotted setting, with the names of the previous release replaced by those of today.

    A name of today wins over its old form. ``where`` names the source for the warning, such as ``conf of the run``.
    """
    new = {key: value for key, value in given.items() if key not in RENAMED}
    for key in given.keys() - new.keys():
        warnings.warn(
            f"{where}: {key} is now called {RENAMED[key]}. Change it; the next release rejects {key}.",
            FutureWarning,
            stacklevel=2,
        )
    return {RENAMED[key]: value for key, value in given.items() if key in RENAMED} | new


def current_document(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a run's config.json, also that of the previous release, in today's names."""
    document = {key: dict(value) if isinstance(value, Mapping) else value for key, value in stored.items()}
    for old, new in RENAMED.items():
        section, _, name = old.rpartition(".")
        source = document.get(section) if section else document
        if isinstance(source, dict) and name in source:
            new_section, _, new_name = new.rpartition(".")
            target = document.setdefault(new_section, {}) if new_section else document
            target.setdefault(new_name, source.pop(name))
    return document
