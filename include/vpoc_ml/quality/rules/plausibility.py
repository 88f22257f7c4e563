"""Checks whether the bars of one contract are plausible: jumps, frozen prices, opens, volume, price level and range.

The limits come from the contract itself (its usual session range, the bars around), so that they suit crude oil
around zero as well as a calm index. Each limit has a floor below which nothing is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from math import inf

import polars as pl

from vpoc_ml.artifacts.schemas import PRICES
from vpoc_ml.config import QualityThresholds
from vpoc_ml.ingest.clean import isolated_prices, isolated_volumes, median_bar_range
from vpoc_ml.quality.checks import KEPT, NONE, Check, ContractFacts, Limit, MarketFacts, Measurement
from vpoc_ml.quality.rules import vix_dates

SHOWN = 5
SINGLE_BARS = frozenset({"print", "jump", "far", "outlier", "plausible"})
"""Checks that find single bars; the report quotes the source lines of these bars."""
_NEEDED = ("ts", "session", *PRICES, "volume")
_MINUTE, _BREAK = pl.duration(minutes=1), pl.duration(hours=6)

# Consecutive minutes of a session that trades steadily: 97 to 99 % of the opens lie within a tick of the last close,
# and data releases move the price within their minute, not before it. Half a usual session range between two bars is a
# new level.
_STEP_SHARE, _STEP_RANGES, _STEP_BARS = 0.005, 0.5, 10.0
# A deferred month may print before and after a data release without a print in between: one minute moved by 1.3 %.
_THIN_SHARE = 0.03
# Over the maintenance hour the reopening moves by 0.08 % (standard deviation).
_BREAK_SHARE, _BREAK_RANGES = 0.01, 1.0
# Weekends, holidays and prints of deferred months hours apart: 5 % limits (2020-03-08), 15 % in crude oil (2019-09-15).
_LONG_SHARE, _LONG_RANGES = 0.10, 8.0
_RANGE_SESSIONS = 21

_REPEATS_WARN, _NO_VOLUME_WARN = 14, 9  # in a calm night up to nine bars in a row repeat the prices of the one before
_LOCKED = 0.04  # the smallest daily limit is 5 % of the settlement, which is near the last close

_PAIRS = 100
STEADY = 0.5
"""Share of its minutes with a bar from which on a session trades steadily."""
_IDLE_BARS, _IDLE_SHARE = 30, 0.5
_QUIET_SHARE, _QUIET_SESSIONS = 0.02, 2  # a holiday has 6 % of a usual session's volume
_BEFORE_FRONT, _HANDOVER, _FADED = 20, 5, 0.5
_IMPLIED_RANGES = 10.0  # 2010-05-06 and 2018-02-05, the widest sessions for their VIX, had 5.7 and 5.5
# A session's farthest price from its median close: 3 usual ranges in calm years, about 7 on 2010-05-06 and 2015-08-24.
_FAR_RANGES, _FAR_SHARE = 15.0, 0.05


def checks(config: QualityThresholds) -> Sequence[Check]:
    """Return the checks of ``measurements``, but not those of ``vix_dates``."""
    stale, silent = config.stale_bars_fail, config.no_volume_bars_fail
    return (
        *_ALWAYS,
        Check(
            "stale",
            "close",
            f"fewer than {stale} bars in a row that repeat the prices of the bar before",
            Limit(count=stale - 1),
            warn_if=Limit(count=min(_REPEATS_WARN, stale - 1)),
        ),
        Check(
            "silent",
            "volume",
            f"fewer than {silent} bars in a row without volume, as the front contract",
            Limit(count=silent - 1),
            warn_if=Limit(count=min(_NO_VOLUME_WARN, silent - 1)),
        ),
    )


_ALWAYS = (
    Check("print", "close", "no bar far from the bars before and after it"),
    Check("jump", "open", "opens near the close of the bar before"),
    Check("far", "close", f"prices within {_FAR_RANGES:g} usual session ranges of the session's median"),
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

    Other checks cover the rows that are left out.
    """
    names = lazy.collect_schema().names()
    if not set(_NEEDED) <= set(names):
        return None
    rows = lazy.select(*_NEEDED, pl.col("vix") if "vix" in names else pl.lit(None, pl.Float64).alias("vix"))
    finite = pl.all_horizontal(pl.col(PRICES).is_finite().fill_null(value=False))
    known = rows.filter(finite, pl.all_horizontal(pl.col("ts", "session", "volume").is_not_null()))
    return known.collect(engine="streaming").sort("ts").unique("ts", keep="first", maintain_order=True)


