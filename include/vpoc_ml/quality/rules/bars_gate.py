"""The questions of gate ``bars``: is a contract's bar file what the calendar and the exchange allow?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.schemas import BARS, PRICES
from vpoc_ml.config import QualityConfig
from vpoc_ml.quality.checks import ALL, NONE, Check, Limit, Measurement
from vpoc_ml.quality.common import FILE_CHECKS, measure_file, schema_check
from vpoc_ml.quality.passes import Column, RowRule
from vpoc_ml.quality.profile import Profile, profile_frame
from vpoc_ml.quality.rules import coverage, neighbours, plausibility, vix_dates
from vpoc_ml.quality.rules.plausibility import Known

NOTHING_KNOWN = Known()
Quote = Callable[[str, Sequence[datetime]], Sequence[str]]
"""(contract, timestamps) -> file, line and text of those bars."""
VIX_RANGE = (0.0, 150.0)
TICK_TOLERANCE = 1e-6


def columns(covariates: Sequence[str] = (), *, negative_prices: bool = False) -> list[Column]:
    """Return the columns of a bar file with their bounds; ``covariates`` are those of further indices."""
    bounds = {
        **dict.fromkeys(PRICES, (None if negative_prices else 0.0, None)),
        "volume": (0.0, None),
        "vix": VIX_RANGE,
    }
    return [
        Column(name, dtype, hard=bounds.get(name, (None, None)), above_low=name != "volume")
        for name, dtype in (BARS | dict.fromkeys(covariates, pl.Float64())).items()
    ]


def checks(
    config: QualityConfig, *, vix: bool = True, covariates: Sequence[str] = (), negative_prices: bool = False
) -> list[Check]:
    """Return every question of the gate.

    ``vix``: whether the bars have the VIX; ``covariates``: further indices; ``negative_prices``: whether the instrument
    allows prices at or below 0.
    """
    asked = [*FILE_CHECKS, *(schema_check(column) for column in columns(covariates))]
    asked += [Check("null", name, "no null") for name in BARS if name != "vix"]
    for name in PRICES:
        asked += _price_checks(name, negative_prices=negative_prices)
    for name in covariates:
        asked += _index_checks(name, config)
    asked += [
        *_bar_checks(),
        *plausibility.CHECKS,
        *neighbours.CHECKS,
        *(_vix_checks(config) if vix else ()),
        *coverage.checks(config),
    ]
    warn = Limit(share=config.quarantine_warn)
    return [*asked, Check("quarantine", ALL, "no row in quarantine", None, warn_if=warn, info_if=NONE)]


def measure(
    path: Path,
    contract: str,
    calendar: pl.DataFrame,
    tick_size: float,
    quarantined: int,
    known: Known = NOTHING_KNOWN,
    covariates: Sequence[str] = (),
    max_gap: int = 30,
) -> Profile:
    """Profile one bar file and tally its coverage of the calendar.

    Args:
        path: The Parquet file.
        contract: Contract code the rows must carry.
        calendar: Sessions with session, open, close, minutes as ``market.calendar.sessions`` gives them.
        tick_size: Smallest price step in points.
        quarantined: Rows of the delivery that went to quarantine.
        known: What is known about the contract beyond its bars; of its sessions only those as the front contract are
            compared with the calendar's minutes.
        covariates: Columns of further indices, after the VIX.
        max_gap: Minutes in a row that may lack a bar.
    """
    expected = columns(covariates, negative_prices=known.negative_prices)
    hours = calendar.select("session", pl.col("open").alias("opens"), pl.col("close").alias("closes"), *_halt(calendar))

    def work(lazy: pl.LazyFrame) -> Profile:
        names = lazy.collect_schema().names()
        joined = (
            lazy.join(hours.lazy(), on="session", how="left", maintain_order="left") if "session" in names else lazy
        )
        profile = profile_frame(joined, contract, expected, _rules(contract, tick_size))
        rows = plausibility.readable_rows(lazy)
        seen = []
        if rows is not None and rows.height:
            seen = coverage.measurements(rows, contract, calendar, known, max_gap)
            seen += plausibility.measurements(rows, contract, calendar, known)
        total = profile.rows + quarantined
        return Profile(
            contract,
            profile.rows,
            profile.frame,
            [*profile.measurements, *seen, Measurement(contract, ALL, "quarantine", quarantined, total)],
        )

    return measure_file(path, contract, expected, work)


def quoted(profile: Profile, quote: Quote) -> Profile:
    """Return the profile whose tallies of single bad bars also say where those stand in the vendor's files."""
    measurements = [
        replace(measurement, note="; ".join(quote(measurement.contract, _stamps(measurement))))
        if measurement.count and measurement.check in plausibility.SINGLE_BARS and not measurement.note
        else measurement
        for measurement in profile.measurements
    ]
    return replace(profile, measurements=measurements)


