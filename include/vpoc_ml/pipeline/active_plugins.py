"""The plugins of a run: which are active in this process, and that every process of a run has the same."""

from __future__ import annotations

from math import isfinite

from vpoc_ml.artifacts.own_features import OwnFeatureText, OwnFeatureTexts
from vpoc_ml.config import RunConfig
from vpoc_ml.errors import InvalidValueError, PluginError
from vpoc_ml.features.registry import own_features
from vpoc_ml.ingest.readers import known_readers
from vpoc_ml.models.own import own_learners
from vpoc_ml.plugins.load import activate
from vpoc_ml.quality.own_checks import own_checks

HOW_TO = "docs/how-to/own-feature.md says where a plugin is looked for"


def use_plugins(lake: str) -> str:
    """Make the plugins of installed packages and of a lake active in this process; return their fingerprint.

    Raises:
        PluginError: one of them cannot be used, or has a name of the product or of another.
    """
    active = activate(lake)
    own_features()
    own_checks()
    known_readers()
    own_learners()
    return active.fingerprint


def require_same_plugins(run: str, expected: str | None, found: str) -> None:
    """Refuse to go on with other plugins than those with which a run was started.

    Args:
        run: name of the run.
        expected: fingerprint stored at its start; None of a run of an earlier release.
        found: fingerprint of the active plugins.

    Raises:
        PluginError: they differ.
    """
    if expected is None or expected == found:
        return
    before, now = ({each for each in text.split("; ") if each} for text in (expected, found))
    changed = ", ".join(sorted({each.rpartition(" ")[0] for each in before ^ now}))
    raise PluginError(
        f"run {run}",
        f"the plugins of its first task ({expected or 'none'})",
        f"others in this process ({found or 'none'}): {changed}",
        "Install the same packages on every machine, finish a run before you edit a plugin, or start the run again.",
    )


def refuse_unknown_plugins(config: RunConfig) -> None:
    """Refuse names in the settings that no active plugin has.

    Raises:
        InvalidValueError: ``features.own`` names a family without features, or ``model.own`` no learner.
    """
    families = sorted({each.family for each in own_features().values()})
    unknown = [each for each in config.features.own if each not in families]
    if unknown:
        expected = f"families of own features ({', '.join(families) or 'no plugin has any'}; {HOW_TO})"
        raise InvalidValueError("features.own", ", ".join(unknown), expected)
    learners = list(own_learners())
    if absent := [each for each in config.model.own if each not in learners]:
        expected = f"own learners ({', '.join(learners) or 'no plugin has any'}; {HOW_TO})"
        raise InvalidValueError("model.own", ", ".join(absent), expected)


def own_texts(config: RunConfig) -> OwnFeatureTexts:
    """Return what pages show of the own features that a run selects; they load no plugin."""
    chosen = [each for each in own_features().values() if each.family in config.features.own]
    return OwnFeatureTexts(
        features=tuple(
            OwnFeatureText(
                name=each.name,
                family=each.family,
                formula=each.formula,
                unit=each.unit,
                soft=each.soft if all(map(isfinite, each.soft)) else None,
            )
            for each in chosen
        )
    )
