"""Computes the optional features of the families a run names."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from vpoc_ml.features.inputs import Floats, Inputs
from vpoc_ml.features.optional_registry import OPTIONAL_FEATURES


def compute(x: Inputs, extras: Iterable[str]) -> dict[str, Floats]:
    """Return the features of these families by name, in the order of the list of optional features.

    Args:
        x: bars of one contract and their past: 30 sessions, for family har 83.
        extras: names of families; their modules are imported here, so that a run without them does not pay.
    """
    found: dict[str, Floats] = {}
    for family in sorted(set(extras)):
        found |= import_module(f"vpoc_ml.features.extras.{family}").compute(x)
    return {
        name: found[name] for name in OPTIONAL_FEATURES if name in found
    } | found  # covariates follow the listed ones