def measurements(rows: pl.DataFrame, contract: str, facts: ContractFacts, market: MarketFacts) -> list[Measurement]:
    """Measure every check of ``checks`` and of ``vix_dates``.

    Args:
        rows: ``readable_rows`` of the contract.
        contract: Contract code of the measurements.
        facts: The contract's calendar and front period.
        market: What is known of the instrument.
    """
    prints = rows.filter(isolated_prices())
    traded = rows.filter(_within(facts.front) | (pl.col("volume") > 0))
    clean = traded.join(prints.select("ts"), on="ts", how="anti", maintain_order="left")
    days = session_figures(clean, facts.calendar)
    volumes = rows.group_by("session", maintain_order=True).agg(pl.col("volume").sum())
    swapped = days.filter("swapped", pl.col("pairs") >= _PAIRS)
    own = rows.filter(_within(facts.front))
    idle = (pl.col("bars") >= _IDLE_BARS) & (pl.col("empty") > _IDLE_SHARE * pl.col("bars"))
    low, high = market.price_range or (-inf, inf)
    outside = rows.filter((pl.col("low") < low) | (pl.col("high") > high))
    implausible = _bars(contract, "close", "plausible", outside, rows.height, "close")
    note = f"expected {low:g} to {high:g} points" if outside.height else ""
    # hardly any volume as the front contract: another contract's bars, or a broken feed
    inside = days.filter("steady", _within(facts.front)).head(-3)  # volume leaves the contract in its last sessions
    middle = inside["volume"].median()
    quiet = inside.filter(pl.col("volume") < _QUIET_SHARE * (middle if isinstance(middle, float) else 0.0))
    # the range of a session against the daily move that the VIX known at its start implies
    steady = days.filter("steady", pl.col("vix").is_not_null(), pl.lit(market.vix_implied))
    implied = pl.col("vix") / 100 / 252**0.5 * pl.col("close").abs()
    wide = steady.filter(pl.col("high") - pl.col("low") > _IMPLIED_RANGES * implied)
    return [
        _bars(contract, "close", "print", prints, rows.height, "low"),
        _bars(contract, "open", "jump", _jumps(clean, days), clean.height, "open"),
        _bars(contract, "close", "far", _far(rows, days), rows.height, "close"),
        _longest_run(clean, days, _repeated(), contract, "close", "stale", _REPEATS_WARN),
        _longest_run(own, days, pl.col("volume") == 0, contract, "volume", "silent", _NO_VOLUME_WARN),
        _sessions(contract, "open", "opens", swapped, days),
        _bars(contract, "volume", "outlier", rows.filter(isolated_volumes()), rows.height, "volume"),
        _sessions(contract, "volume", "idle", days.filter(idle), days),
        _sessions(contract, "volume", "profile", volumes.filter(pl.col("volume") == 0), volumes),
        _sessions(contract, "volume", "quiet", quiet, inside),
        _fades(days, contract, facts.front),
        replace(implausible, note=note),
        _sessions(contract, "vix", "implied", wide, steady),
        *vix_dates.measurements(days, contract, facts.calendar, market),
    ]


