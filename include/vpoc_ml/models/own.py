"""Learners of plugins in a stack: fitted on guarded rows, stored as bytes, and the same function when loaded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpoc_ml.errors import CheckpointError, PluginError
from vpoc_ml.models.stacking import ALL, RIDGE, TREES
from vpoc_ml.plugins import registered
from vpoc_ml.plugins.declared import OwnLearner
from vpoc_ml.plugins.registered import Plugin

Floats = npt.NDArray[np.float64]
Inputs = npt.NDArray[np.float32]

RESERVED = (ALL, RIDGE, TREES, "net", "price", "volume", "volatility", "candidate", "constant")
"""Names of parts and of baselines."""
PROBES = 64
"""Rows that a stored model keeps with their predictions, by which a learner is compared when it is loaded."""
REMEDY = "Correct the learner and train again."


@dataclass(frozen=True)
class OwnPart:
    """A fitted learner: what ``fit`` returned, and probes [rows, features] with the ranks it predicted for them."""

    plugin: Plugin
    stored: bytes
    probes: Inputs
    expected: Floats

    def predict(self, guarded: Inputs) -> Floats:
        """Return the predicted rank [rows] for guarded features [rows, features].

        Raises:
            PluginError: the learner raised an error, or its result is not one finite number per row.
        """
        return _predicted(self.plugin, self.stored, guarded)


def own_learners() -> dict[str, Plugin]:
    """Return the learners of the active plugins by name.

    Raises:
        PluginError: a name is one of the product's.
    """
    found = {}
    for plugin in registered.of_kind("models"):
        if plugin.name in RESERVED or plugin.name.endswith("_zero"):
            expected = f"a name other than {', '.join(RESERVED)} that does not end in _zero"
            raise PluginError(plugin.origin, expected, plugin.name, "Rename the learner.")
        found[plugin.name] = plugin
    return found


def fit_own(names: Sequence[str], inputs: Inputs, ranks: Floats, seed: int) -> dict[str, OwnPart]:
    """Fit learners on training rows.

    Args:
        names: learners of ``model.own``.
        inputs: guarded features [rows, features].
        ranks: rank targets [rows]; rows with a NaN target do not count.
        seed: seed of the run.

    Raises:
        PluginError: no active plugin has the learner, it raised an error, or it did not return bytes.
    """
    known, parts = np.isfinite(ranks), {}
    rows, targets = inputs[known], ranks[known]
    probes = np.ascontiguousarray(rows[np.linspace(0, len(rows) - 1, min(PROBES, len(rows))).astype(int)])
    for name in names:
        plugin = own_learners().get(name)
        if plugin is None:
            raise PluginError("model.own", f"a plugin with the learner {name}", "none", "Install it or leave it out.")
        learner: OwnLearner = plugin.value
        expected = f"bytes from fit of learner {name}"
        try:
            stored = learner.fit(rows, targets, seed)
        except Exception as error:
            raise PluginError(plugin.origin, expected, f"{type(error).__name__}: {error}", REMEDY) from error
        if not isinstance(stored, bytes) or not stored:
            raise PluginError(plugin.origin, expected, repr(stored)[:80], REMEDY)
        parts[name] = OwnPart(plugin, stored, probes, _predicted(plugin, stored, probes))
    return parts


def load_own(path: object, name: str, stored: bytes, probes: Inputs, expected: Floats) -> OwnPart:
    """Return a stored learner after its predictions of the probes were compared.

    Raises:
        CheckpointError: no active plugin has the learner, or it now predicts something else.
    """
    plugin = own_learners().get(name)
    if plugin is None:
        remedy = "Install the plugin that the model was trained with."
        raise CheckpointError(path, f"a plugin with the learner {name}", "none", remedy)
    try:
        found = _predicted(plugin, stored, probes)
    except PluginError as error:
        raise CheckpointError(path, f"a part that learner {name} can read", str(error), "Restore its code.") from error
    if not np.allclose(found, expected, rtol=1e-9, atol=1e-12):
        worst = float(np.abs(found - expected).max())
        remedy = f"Restore the code of {plugin.origin}, or train again."
        raise CheckpointError(path, f"the stored predictions of learner {name}", f"others by up to {worst:.3g}", remedy)
    return OwnPart(plugin, stored, probes, expected)


def _predicted(plugin: Plugin, stored: bytes, guarded: Inputs) -> Floats:
    expected = f"one finite rank per row from predict of learner {plugin.name}"
    try:
        ranks = np.asarray(plugin.value.predict(stored, guarded), np.float64)
    except Exception as error:
        raise PluginError(plugin.origin, expected, f"{type(error).__name__}: {error}", REMEDY) from error
    if ranks.shape != (len(guarded),):
        raise PluginError(plugin.origin, expected, f"an array of shape {ranks.shape}", REMEDY)
    if not np.isfinite(ranks).all():
        raise PluginError(plugin.origin, expected, "NaN or infinite values", REMEDY)
    return ranks


PREFIX = "own."
"""Of the tensors of own parts; no network has such a name."""


def to_arrays(parts: Mapping[str, OwnPart]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that a stored model keeps of its own parts."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, part in parts.items():
        found[f"{PREFIX}{name}"] = np.frombuffer(part.stored, np.uint8)
        found[f"{PREFIX}{name}.probes"], found[f"{PREFIX}{name}.expected"] = part.probes, part.expected
    return found


def from_arrays(path: object, names: Sequence[str], arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, OwnPart]:
    """Return the own parts among ``names`` of a stored model, in their order; see ``load_own``."""
    own = [name for name in names if f"{PREFIX}{name}" in arrays]
    parts = {}
    for name in own:
        stored, probes, expected = (arrays[f"{PREFIX}{name}{suffix}"] for suffix in ("", ".probes", ".expected"))
        parts[name] = load_own(path, name, stored.tobytes(), probes, expected)
    return parts
