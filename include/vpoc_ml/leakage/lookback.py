"""Which values of the past a feature reads, measured and compared with what it declares.

``check_lookback`` replaces one old bar, or one old session. The last row that changes is where the lookback ends. This
finds a window in the wrong unit, or one bar too long, too short or too late.

``check_as_of`` replaces one close of the VIX. Each close carries the time it was published, and a bar may read strictly
earlier ones only.
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

from vpoc_ml.artifacts.leakage_proof import Violation
from vpoc_ml.leakage.comparison import Build, Market, changed, feature_columns, matrix, shift_prices

LOOKBACK = "lookback"
LOOKBACK_REMEDY = "Make the formula, its window in the registry and its name say the same."
SPIKES = (40, -40)
"""Ticks by which the old bar moves: up and down, so that a maximum and a minimum both change."""
_NAMED = re.compile(r"_(\d+)([md])(?:_|$)")
_WINDOW = re.compile(r"(?:up to )?(\d+(?:/\d+)*) ([md])\b")


class DeclaredFeature(Protocol):
    """What a registry declares of a feature."""

    @property
    def family(self) -> str: ...
    @property
    def window(self) -> str: ...
    @property
    def warmup_sessions(self) -> int: ...
    @property
    def warmup_bars(self) -> int: ...


class Lookback(NamedTuple):
    """The least and the largest age of the oldest value a feature reads, in bars ("m") or sessions ("d")."""

    unit: str
    least: int
    most: int


def declared_lookback(feature: DeclaredFeature) -> Lookback:
    """Return the lookback that a feature declares.

    A window of n bars reads the bar n - 1 before or, for a return, n before: its ``warmup_bars`` say which. More
    warm-up bars mean a recursion, whose lookback may be as long. A window of n sessions reads the session n before. One
    more session of warm-up is the close before the window; many more mean a scale (an ATR) of so many sessions and the
    close before. "up to" n means that the oldest value may be younger: it is the nearest of several. "session" begins
    with the session.
    """
    found, bars, days = _WINDOW.match(feature.window), feature.warmup_bars, feature.warmup_sessions
    if found is None:
        return Lookback("d", 0, days + 1 if days else 0)
    lengths = [int(each) for each in found[1].split("/")]
    longest, exact = max(lengths), len(lengths) == 1 and not feature.window.startswith("up to")
    if found[2] == "d":
        return Lookback("d", longest if exact else 0, days + 1 if days > longest + 1 else max(days, longest))
    plain_window = longest - 1 <= bars <= longest
    least = bars if plain_window else longest - 1
    return Lookback("m", least if exact else 0, bars if plain_window else max(longest, bars))


def check_lookback(
    build: Build, market: Market, features: pl.DataFrame, registry: Mapping[str, DeclaredFeature]
) -> list[Violation]:
    """Return a violation for each feature whose lookback or name is not what the registry declares.

    Args:
        build: the builder to check.
        market: full, regular sessions, so that every bar of a window exists.
        features: what the builder computes from it.
        registry: family, window and warm-up of each feature. Features of family vix are left to ``check_as_of``.
    """
    names = [name for name in feature_columns(features) if registry[name].family != "vix"]
    bar = market.rows // 2 + 7
    session = market.bars["session"][bar]
    old = matrix(features, names)

    def responses(*others: Market) -> NDArray[np.bool_]:
        """Return which cells change in any of the markets."""
        cells = [changed(old, matrix(build(other, None), names)) for other in others]
        return np.asarray(np.logical_or.reduce(cells), np.bool_)

    by_bar = responses(*(_move_bar(market, bar, ticks) for ticks in SPIKES))
    by_session = responses(*(_move_session(market, session, ticks) for ticks in SPIKES))
    by_volume = responses(_move_volume(market, session))
    number = market.bars["session"].rle_id().to_numpy().astype(np.int64)
    ages = {"m": np.arange(market.rows) - bar, "d": number - number[bar]}
    violations = []
    for at, name in enumerate(names):
        declared, window = declared_lookback(registry[name]), _without_scale(registry[name])
        response = (by_session if declared.unit == "d" else by_bar)[:, at]
        report = _reporter(name, declared, market, bar)
        found = _compare(declared, ages[declared.unit][response], report)
        found = found or _compare_last_bar(declared, response, ages["d"], report)
        if window is not None and by_volume[:, at].any():
            found = found or _compare(window, ages["d"][by_volume[:, at]], _reporter(name, window, market, bar))
        violations += (found or _compare_name(name, registry[name]))[:1]
    return violations


def _without_scale(feature: DeclaredFeature) -> Lookback | None:
    """Return the lookback of a window that is divided by a scale of more sessions; None where there is no such scale.

    A change of volume alone leaves the range of a session, and so an ATR, unchanged: only the window responds.
    """
    found, declared = _WINDOW.match(feature.window), declared_lookback(feature)
    if found is None or found[2] != "d":
        return None
    longest = max(map(int, found[1].split("/")))
    return Lookback("d", declared.least, longest) if declared.most > longest else None


def _move_bar(market: Market, bar: int, ticks: int) -> Market:
    """Return the market with another close of one bar, at a new high or low, and three times its volume."""
    chosen, step = pl.int_range(pl.len()) == bar, ticks * market.instrument.tick_size
    edge = "high" if ticks > 0 else "low"
    moved = [pl.when(chosen).then(pl.col(name) + step).otherwise(name).alias(name) for name in ("close", edge)]
    volume = pl.when(chosen).then(pl.col("volume") * 3 + 11).otherwise("volume")
    return replace(market, bars=market.bars.with_columns(*moved, volume=volume))


def _move_session(market: Market, session: date, ticks: int) -> Market:
    """Return the market with other prices of one session and three times its volume."""
    chosen = market.bars["session"] == session
    bars = shift_prices(market.bars, np.where(chosen.to_numpy(), ticks, 0), market.instrument)
    volume = pl.when(chosen).then(pl.col("volume") * 3 + 11).otherwise("volume")
    return replace(market, bars=bars.with_columns(volume=volume))


def _move_volume(market: Market, session: date) -> Market:
    """Return the market with 50 times the volume in the highest fifth of one session's closes, at the same prices."""
    high = pl.col("close") > pl.col("close").filter(pl.col("session") == session).quantile(0.8)
    chosen = high & (pl.col("session") == session)
    volume = pl.when(chosen).then(pl.col("volume") * 50).otherwise("volume")
    return replace(market, bars=market.bars.with_columns(volume=volume))