def session_figures(rows: pl.DataFrame, minutes: pl.DataFrame) -> pl.DataFrame:
    """Return one row a session, in order, with the figures that the checks of full sessions need.

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


def _jumps(rows: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """Return the bars that open far from the close before; the limit depends on the time between both bars."""
    joined = rows.join(days.select("session", "usual", "steady"), on="session", how="left", maintain_order="left")
    size, gap = pl.col("open") - pl.col("close").shift(1), pl.col("ts").diff()
    level, usual = pl.col("close").shift(1).abs(), pl.max_horizontal("usual", pl.col("usual").shift(1))
    both = pl.col("steady") & pl.col("steady").shift(1)
    limit = (
        pl.when((gap == _MINUTE) & pl.col("steady"))
        .then(pl.max_horizontal(_STEP_SHARE * level, _STEP_RANGES * usual, median_bar_range(_STEP_BARS)))
        .when((gap <= _BREAK) & both)
        .then(pl.max_horizontal(_BREAK_SHARE * level, _BREAK_RANGES * usual))
        .when(gap == _MINUTE)
        .then(pl.max_horizontal(_THIN_SHARE * level, _BREAK_RANGES * usual))
        .otherwise(pl.max_horizontal(_LONG_SHARE * level, _LONG_RANGES * usual))
    )
    return joined.filter(size.abs() > limit)


def _far(rows: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    """Return the bars with a price far from the median close of their session, in units of the usual session range."""
    middle = rows.group_by("session").agg(pl.col("close").median().alias("middle"))
    joined = rows.join(middle, on="session", how="left", maintain_order="left").join(
        days.select("session", "usual"), on="session", how="left", maintain_order="left"
    )
    away = pl.max_horizontal(pl.col("high") - pl.col("middle"), pl.col("middle") - pl.col("low"))
    limit = pl.max_horizontal(_FAR_RANGES * pl.col("usual"), _FAR_SHARE * pl.col("middle").abs())
    return joined.filter(away > limit)


def _repeated() -> pl.Expr:
    """Return whether a bar has the four prices of the bar before."""
    return pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in PRICES).fill_null(value=False)


def _longest_run(
    rows: pl.DataFrame, days: pl.DataFrame, bad: pl.Expr, contract: str, column: str, check: str, usual: int
) -> Measurement:
    """Measure the longest run of bars in a row that are ``bad``.

    Only sessions that trade steadily count, and no prices at a daily limit. The note lists the runs of more than
    ``usual`` bars.
    """
    part = (~bad).cum_sum().alias("run")
    runs = (
        rows.select("ts", "session", "close", part, bad.alias("bad"))
        .filter("bad")
        .group_by("run", maintain_order=True)
        .agg(
            pl.len().alias("bars"),
            *(pl.col(name).first() for name in ("ts", "session", "close")),
            to=pl.col("ts").last(),
        )
        .filter(pl.col("bars") > usual)
        .join(days.select("session", "before", "steady"), on="session", how="left", maintain_order="left")
    )
    found = runs.filter("steady", ~at_daily_limit())
    note = list_ranges(zip(found["ts"], found["to"], found["bars"], strict=True), "bars")
    longest = int(found["bars"].max() or 0)  # type: ignore[arg-type]
    first, values = tuple(found["ts"].head(3)), tuple(found["close"].head(3)) if column == "close" else ()
    return Measurement(contract, column, check, longest, rows.height, first, values, note, "bars in a row")


def _fades(days: pl.DataFrame, contract: str, front: tuple[date, date] | None) -> Measurement:
    """Measure a contract whose volume falls when it becomes the front one: the file holds the contract before it."""
    if front is None:
        return Measurement(contract, "volume", "fades", 0, 1, unit="files")
    own = days.filter(_within(front))
    before = days.filter(pl.col("session") < front[0]).tail(_BEFORE_FRONT).head(-_HANDOVER)
    enough = own.height >= 3 and before.height >= _BEFORE_FRONT // 4
    now, then = (float(part["volume"].median() or 0) for part in (own, before))  # type: ignore[arg-type]
    if not enough or now >= _FADED * then:
        return Measurement(contract, "volume", "fades", 0, 1, unit="files")
    note = f"{now:,.0f} contracts a session since {front[0]}, {then:,.0f} before; is it another contract's file?"
    return Measurement(contract, "volume", "fades", 1, 1, (own["session"][0],), note=note, unit="files")


def at_daily_limit() -> pl.Expr:
    """Return whether ``close`` is as far from ``before``, the last session's close, as a daily limit."""
    return ((pl.col("close") / pl.col("before") - 1).abs() >= _LOCKED).fill_null(value=False)


def list_ranges(ranges: Iterable[tuple[date, date, int]], unit: str) -> str:
    """Return the first and last timestamp or session of each range with its size; only the first ``SHOWN`` ranges."""
    texts = []
    for first, last, size in ranges:
        form = "%Y-%m-%d %H:%M" if isinstance(first, datetime) else "%Y-%m-%d"
        texts.append(f"{first:{form}} to {last:{form}} ({size:,} {unit})")
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return ", ".join([*texts[:SHOWN], *more])


def _within(front: tuple[date, date] | None) -> pl.Expr:
    return pl.lit(value=True) if front is None else pl.col("session").is_between(*front)


def _bars(contract: str, column: str, check: str, bad: pl.DataFrame, rows: int, shown: str) -> Measurement:
    values = tuple(float(value) for value in bad[shown].head(3))
    found = bad.select("ts", pl.col(shown).cast(pl.Float64).alias("value")).head(KEPT)
    return Measurement(contract, column, check, bad.height, rows, tuple(bad["ts"].head(3)), values, found=found)


def _sessions(contract: str, column: str, check: str, bad: pl.DataFrame, of: pl.DataFrame) -> Measurement:
    first, found = tuple(bad["session"].head(3)), bad.select("session").head(KEPT)
    return Measurement(contract, column, check, bad.height, of.height, first, unit="sessions", found=found)
