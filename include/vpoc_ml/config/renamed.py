"""Names of settings that the previous release used. They work for one release, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from vpoc_ml.config.choices import Choice, Encoding, Target

RENAMED = {
    "recipe": "preset",
    "data.chunk_rows": "machine.chunk_rows",
    "dataset.horizon_minutes": "dataset.horizon",
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
"""Setting without a successor -> reason. It is ignored."""

REPLACED = {("machine.engine", "compiled"): "auto"}
"""Setting, in its name of today, and value of the previous release -> value now."""

PARAMETERS: dict[str, tuple[str, str, type[Choice]]] = {
    "dataset.target_classes": ("dataset.target", "classes", Target),
    "dataset.target_levels": ("dataset.target", "levels", Target),
    "dataset.target_volatility_bars": ("dataset.target", "bars", Target),
    "model.bins": ("model.encoding", "bins", Encoding),
}
"""Setting of the previous release -> setting, its parameter and its kinds, as in ``multiclass(classes=5)``."""

THRESHOLDS = frozenset(
    f"quality.{name}"
    for name in (
        "row_count_warn",
        "row_count_fail",
        "max_gap_minutes",
        "outlier_warn",
        "class_share_min",
        "zero_share_max",
        "soft_range_warn",
        "vix_missing_fail",
        "quarantine_warn",
    )
)
"""Settings of the previous release that are now ``name=value`` in ``quality.overrides``."""


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
    for key in current.keys() & THRESHOLDS:
        _warn(
            f"{where}: {key} is now part of quality.overrides, as in {key.removeprefix('quality.')}=value. Change it."
        )
    for key in current.keys() & PARAMETERS.keys():
        setting, parameter, _ = PARAMETERS[key]
        _warn(f"{where}: {key} is now a parameter of {setting}, as in kind({parameter}=...). Change it.")
    for (key, old), value in REPLACED.items():
        if current.get(key) == old:
            _warn(f"{where}: {key}={old} is now {value}. Change it; the next release rejects {old}.")
            current[key] = value
    return current


def current_document(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a run's config.json, also that of the previous release, in today's names and values."""
    document = {key: dict(value) if isinstance(value, Mapping) else value for key, value in stored.items()}
    if "horizon_minutes" in document.get("dataset", ()):
        document["dataset"].setdefault("label", "close")  # the only label of the previous release
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


def merged_parameters(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section's content with former settings inside the setting that now holds them.

    Parameters join their choice: ``{"encoding": "piecewise_linear", "bins": 8}`` becomes
    ``{"encoding": {"kind": "piecewise_linear", "bins": 8}}``. Thresholds join ``overrides`` as ``name=value``.
    """
    merged = dict(section)
    for old, (new, parameter, kinds) in PARAMETERS.items():
        name, choice = old.rpartition(".")[2], new.rpartition(".")[2]
        if name in merged:
            value, chosen = merged.pop(name), merged.get(choice, kinds().kind)
            kind = str(chosen.get("kind", kinds().kind) if isinstance(chosen, Mapping) else chosen).partition("(")[0]
            if kinds.PARAMETERS.get(kind) == parameter:  # parameters of other kinds never counted
                merged[choice] = {"kind": kind, parameter: value}
    names = [name for name in merged if f"quality.{name}" in THRESHOLDS]
    if names:
        merged["overrides"] = (*merged.get("overrides", ()), *(f"{name}={merged.pop(name)}" for name in names))
    return merged


def _warn(message: str) -> None:
    warnings.warn(message, FutureWarning, stacklevel=4)
