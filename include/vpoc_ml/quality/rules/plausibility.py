"""Whether the bars of one contract can be true: jumps, prices that stand still, opens, volume, level and range.

Limits are taken from the contract itself (its usual session range, the bars around), so that they hold for crude oil
around zero and for a quiet index alike, with a floor below which nothing is suspicious.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import polars as pl

from vpoc_ml.artifacts.schemas import PRICES
from vpoc_ml.ingest.bad_prints import isolated_prices, isolated_volumes, median_bar_range
from vpoc_ml.quality.checks import NONE, Check, Limit, Measurement
from vpoc_ml.quality.rules import vix_dates

SHOWN = 5
SINGLE_BARS = frozenset({"print", "jump", "outlier", "plausible"})
"""Checks that find single bars, whose source lines are worth showing."""
_NEEDED = ("ts", "session", *PRICES, "volume")
_MINUTE, _BREAK = pl.duration(minutes=1), pl.duration(hours=6)

# Consecutive minutes: 97 to 99 % of the opens lie within a tick of the last close, and data releases move the price
# within their minute, not before it. Half a usual session range between two bars is a new level.
_STEP_SHARE, _STEP_RANGES, _STEP_BARS = 0.005, 0.5, 10.0
# Over the maintenance hour the reopening moves by 0.08 % (standard deviation).
_BREAK_SHARE, _BREAK_RANGES = 0.01, 1.0
# Weekends, holidays and prints of deferred months hours apart: 5 % limits (2020-03-08), 15 % in crude oil (2019-09-15).
_LONG_SHARE, _LONG_RANGES = 0.10, 8.0
_RANGE_SESSIONS = 21

STALE_BARS = 45
"""Bars in a row with the same four prices that are a fault; the longest run of a quiet night is about ten."""
_LOCKED = 0.04  # the smallest daily limit is 5 % of the settlement, which is near the last close

_PAIRS = 100
STEADY = 0.5
"""Share of its minutes with a bar from which on a session trades steadily."""
_IDLE_BARS, _IDLE_SHARE = 30, 0.5
_QUIET_SHARE, _QUIET_SESSIONS = 0.02, 2  # a holiday has 6 % of a usual session's volume
_BEFORE_FRONT, _HANDOVER, _FADED = 20, 5, 0.5
_IMPLIED_RANGES = 10.0  # 2010-05-06 and 2018-02-05, the widest sessions for their VIX, had 5.7 and 5.5


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about a contract beyond its bars.

    ``front``: first and last session as the front contract, None where that is not known. ``due``: the session up to
    which the bars must reach, None: as far as they do. ``price_range``: points an instrument can plausibly cost.
    ``implied``: whether the VIX measures the instrument's volatility. ``closes``: date, close, available_at of the VIX
    file that the bars were joined with. ``negative_prices``: whether a price at or below 0 can be true.
    """

    front: tuple[date, date] | None = None
    due: date | None = None
    price_range: tuple[float, float] | None = None
    implied: bool = False
    closes: pl.DataFrame | None = None
    negative_prices: bool = False


CHECKS = (
    Check("print", "close", "no bar far from the bars before and after it"),
    Check("jump", "open", "opens near the close of the bar before"),
    Check("stale", "close", f"prices that change within {STALE_BARS} bars"),
    Check("opens", "open", "opens nearer to the last close than closes to the last open"),
    Check("outlier", "volume", "no volume far above the bars around it"),
    Check("idle", "volume", "volume in every session"),
    Check("profile", "volume", "traded volume in every session, without which it has no VPOC", None, warn_if=NONE),
    Check("quiet", "volume", "volume of a front contract", Limit(count=_QUIET_SESSIONS)),
    Check("fades", "volume", "more volume as the front contract than before"),
    Check("plausible", "close", "prices the instrument can have"),
    Check("implied", "vix", f"session ranges up to {_IMPLIED_RANGES:g} times the daily move that the VIX implies"),
)


def readable_rows(lazy: pl.LazyFrame) -> pl.DataFrame | None:
    """Return the rows whose values are all known and finite, by unique ts; None where a column is missing.

    What is left out has checks of its own.
    """
    names = lazy.collect_schema().names()
    if not set(_NEEDED) <= set(names):
        return None
    rows = lazy.select(*_NEEDED, pl.col("vix") if "vix" in names else pl.lit(None, pl.Float64).alias("vix"))
    finite = pl.all_horizontal(pl.col(PRICES).is_finite().fill_null(value=False))
    known = rows.filter(finite, pl.all_horizontal(pl.col("ts", "session", "volume").is_not_null()))
    return known.collect(engine="streaming").sort("ts").unique("ts", keep="first", maintain_order=True)


