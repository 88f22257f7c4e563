"""Truthful names and windows: how far a feature really looks back, measured, against what it declares.

One old bar, or one old session, is replaced; the last row that changes is where the memory ends. A window counted
in the wrong unit, one bar too long, too short, or late, shows at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vpoc_ml.leakage.market import Build, Market, moved
from vpoc_ml.leakage.violations import Violation, changed, feature_columns, matrix

CHECK = "memory"
REMEDY = "Make the formula, its window in the registry and its name say the same."
SPIKES = (40, -40)
"""Ticks by which the old bar is moved: up and down, so that a maximum and a minimum both notice."""
_NAMED = re.compile(r"_(\d+)([md])(?:_|$)")
_WINDOW = re.compile(r"(?:up to )?(\d+(?:/\d+)*) ([md])\b")


class Declared(Protocol):
    """What a registry says of a feature."""

    @property
    def family(self) -> str: ...
    @property
    def window(self) -> str: ...
    @property
    def warmup_sessions(self) -> int: ...
    @property
    def warmup_bars(self) -> int: ...


class Lookback(NamedTuple):
    """Between how many bars ("m") or sessions ("d") back the oldest value lies that a feature reads."""

    unit: str
    least: int
    most: int


def declared_lookback(feature: Declared) -> Lookback:
    """Return the memory a feature declares.

    A window of n bars reads the bar n - 1 or, for a return, n before: as many as its ``warmup_bars`` say. More of them
    mean something that has to settle and may reach as far. A window of n sessions reads the one n before; one session
    more of warm-up is the close before them, and many more mean a scale (an ATR) of so many and the close before.
    "up to" n says that the oldest value need not be n old: the nearest of several. "session" begins with the session.
    """
    found, bars, days = _WINDOW.match(feature.window), feature.warmup_bars, feature.warmup_sessions
    if found is None:
        return Lookback("d", 0, days + 1 if days else 0)
    lengths = [int(each) for each in found[1].split("/")]
    longest, exact = max(lengths), len(lengths) == 1 and not feature.window.startswith("up to")
    if found[2] == "d":
        return Lookback("d", longest if exact else 0, days + 1 if days > longest + 1 else max(days, longest))
    settled = longest - 1 <= bars <= longest
    least = bars if settled else longest - 1
    return Lookback("m", least if exact else 0, bars if settled else max(longest, bars))


def _without_scale(feature: Declared) -> Lookback | None:
    """Return the memory of what a scale of more sessions divides; None where there is no such scale.

    Other volume leaves a session's range, and so an ATR, as it was: only the window answers.
    """
    found, reach = _WINDOW.match(feature.window), declared_lookback(feature)
    if found is None or found[2] != "d" or reach.most <= (longest := max(map(int, found[1].split("/")))):
        return None
    return Lookback("d", reach.least, longest)


def check_lookback(
    build: Build, market: Market, whole: pl.DataFrame, registry: Mapping[str, Declared]
) -> list[Violation]:
    """Return a finding for each feature whose memory or name is not what the registry declares.

    Args:
        build: the builder to judge.
        market: full, regular sessions: every bar of a window exists.
        whole: what the builder makes of it.
        registry: of each feature, its family, window and warm-up; features of the VIX are left to ``external``.
    """
    names = [name for name in feature_columns(whole) if registry[name].family != "vix"]
    bar = market.rows // 2 + 7
    session = market.bars["session"][bar]
    by_bar = [_spiked(market, bar, ticks) for ticks in SPIKES]
    by_session = [_displaced(market, session, ticks) for ticks in SPIKES]
    by_volume = [_reweighted(market, session)]
    old = matrix(whole, names)
    answers = [_answers(build, others, old, names) for others in (by_bar, by_session, by_volume)]
    age = market.bars["session"].rle_id().to_numpy().astype(np.int64)
    violations = []
    for at, name in enumerate(names):
        reach = declared_lookback(registry[name])
        answer = answers[reach.unit == "d"][:, at]
        report = _reporter(name, reach, market, bar)
        rows = np.arange(market.rows) - bar if reach.unit == "m" else age - age[bar]
        told = _judged(reach, rows[answer], report) or _sessions_counted(reach, answer, age - age[bar], report)
        window, answer = _without_scale(registry[name]), answers[2][:, at]
        if window is not None and answer.any():
            told = told or _judged(window, rows[answer], _reporter(name, window, market, bar))
        violations += (told or _misnamed(name, registry[name]))[:1]
    return violations


def _spiked(market: Market, bar: int, ticks: int) -> Market:
    """Return the market with one bar that closes elsewhere, at a new high or low, on three times the volume."""
    chosen, step = pl.int_range(pl.len()) == bar, ticks * market.instrument.tick_size
    edge = "high" if ticks > 0 else "low"
    spiked = [pl.when(chosen).then(pl.col(name) + step).otherwise(name).alias(name) for name in ("close", edge)]
    volume = pl.when(chosen).then(pl.col("volume") * 3 + 11).otherwise("volume")
    return replace(market, bars=market.bars.with_columns(*spiked, volume=volume))


def _displaced(market: Market, session: date, ticks: int) -> Market:
    """Return the market with one session at other prices, on three times the volume."""
    chosen = market.bars["session"] == session
    bars = moved(market.bars, np.where(chosen.to_numpy(), ticks, 0), market.instrument)
    volume = pl.when(chosen).then(pl.col("volume") * 3 + 11).otherwise("volume")
    return replace(market, bars=bars.with_columns(volume=volume))


def _reweighted(market: Market, session: date) -> Market:
    """Return the market with 50 times the volume on the dearest fifth of one session; all prices as they were."""
    dear = pl.col("close") > pl.col("close").filter(pl.col("session") == session).quantile(0.8)
    chosen = dear & (pl.col("session") == session)
    volume = pl.when(chosen).then(pl.col("volume") * 50).otherwise("volume")
    return replace(market, bars=market.bars.with_columns(volume=volume))


def _answers(build: Build, others: list[Market], old: NDArray[np.float64], names: list[str]) -> NDArray[np.bool_]:
    """Return which cells change in any of the disturbed markets."""
    cells = [changed(old, matrix(build(other, None), names)) for other in others]
    return np.asarray(np.logical_or.reduce(cells), np.bool_)


Report = Callable[[int, str, str], Violation]


def _judged(reach: Lookback, ages: NDArray[np.int64], report: Report) -> list[Violation]:
    """Compare the ages at which a feature answered with what it declares."""
    unit = {"m": "bars", "d": "sessions"}[reach.unit]
    if ages.size == 0:
        silent = reach.most > 0
        return [report(0, f"an answer within {reach.most} {unit}", "none at all")] if silent else []
    first, last = int(ages.min()), int(ages.max())
    told = []
    if first < 0:
        told.append(report(first, "no answer before the change", f"one {-first} {unit} before"))
    if reach.unit == "m" and first > 0:
        told.append(report(first, "an answer at the bar itself, which is closed", f"the first {first} bars later"))
    if not reach.least <= last <= reach.most:
        told.append(report(last, f"a memory of {reach.least} to {reach.most} {unit}", f"one of {last}"))
    return told


def _sessions_counted(
    reach: Lookback, answer: NDArray[np.bool_], age: NDArray[np.int64], report: Report
) -> list[Violation]:
    """Report a window of sessions that the last bar of a session does not see: it counts bars and forgets by then."""
    last = int(np.flatnonzero(age == reach.least)[-1]) if reach.unit == "d" and reach.least else -1
    if last < 0 or answer[last]:
        return []
    return [report(reach.least, f"an answer up to the end of the session {reach.least} later", "none in its last bar")]


def _reporter(name: str, reach: Lookback, market: Market, bar: int) -> Report:
    def report(age: int, expected: str, found: str) -> Violation:
        row = min(max(bar + age, 0), market.rows - 1) if reach.unit == "m" else bar
        return Violation(CHECK, name, market.bars["ts"][row], row, expected, found, REMEDY)

    return report


def _misnamed(name: str, feature: Declared) -> list[Violation]:
    """Report a name whose number and unit are not the window's: "3d" are sessions, "15m" bars.

    A change over n sessions that ends with the last completed one reads the session n + 1 before.
    """
    found, window = _NAMED.search(name), _WINDOW.match(feature.window)
    if found is None:
        return []
    length, unit = int(found[1]), found[2]
    allowed = {(str(length), unit)} | ({(str(length + 1), unit)} if unit == "d" else set())
    if window is not None and window.group(1, 2) in allowed:
        return []
    said = f"a window of {length} {unit}, as the name says"
    return [Violation(CHECK, name, None, None, said, f"the window {feature.window!r}", REMEDY)]
