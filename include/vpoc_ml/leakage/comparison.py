"""What every check compares: the market a builder gets, and the features it returns.

A check cuts the market, perturbs it after a bar or rescales its past, and compares the features bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.artifacts.leakage_proof import LeakageCheckResult, Violation
from vpoc_ml.artifacts.schemas import FEATURE_KEYS, LEVELS, PRICES
from vpoc_ml.features.history import Predecessor
from vpoc_ml.ingest.vix.vix_closes import join_vix
from vpoc_ml.market.instruments import Instrument


@dataclass(frozen=True)
class Market:
    """One contract: canonical ``bars``, the VIX closes (date, close, available_at), and the contract before it.

    ``vix`` is None where bars and features have none. ``pair`` has ts (START) and close of another instrument; a bar
    may use its close of the same minute. ``covariates`` are further indices by column, each like ``vix``.
    """

    bars: pl.DataFrame
    vix: pl.DataFrame | None
    instrument: Instrument
    predecessor: Predecessor | None = None
    pair: pl.DataFrame | None = None
    covariates: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of bars."""
        return self.bars.height

    @property
    def roll(self) -> int:
        """Row of the first bar as the front contract; 0 without predecessor."""
        if self.predecessor is None:
            return 0
        return int(self.bars["session"].search_sorted(self.predecessor.first_session))

    def head(self, rows: int) -> Market:
        """Return what was known when bar ``rows - 1`` closed: no later bar, and no VIX close that bar could not use."""
        bars = self.bars.head(rows)
        last = bars["ts"][-1]
        pair = None if self.pair is None else self.pair.filter(pl.col("ts") <= last)
        vix = None if self.vix is None else self.vix.filter(pl.col("available_at") < last)
        known = {name: each.filter(pl.col("available_at") < last) for name, each in self.covariates.items()}
        return replace(self, bars=bars, vix=vix, pair=pair, covariates=known)

    def with_vix(self, vix: pl.DataFrame) -> Market:
        """Return the market with other VIX closes; every bar holds the one published before it."""
        return replace(self, vix=vix, bars=join_vix(self.bars.drop("vix"), vix))


Build = Callable[[Market, int | None], pl.DataFrame]
"""Features of a market: ``ts, contract, session`` and a float column per feature, one row per bar.

The number is the rows of a chunk: the builder processes the bars that many at a time, or all at once for None.
"""


def perturb_after(market: Market, row: int, seed: int) -> Market:
    """Return the market with other prices, volumes, index values and closes of the pair after bar ``row``.

    Every later bar moves by its own number of ticks and gets another volume. Every index value that bar ``row`` could
    not use yet is replaced.
    """
    draw = np.random.default_rng([seed, row])
    count = market.rows - row - 1
    ticks = np.concatenate((np.zeros(row + 1, np.int64), draw.integers(20, 400, count) * draw.choice([-1, 1], count)))
    added = np.concatenate((np.zeros(row + 1, np.int64), draw.integers(1, 5000, count)))
    bars = shift_prices(market.bars, ticks, market.instrument).with_columns(pl.col("volume") + pl.Series(added))
    last = market.bars["ts"][row]
    unknown = pl.col("available_at") >= last
    covariates = {
        name: each.with_columns(close=pl.when(unknown).then(pl.col("close") * 1.5 + 1).otherwise("close"))
        for name, each in market.covariates.items()
    }
    pair = market.pair
    if pair is not None:
        drift = 1 + 0.01 * (pl.col("ts") > last).cum_sum().clip(0, 20)
        pair = pair.with_columns(close=pl.col("close") * drift)
    perturbed = replace(market, bars=bars, pair=pair, covariates=covariates)
    if market.vix is None:
        return perturbed
    factor = pl.Series(draw.uniform(1.2, 2.0, market.vix.height))
    close = pl.when(unknown).then(pl.col("close") * factor).otherwise("close")
    return perturbed.with_vix(market.vix.with_columns(close=close))


def shift_prices(bars: pl.DataFrame, ticks: NDArray[np.int64], instrument: Instrument) -> pl.DataFrame:
    """Return the bars with all four prices of each moved by its number of ticks."""
    step = pl.Series(ticks * instrument.tick_size)
    return bars.with_columns(pl.col(name) + step for name in PRICES)