Report = Callable[[int, str, str], Violation]


def _reporter(name: str, declared: Lookback, market: Market, bar: int) -> Report:
    """Return a function from an age, what was expected and what was found to the violation."""

    def report(age: int, expected: str, found: str) -> Violation:
        row = min(max(bar + age, 0), market.rows - 1) if declared.unit == "m" else bar
        return Violation(LOOKBACK, name, market.bars["ts"][row], row, expected, found, LOOKBACK_REMEDY)

    return report


def _compare(declared: Lookback, ages: NDArray[np.int64], report: Report) -> list[Violation]:
    """Compare the ages of the rows that changed with the declared lookback."""
    unit = {"m": "bars", "d": "sessions"}[declared.unit]
    if ages.size == 0:
        return [report(0, f"a response within {declared.most} {unit}", "none")] if declared.most > 0 else []
    first, last = int(ages.min()), int(ages.max())
    found = []
    if first < 0:
        found.append(report(first, "no response before the change", f"one {-first} {unit} before"))
    if declared.unit == "m" and first > 0:
        found.append(report(first, "a response at the bar itself, which is closed", f"the first {first} bars later"))
    if not declared.least <= last <= declared.most:
        expected = f"a lookback of {declared.least} to {declared.most} {unit}"
        found.append(report(last, expected, f"one of {last}"))
    return found


def _compare_last_bar(
    declared: Lookback, response: NDArray[np.bool_], age: NDArray[np.int64], report: Report
) -> list[Violation]:
    """Report a window of sessions that the last bar of its last session does not read: it counts bars instead."""
    if declared.unit != "d" or not declared.least or response[int(np.flatnonzero(age == declared.least)[-1])]:
        return []
    expected = f"a response up to the end of the session {declared.least} later"
    return [report(declared.least, expected, "none in its last bar")]