def measurements(rows: pl.DataFrame, contract: str, minutes: pl.DataFrame, known: Known) -> list[Measurement]:
    """Tally every check of ``CHECKS`` and of ``vix_dates``.

    Args:
        rows: ``readable_rows`` of the contract.
        contract: Contract code the tallies carry.
        minutes: session, minutes: tradeable minutes of every session of the calendar.
        known: What is known beyond the bars.
    """
    prices = rows.filter(isolated_prices())
    traded = rows.filter(_within(known.front) | (pl.col("volume") > 0))
    clean = traded.join(prices.select("ts"), on="ts", how="anti", maintain_order="left")
    days = session_figures(clean, minutes)
    volumes = rows.group_by("session", maintain_order=True).agg(pl.col("volume").sum())
    lone = rows.filter(isolated_volumes())
    swapped = days.filter("swapped", pl.col("pairs") >= _PAIRS)
    idle = (pl.col("bars") >= _IDLE_BARS) & (pl.col("empty") > _IDLE_SHARE * pl.col("bars"))
    return [
        _bars(contract, "close", "print", prices, rows.height, "low"),
        _jumps(clean, days, contract),
        _stale(clean, days, contract),
        _sessions(contract, "open", "opens", swapped, days),
        _bars(contract, "volume", "outlier", lone, rows.height, "volume"),
        _sessions(contract, "volume", "idle", days.filter(idle), days),
        _sessions(contract, "volume", "profile", volumes.filter(pl.col("volume") == 0), volumes),
        _quiet(days, contract, known.front),
        _fades(days, contract, known.front),
        _implausible(rows, contract, known.price_range),
        _implied(days, contract, known.implied),
        *vix_dates.measurements(days, contract, minutes, known.closes, implied=known.implied),
    ]


def session_figures(rows: pl.DataFrame, minutes: pl.DataFrame) -> pl.DataFrame:
    """Return one row a session, in order, of what the checks of whole sessions need.

    session, first, last (ts), open, high, low, close, volume, vix (known at the first bar), bars, empty (bars without
    volume), pairs (consecutive minutes), swapped (opens fit worse than closes), usual (median range of the sessions
    around, points), before (close of the session before), steady (bars in half of its minutes).
    """
    next_minute = (pl.col("ts").diff() == _MINUTE) & (pl.col("session") == pl.col("session").shift(1))
    pairs = rows.with_columns(
        pair=next_minute.fill_null(value=False),
        fits=(pl.col("open") - pl.col("close").shift(1)).abs(),
        misfits=(pl.col("close") - pl.col("open").shift(1)).abs(),
    )
    days = pairs.group_by("session", maintain_order=True).agg(
        pl.col("ts").first().alias("first"),
        pl.col("ts").last().alias("last"),
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
        pl.col("vix").first(),
        pl.len().alias("bars"),
        (pl.col("volume") == 0).sum().alias("empty"),
        pl.col("pair").sum().alias("pairs"),
        swapped=pl.col("fits").filter("pair").sum() > pl.col("misfits").filter("pair").sum(),
    )
    usual = (pl.col("high") - pl.col("low")).rolling_median(_RANGE_SESSIONS, center=True, min_samples=1)
    joined = days.join(minutes.select("session", "minutes"), on="session", how="left", maintain_order="left")
    return joined.with_columns(
        usual=usual,
        before=pl.col("close").shift(1),
        steady=(pl.col("bars") >= STEADY * pl.col("minutes")).fill_null(value=False),
    )


def _jumps(rows: pl.DataFrame, days: pl.DataFrame, contract: str) -> Measurement:
    """Tally bars that open far from the close before; how far is allowed depends on the time between them."""
    joined = rows.join(days.select("session", "usual", "steady"), on="session", how="left", maintain_order="left")
    size, gap = pl.col("open") - pl.col("close").shift(1), pl.col("ts").diff()
    level, usual = pl.col("close").shift(1).abs(), pl.max_horizontal("usual", pl.col("usual").shift(1))
    both = pl.col("steady") & pl.col("steady").shift(1)
    limit = (
        pl.when(gap == _MINUTE)
        .then(pl.max_horizontal(_STEP_SHARE * level, _STEP_RANGES * usual, median_bar_range(_STEP_BARS)))
        .when((gap <= _BREAK) & both)
        .then(pl.max_horizontal(_BREAK_SHARE * level, _BREAK_RANGES * usual))
        .otherwise(pl.max_horizontal(_LONG_SHARE * level, _LONG_RANGES * usual))
    )
    return _bars(contract, "open", "jump", joined.filter(size.abs() > limit), rows.height, "open")