def shift_closes(bars: pl.DataFrame, ticks: NDArray[np.int64], instrument: Instrument) -> pl.DataFrame:
    """Return the bars with each close moved by its number of ticks, and high and low extended to hold it.

    The return from open to close changes, which ``shift_prices`` leaves nearly as it is.
    """
    moved = bars.with_columns(close=pl.col("close") + pl.Series(ticks * instrument.tick_size))
    return moved.with_columns(high=pl.max_horizontal("high", "close"), low=pl.min_horizontal("low", "close"))


def rescale(predecessor: Predecessor, factor: float) -> Predecessor:
    """Return the predecessor with all prices times ``factor``, and with the ratio that compensates it.

    A power of two is exact: the adjusted past is then bit-identical.
    """
    bars = predecessor.bars.with_columns(pl.col(name) * factor for name in PRICES)
    quoted = [name for name in (*PRICES, *LEVELS) if name in predecessor.sessions.columns]
    sessions = predecessor.sessions.with_columns(pl.col(name) * factor for name in quoted)
    return replace(predecessor, bars=bars, sessions=sessions, ratio=predecessor.ratio / factor)


KEYS = tuple(FEATURE_KEYS)
ALL = "*"
"""The feature of a violation that concerns the rows themselves."""


def feature_columns(frame: pl.DataFrame) -> list[str]:
    """Return the columns of a builder's frame that are features."""
    return [name for name in frame.columns if name not in KEYS]


def matrix(frame: pl.DataFrame, names: list[str]) -> NDArray[np.float64]:
    """Return columns as Float64 (exact for Float32), ``[rows, columns]``; null is NaN."""
    cells = frame.select(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in names)
    return cells.to_numpy().reshape(frame.height, len(names))


def changed(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where two arrays differ in any bit; NaN equals NaN, whatever its payload."""
    bits = one.copy().view(np.int64) != other.copy().view(np.int64)
    return np.asarray(bits & ~(np.isnan(one) & np.isnan(other)), np.bool_)


def differences(
    check: str, expected: pl.DataFrame, found: pl.DataFrame, how: str, remedy: str, *, first_row: int = 0
) -> list[Violation]:
    """Compare two frames of the same rows and return, for each feature that differs, the first row where it does.

    Args:
        check: name of the check.
        expected: ``ts, contract, session`` and features, as they should be.
        found: the same rows and columns, as they are.
        how: how ``found`` was computed, such as "in chunks of 7 bars".
        remedy: what to do about a difference.
        first_row: row of the market at which the frames begin.
    """
    if not expected.select(KEYS).equals(found.select(KEYS)) or expected.columns != found.columns:
        shapes = f"{expected.height} rows and {expected.width} columns", f"{found.height} and {found.width}"
        other = shapes[1] if found.shape != expected.shape else "other timestamps, sessions or columns"
        return [Violation(check, ALL, None, None, f"the same {shapes[0]} {how}", other, remedy)]
    names = feature_columns(expected)
    one, other_cells = matrix(expected, names), matrix(found, names)
    wrong = changed(one, other_cells)
    violations = []
    for at in np.flatnonzero(wrong.any(axis=0)):
        row = int(wrong[:, at].argmax())
        shown = f"{one[row, at]:.9g}", f"{other_cells[row, at]:.9g} {how} ({int(wrong[:, at].sum())} rows differ)"
        violations.append(Violation(check, names[at], expected["ts"][row], first_row + row, *shown, remedy))
    return violations


def earliest(violations: Iterable[Violation]) -> list[Violation]:
    """Return the earliest violation of each check and feature."""
    first: dict[tuple[str, str], Violation] = {}
    for one in violations:
        known = first.get((one.check, one.feature))
        if known is None or (one.row is not None and (known.row is None or one.row < known.row)):
            first[one.check, one.feature] = one
    return list(first.values())


def check_results(
    comparisons: Mapping[str, int], violations: Iterable[Violation], expected: Mapping[str, str]
) -> list[LeakageCheckResult]:
    """Return one result per check; ``expected`` states by check what it expects."""
    violations = list(violations)
    results = []
    for check, count in comparisons.items():
        broken = [one for one in violations if one.check == check]
        first = sorted(one.ts for one in broken if one.ts is not None)
        results.append(
            LeakageCheckResult(check, expected[check], count, tuple(one.line() for one in broken), tuple(first))
        )
    return results