def _compare_name(name: str, feature: DeclaredFeature) -> list[Violation]:
    """Report a name whose number and unit are not those of the window: "3d" means sessions, "15m" bars.

    A change over n sessions that ends with the last completed one reads the session n + 1 before.
    """
    found, window = _NAMED.search(name), _WINDOW.match(feature.window)
    if found is None:
        return []
    length, unit = int(found[1]), found[2]
    allowed = {(str(length), unit)} | ({(str(length + 1), unit)} if unit == "d" else set())
    if window is not None and window.group(1, 2) in allowed:
        return []
    expected = f"a window of {length} {unit}, as the name says"
    return [Violation(LOOKBACK, name, None, None, expected, f"the window {feature.window!r}", LOOKBACK_REMEDY)]


AS_OF = "as_of"
AS_OF_REMEDY = "Give every close the time it was published, and join backward, strictly earlier."


class _Deviation(NamedTuple):
    """The row where a feature does not respond as declared, what was expected there and what was found."""

    row: int
    expected: str
    found: str


def check_as_of(
    build: Build, market: Market, features: pl.DataFrame, registry: Mapping[str, DeclaredFeature]
) -> list[Violation]:
    """Return a violation for each feature that reads a VIX close too early, for too long, or undeclared.

    One close in the middle is replaced. Features of family vix must respond in the first bar that starts after its
    publication, not in the bar that starts with it, and stop after as many closes as they declare. Other features must
    not respond. Features that the registry does not name are skipped.
    """
    vix = market.vix
    if vix is None:
        return []
    if "available_at" not in vix.columns or vix["available_at"].has_nulls():
        expected = "available_at, the time of publication, beside every close"
        return [Violation(AS_OF, "vix", None, None, expected, f"columns {', '.join(vix.columns)}", AS_OF_REMEDY)]
    times, known = market.bars["ts"], vix["available_at"]
    # a close near the middle, published at the very start of a bar where there is one
    inside = vix.with_row_index("row").filter(pl.col("available_at").is_between(times.min(), times.max()))
    exact = inside.filter(pl.col("available_at").is_in(times.implode()))
    candidates = (exact if exact.height else inside)["row"]
    at = int(candidates[(candidates.len() - 1) // 2])
    close = pl.when(pl.int_range(pl.len()) == at).then(pl.col("close") * 1.5).otherwise("close")
    found = build(market.with_vix(vix.with_columns(close=close)), None)
    names = [name for name in feature_columns(features) if name in registry]
    responses = changed(matrix(features, names), matrix(found, names))
    first_known = int(times.search_sorted(known[at], side="right"))
    # closes published since, at each bar: 1 while the replaced close is the newest
    newer = known.search_sorted(times, side="left").to_numpy().astype(np.int64) - at
    violations = []
    for column, name in enumerate(names):
        deviation = _deviation(registry[name], np.flatnonzero(responses[:, column]), newer, first_known)
        if deviation is not None:
            violations.append(Violation(AS_OF, name, times[deviation.row], *deviation, AS_OF_REMEDY))
    return violations


def _deviation(
    feature: DeclaredFeature, rows: NDArray[np.int64], newer: NDArray[np.int64], first_known: int
) -> _Deviation | None:
    """Compare the rows that responded with the declaration; None where they agree."""
    if rows.size == 0:
        return _Deviation(first_known, "a response to a VIX close", "none") if feature.family == "vix" else None
    first, last = int(rows[0]), int(rows[-1])
    if first < first_known:
        expected = "no response before a bar that starts after the publication"
        return _Deviation(first, expected, f"one {first_known - first} bars early")
    if feature.family != "vix":
        return _Deviation(first, "no response to the VIX outside the family vix", "one")
    most, read = declared_lookback(feature).most, int(newer[last])
    return _Deviation(last, f"a lookback of {most} closes", f"one of {read}") if read > most else None
