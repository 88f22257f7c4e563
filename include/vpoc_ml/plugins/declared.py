"""What the author of a plugin declares: one frozen object per feature, check or learner."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

Bounds = tuple[float, float]
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_UNBOUNDED: Bounds = (-inf, inf)


def _require_name(value: object, what: str) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"a {what} of lower-case letters, digits and '_', beginning with a letter; was {value!r}")


def _require_callables(**functions: object) -> None:
    for name, function in functions.items():
        if not callable(function):
            raise ValueError(f"a function as {name}; was {function!r}")


@dataclass(frozen=True, kw_only=True)
class OwnFeature:
    """A feature of your own. ``features.own`` of a run selects it by its family.

    Attributes:
        name: column name. Where it holds a number with m or d, such as ``20m``, the window must say the same.
        family: name of a group of own features that are selected together; not one of the product's families.
        formula: definition in one line, as pages show it.
        window: lookback: ``20 m`` (bars), ``5 d`` (sessions), ``session`` or ``1 m``. The leakage gate measures it.
        unit: unit of the values, such as ``bp``.
        compute: takes ``features.inputs.Inputs`` and returns one float per bar of it; NaN or null where the feature
            has no value. It may read bar t and earlier ones only.
        hard: bounds that follow from mathematics; a value outside fails the gate.
        soft: usual range; many values outside are a warning.
        warmup_sessions: sessions of a contract before the first value. A window of bars declares 2.
        warmup_bars: bars before the first value.
        variation_sessions: sessions after which a constant column is an error; 5 for one value a session.
        history: sessions of the past that it reads, at least those of the product's features (30).
        relative: whether it is a share or a logarithm of prices; it is then missing where a price is at or below 0.
    """

    name: str
    family: str
    formula: str
    window: str
    compute: Callable[[Any], Any]
    unit: str = "-"
    hard: Bounds = _UNBOUNDED
    soft: Bounds = _UNBOUNDED
    warmup_sessions: int = 0
    warmup_bars: int = 0
    variation_sessions: int = 1
    history: int = 30
    relative: bool = False

    def __post_init__(self) -> None:
        """Refuse a declaration that no gate could use."""
        _require_name(self.name, "name")
        _require_name(self.family, "family")
        _require_callables(compute=self.compute)
        for bounds in (self.hard, self.soft):
            if not bounds[0] < bounds[1]:
                raise ValueError(f"bounds (low, high) of {self.name} with low < high; was {bounds}")
        if min(self.warmup_sessions, self.warmup_bars, self.history) < 0 or self.variation_sessions < 1:
            raise ValueError(f"a warm-up and a history of {self.name} at or above 0")


@dataclass(frozen=True, kw_only=True)
class OwnCheck:
    """A check of your own in one of the gates. Every run makes it.

    Attributes:
        name: name of the check in reports and messages.
        gate: the gate that makes it; it decides what ``defects`` receives.
        column: the column it is about; ``*`` for the whole table.
        expected: completes the sentence "expected ...".
        meaning: what a failure says about the data, for a person who owns them.
        action: what to do then.
        defects: takes the table of one contract (polars LazyFrame: bars, sessions, features, or the training set's
            rows of the contract) and returns its defective rows: a LazyFrame or DataFrame with ``ts`` (``session`` for
            gate sessions), and ``value`` if there is one to show.
        fail_above: more defective rows than this fail the gate; None: the check never fails the gate.
        warn_above: more defective rows than this are a warning; None: no warning.
    """

    name: str
    gate: Literal["bars", "sessions", "features", "training-set"]
    expected: str
    meaning: str
    action: str
    defects: Callable[[Any], Any]
    column: str = "*"
    fail_above: int | None = 0
    warn_above: int | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that no gate could use."""
        _require_name(self.name, "name")
        _require_callables(defects=self.defects)
        gates = ("bars", "sessions", "features", "training-set")
        if self.gate not in gates:
            raise ValueError(f"a gate out of {', '.join(gates)} for check {self.name}; was {self.gate!r}")
        if self.fail_above is None and self.warn_above is None:
            raise ValueError(f"fail_above or warn_above for check {self.name}; was neither")


@dataclass(frozen=True, kw_only=True)
class OwnLearner:
    """A base learner of your own for the stack. ``model.own`` of a run selects it by its name.

    Attributes:
        name: name of the part in metrics, cards and pages.
        fit: ``fit(inputs, ranks, seed)`` takes guarded features (float32 [rows, features], finite), the ranks of the
            returns (float64 [rows], finite, in 0 to 1) and a seed; it returns the fitted learner as bytes. The same
            arguments must give the same bytes.
        predict: ``predict(stored, inputs)`` takes those bytes and guarded features [rows, features] and returns the
            predicted rank of each row [rows], finite.
    """

    name: str
    fit: Callable[[Any, Any, int], bytes]
    predict: Callable[[bytes, Any], Any]

    def __post_init__(self) -> None:
        """Refuse a declaration that no stack could use."""
        _require_name(self.name, "name")
        _require_callables(fit=self.fit, predict=self.predict)
