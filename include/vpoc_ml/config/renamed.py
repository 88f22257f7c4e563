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
    "training.threads": "machine.threads",
    "training.vram_limit_gib": "machine.vram_limit_gib",
}
"""Name in the previous release -> name now. A name without a dot is a key of a run's conf, not a setting."""

REMOVED = {
    "training.processes": "one process trains one network",
}
"""Setting that had no successor -> reason. It is ignored."""

REPLACED = {("machine.engine", "compiled"): "auto"}
"""Setting and value of the previous release -> value now."""


def current_names(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return ``given``, keyed by dotted setting, in the names and values of today.

    A name of today wins over its old form. ``where`` names the source for the warning, such as ``conf of the run``.
    """
    current = {key: value for key, value in given.items() if key not in RENAMED and key not in REMOVED}
    for key in given.keys() - current.keys():
        if key in REMOVED:
            _warn(f"{where}: {key} has no effect any more ({REMOVED[key]}). Remove it; the next release rejects it.")
        else:
            _warn(f"{where}: {key} is now called {RENAMED[key]}. Change it; the next release rejects {key}.")
            current.setdefault(RENAMED[key], given[key])
    for (key, old), value in REPLACED.items():
        if current.get(key) == old:
            _warn(f"{where}: {key}={old} is now {value}. Change it; the next release rejects {old}.")
            current[key] = value
    return current


def current_document(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a run's config.json, also that of the previous release, in today's names and values."""
    document = {key: dict(value) if isinstance(value, Mapping) else value for key, value in stored.items()}
    for old in [*RENAMED, *REMOVED]:
        section, _, name = old.rpartition(".")
        source = document.get(section) if section else document
        if isinstance(source, dict) and name in source:
            value = source.pop(name)
            if old in RENAMED:
                new_section, _, new_name = RENAMED[old].rpartition(".")
                target = document.setdefault(new_section, {}) if new_section else document
                target.setdefault(new_name, value)
    for (key, old), value in REPLACED.items():
        section, _, name = key.rpartition(".")
        if isinstance(document.get(section), dict) and document[section].get(name) == old:
            document[section][name] = value
    return document


def _warn(message: str) -> None:
    warnings.warn(message, FutureWarning, stacklevel=4)
