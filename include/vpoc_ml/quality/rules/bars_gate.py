"""Checks of gate ``bars``: a contract's bar file agrees with its schema, the calendar and the rules of the exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL
from vpoc_ml.artifacts.schemas import BARS, PRICES, TIME
from vpoc_ml.config import QualityConfig
from vpoc_ml.quality.checks import (
    FILE_CHECKS,
    NONE,
    Check,
    ContractFacts,
    Limit,
    MarketFacts,
    Measurement,
    Quote,
    schema_check,
)
from vpoc_ml.quality.measure import UNBOUNDED, Column, Profile, RowRule, measure_file, profile_frame
from vpoc_ml.quality.rules import coverage, neighbours, plausibility, vix_dates

VIX_RANGE = (0.0, 150.0)
TICK_TOLERANCE = 1e-6
QUOTED_CONTRACTS = 3
"""Contracts whose single bad bars are quoted; each costs another read of its delivered file."""


def columns(market: MarketFacts) -> list[Column]:
    """Return the columns of a bar file with their bounds."""
    price, above = (UNBOUNDED if market.negative_prices else (0.0, UNBOUNDED[1])), (0.0, UNBOUNDED[1])
    bounds = {**dict.fromkeys(PRICES, price), "volume": above, "vix": VIX_RANGE}
    dtypes = BARS | dict.fromkeys(market.covariates, pl.Float64())
    return [
        Column(name, dtype, hard=bounds.get(name, UNBOUNDED), above_low=name != "volume")
        for name, dtype in dtypes.items()
    ]


def checks(config: QualityConfig, market: MarketFacts) -> list[Check]:
    """Return every check of the gate."""
    unknown = Limit(share=config.thresholds.vix_missing_fail)
    result = [*FILE_CHECKS, *(schema_check(column.name, column.dtype) for column in columns(market))]
    result += [Check("null", name, "no null") for name in BARS if name != "vix"]
    for name in PRICES:
        result += [
            Check("nan", name, "no NaN"),
            Check("infinite", name, "no +Inf or -Inf"),
            *(() if market.negative_prices else (Check("outside", name, "prices above 0"),)),
            Check("tick", name, "prices on the tick grid"),
            Check("empty", name, "at least one finite value"),
        ]
    for name in market.covariates:
        result += [
            Check("infinite", name, "no +Inf or -Inf"),
            Check("nan", name, "no NaN (an unknown value is null)"),
            Check("null", name, "a value known before every bar", unknown, warn_if=NONE),
            Check("empty", name, "at least one value"),
        ]
    result += [
        Check("contract", "contract", "the contract's own code in every row"),
        Check("order", "ts", "timestamps that never go back"),
        Check("unique", "ts", "each timestamp once"),
        Check("hours", "ts", "timestamps inside the hours of their session"),
        Check("minute", "ts", "timestamps on whole minutes"),
        Check("ohlc", "high", "low <= open, close <= high"),
        Check("outside", "volume", "volume of 0 or more"),
        Check("constant", "close", "a price that moves", error_if=None, warn_if=NONE),
        *plausibility.checks(config.thresholds),
        *neighbours.CHECKS,
    ]
    if market.has_vix:
        result += [
            Check("infinite", "vix", "no +Inf or -Inf"),
            Check("nan", "vix", "no NaN (an unknown VIX is null)"),
            Check("outside", "vix", "VIX in (0, 150]"),
            Check("null", "vix", "a VIX close known before every bar", unknown, warn_if=NONE),
            Check("empty", "vix", "at least one VIX close"),
            *vix_dates.CHECKS,
            vix_dates.FUTURE,
        ]
    warn = Limit(share=config.thresholds.quarantine_warn)
    quarantine = Check("quarantine", ALL, "no row in quarantine", None, warn_if=warn, info_if=NONE)
    return [*result, *coverage.checks(config), quarantine]


def measure(contract: str, facts: ContractFacts, market: MarketFacts, max_gap: int) -> Profile:
    """Measure one bar file and its coverage of the calendar.

    Args:
        contract: Contract code the rows must carry.
        facts: The file, and what is known of the contract.
        market: What is known of the instrument.
        max_gap: Consecutive minutes that may lack a bar.
    """
    expected = columns(market)
    hours = facts.calendar.select(
        "session",
        pl.col("open").alias("opens"),
        pl.col("close").alias("closes"),
        *(
            pl.col(name) if name in facts.calendar.columns else pl.lit(None, dtype=TIME).alias(name)
            for name in ("halt_start", "halt_end")
        ),
    )

    def measure_rows(stored: pl.LazyFrame) -> Profile:
        lazy = stored.collect().lazy()  # one contract fits into memory; each check would read the file again
        has_session = "session" in lazy.collect_schema().names()
        joined = lazy.join(hours.lazy(), on="session", how="left", maintain_order="left") if has_session else lazy
        profile = profile_frame(joined, contract, expected, _row_rules(contract, market.tick_size))
        measurements = list(profile.measurements)
        rows = plausibility.readable_rows(lazy)
        if rows is not None and rows.height:
            measurements += coverage.measurements(rows, contract, facts, max_gap)
            measurements += plausibility.measurements(rows, contract, facts, market)
        total = profile.rows + facts.quarantined
        measurements.append(Measurement(contract, ALL, "quarantine", facts.quarantined, total))
        return replace(profile, measurements=measurements)

    return measure_file(facts.path, contract, expected, measure_rows)


def with_source_lines(profiles: Sequence[Profile], quote: Quote) -> list[Profile]:
    """Return the profiles; those of the first contracts with single bad bars quote these bars from the vendor's files.

    Each quoted contract costs another read of its delivered file: at most ``QUOTED_CONTRACTS`` are quoted.
    """
    quoted: set[str] = set()
    found = []
    for profile in profiles:
        measurements = []
        for each in profile.measurements:
            bad = each.count and each.check in plausibility.SINGLE_BARS and not each.note
            if bad and len(quoted | {profile.contract}) <= QUOTED_CONTRACTS:
                quoted.add(profile.contract)
                timestamps = [first for first in each.first if isinstance(first, datetime)]
                each = replace(each, note="; ".join(quote(profile.contract, timestamps)))
            measurements.append(each)
        found.append(replace(profile, measurements=measurements))
    return found


def _row_rules(contract: str, tick_size: float) -> list[RowRule]:
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