def _stale(rows: pl.DataFrame, days: pl.DataFrame, contract: str) -> Measurement:
    """Tally bars that repeat the four prices of the bar before, in runs of ``STALE_BARS`` and more.

    Only in sessions that trade steadily, and not as far from the last session's close as a daily limit lies.
    """
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in PRICES).fill_null(value=False)
    runs = (
        rows.with_columns(run=(~same).cum_sum())
        .group_by("run", maintain_order=True)
        .agg(
            pl.len().alias("bars"),
            *(pl.col(name).first() for name in ("ts", "session", "close")),
            to=pl.col("ts").last(),
        )
        .filter(pl.col("bars") >= STALE_BARS)
        .join(days.select("session", "before", "steady"), on="session", how="left", maintain_order="left")
    )
    found = runs.filter("steady", ~at_daily_limit())
    spans = ranges(zip(found["ts"], found["to"], found["bars"], strict=True), "bars")
    return Measurement(
        contract,
        "close",
        "stale",
        int(found["bars"].sum()),
        rows.height,
        tuple(found["ts"].head(3)),
        tuple(found["close"].head(3)),
        spans,
    )


def _quiet(days: pl.DataFrame, contract: str, front: tuple[date, date] | None) -> Measurement:
    """Tally sessions as the front contract with next to no volume: those of another contract, or of a broken feed."""
    inside = days.filter("steady", _within(front)).head(-3)  # its volume leaves in the last sessions
    usual = inside["volume"].median()
    quiet = inside.filter(pl.col("volume") < _QUIET_SHARE * (usual if isinstance(usual, float) else 0.0))
    return _sessions(contract, "volume", "quiet", quiet, inside)


def _fades(days: pl.DataFrame, contract: str, front: tuple[date, date] | None) -> Measurement:
    """Tally a contract whose volume falls when it becomes the front one: the file holds an earlier contract."""
    if front is None:
        return Measurement(contract, "volume", "fades", 0, 1, unit="files")
    own = days.filter(_within(front))
    earlier = days.filter(pl.col("session") < front[0]).tail(_BEFORE_FRONT).head(-_HANDOVER)
    enough = own.height >= 3 and earlier.height >= _BEFORE_FRONT // 4
    now, then = (float(part["volume"].median() or 0) for part in (own, earlier))  # type: ignore[arg-type]
    faded = enough and now < _FADED * then
    note = f"{now:,.0f} contracts a session since {front[0]}, {then:,.0f} before; is it another contract's file?"
    return Measurement(
        contract,
        "volume",
        "fades",
        int(faded),
        1,
        (own["session"][0],) if faded else (),
        note=note if faded else "",
        unit="files",
    )


def _implausible(rows: pl.DataFrame, contract: str, limits: tuple[float, float] | None) -> Measurement:
    low, high = limits or (-float("inf"), float("inf"))
    bad = rows.filter((pl.col("low") < low) | (pl.col("high") > high))
    found = _bars(contract, "close", "plausible", bad, rows.height, "close")
    note = f"expected {low:g} to {high:g} points" if bad.height else ""
    return replace(found, note=note)


def _implied(days: pl.DataFrame, contract: str, applies: bool) -> Measurement:
    """Tally sessions whose range is a multiple of the daily move that the VIX known at their start implies."""
    steady = days.filter("steady", pl.col("vix").is_not_null(), pl.lit(applies))
    implied = pl.col("vix") / 100 / 252**0.5 * pl.col("close").abs()
    wide = steady.filter(pl.col("high") - pl.col("low") > _IMPLIED_RANGES * implied)
    return _sessions(contract, "vix", "implied", wide, steady)


def at_daily_limit() -> pl.Expr:
    """Return whether ``close`` is as far from ``before``, the last session's close, as a daily limit lies."""
    return ((pl.col("close") / pl.col("before") - 1).abs() >= _LOCKED).fill_null(value=False)


def _within(front: tuple[date, date] | None) -> pl.Expr:
    return pl.lit(value=True) if front is None else pl.col("session").is_between(*front)


def _bars(contract: str, column: str, check: str, bad: pl.DataFrame, rows: int, shown: str) -> Measurement:
    values = tuple(float(value) for value in bad[shown].head(3))
    return Measurement(contract, column, check, bad.height, rows, tuple(bad["ts"].head(3)), values)


def _sessions(contract: str, column: str, check: str, bad: pl.DataFrame, of: pl.DataFrame) -> Measurement:
    return Measurement(contract, column, check, bad.height, of.height, tuple(bad["session"].head(3)), unit="sessions")


def ranges(spans: Iterable[tuple[Any, Any, int]], unit: str) -> str:
    """Return the first and last of each span with its size, the first ``SHOWN`` of them."""
    told = list(spans)
    texts = [f"{_text(first)} to {_text(last)} ({size:,} {unit})" for first, last, size in told[:SHOWN]]
    more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    return ", ".join([*texts, *more])


def _text(when: Any) -> str:
    return f"{when:%Y-%m-%d %H:%M}" if isinstance(when, datetime) else str(when)