def _stamps(measurement: Measurement) -> list[datetime]:
    return [stamp for stamp in measurement.first if isinstance(stamp, datetime)]


def _halt(calendar: pl.DataFrame) -> list[pl.Expr]:
    """Return the daily halt of the calendar, or an empty one when it lists none."""
    stamp = pl.Datetime("us", "UTC")
    names = ("halt_start", "halt_end")
    return [pl.col(name) if name in calendar.columns else pl.lit(None, dtype=stamp).alias(name) for name in names]


def _rules(contract: str, tick_size: float) -> list[RowRule]:
    ts = pl.col("ts")
    open_, high, low, close = (pl.col(name) for name in PRICES)
    finite = pl.all_horizontal(pl.col(PRICES).is_finite())
    body = (high < pl.max_horizontal(open_, close)) | (low > pl.min_horizontal(open_, close)) | (high < low)
    halted = ((ts >= pl.col("halt_start")) & (ts < pl.col("halt_end"))).fill_null(value=False)
    ticks = [(pl.col(name) / tick_size - (pl.col(name) / tick_size).round()).abs() for name in PRICES]
    return [
        RowRule("contract", "contract", pl.col("contract") != contract),
        RowRule("order", "ts", (ts.diff() < pl.duration(seconds=0)).fill_null(value=False)),
        RowRule("unique", "ts", ~ts.is_first_distinct()),
        RowRule("hours", "ts", ~((ts >= pl.col("opens")) & (ts < pl.col("closes"))).fill_null(value=False) | halted),
        RowRule("minute", "ts", ts != ts.dt.truncate("1m")),
        RowRule("ohlc", "high", (finite & body).fill_null(value=False)),
        *(
            RowRule("tick", name, (pl.col(name).is_finite() & (off > TICK_TOLERANCE)).fill_null(value=False))
            for name, off in zip(PRICES, ticks, strict=True)
        ),
    ]


def _price_checks(name: str, *, negative_prices: bool) -> Sequence[Check]:
    return (
        Check("nan", name, "no NaN"),
        Check("infinite", name, "no +Inf or -Inf"),
        *(() if negative_prices else (Check("outside", name, "prices above 0"),)),
        Check("tick", name, "prices on the tick grid"),
        Check("empty", name, "at least one finite value"),
    )


def _bar_checks() -> Sequence[Check]:
    return (
        Check("contract", "contract", "the contract's own code in every row"),
        Check("order", "ts", "stamps that never go back"),
        Check("unique", "ts", "each stamp once"),
        Check("hours", "ts", "stamps inside the hours of their session"),
        Check("minute", "ts", "stamps on whole minutes"),
        Check("ohlc", "high", "low <= open, close <= high"),
        Check("outside", "volume", "volume of 0 or more"),
        Check("constant", "close", "a price that moves", error_if=None, warn_if=NONE),
    )


def _vix_checks(config: QualityConfig) -> Sequence[Check]:
    return (
        Check("infinite", "vix", "no +Inf or -Inf"),
        Check("nan", "vix", "no NaN (an unknown VIX is null)"),
        Check("outside", "vix", "VIX in (0, 150]"),
        Check("null", "vix", "a VIX close known before every bar", Limit(share=config.vix_missing_fail), warn_if=NONE),
        Check("empty", "vix", "at least one VIX close"),
        *vix_dates.CHECKS,
        vix_dates.FUTURE,
    )


def _index_checks(name: str, config: QualityConfig) -> Sequence[Check]:
    return (
        Check("infinite", name, "no +Inf or -Inf"),
        Check("nan", name, "no NaN (an unknown value is null)"),
        Check("null", name, "a value known before every bar", Limit(share=config.vix_missing_fail), warn_if=NONE),
        Check("empty", name, "at least one value"),
    )
