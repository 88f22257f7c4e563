"""The published table of the legacy system, reproduced with its own errors.

NinjaTrader exports are in UTC and their timestamps are the END of the bar. The legacy system compared these raw
timestamps with 09:30 <= timestamp < 16:00 and called the result RTH. In that window the profile of this project gives
the published table to the last tick and contract: total volume, VPOC and, by the rule of the heaviest prices, the value
area. In the true RTH no session has the published volume. No weighting, smoothing or centroid is needed.
"""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.histogram import volume_profile
from vpoc_ml.profile.sessions import build_sessions

pytestmark = pytest.mark.real
ES = instrument("ES")


@pytest.fixture(scope="module")
def raw(real_data: Path) -> pl.DataFrame:
    """The unchanged rows of the vendor: ``timestamp`` is the end of the bar in UTC, without a time zone."""
    path = real_data / "es_ninjatrader" / "ES 03-25.Last.txt"
    names = ["text", "open", "high", "low", "close", "volume"]
    types = dict.fromkeys(names[1:5], pl.Float64) | {"text": pl.String, "volume": pl.Int64}
    rows = pl.read_csv(path, separator=";", has_header=False, new_columns=names, schema_overrides=types)
    return rows.with_columns(pl.col("text").str.to_datetime("%Y%m%d %H%M%S", time_unit="us").alias("timestamp"))


@pytest.fixture(scope="module")
def published(real_data: Path) -> pl.DataFrame:
    return pl.read_csv(real_data / "seed_results" / "ES 03-25_RTH_vpoc_data.csv", try_parse_dates=True).rename(
        {"date": "session"}
    )


def as_bars(rows: pl.DataFrame, clock: pl.Expr) -> pl.DataFrame:
    """Canonical bars of 09:30 <= clock < 16:00, Monday to Friday; the date of the clock is the session."""
    return (
        rows.with_columns(clock.alias("clock"))
        .select(
            pl.col("clock").dt.replace_time_zone("UTC").alias("ts"),
            pl.lit("ESH25").alias("contract"),
            pl.col("clock").dt.date().alias("session"),
            pl.lit(value=True).alias("rth"),
            *("open", "high", "low", "close", "volume"),
        )
        .filter(pl.col("ts").dt.time().is_between(time(9, 30), time(16), closed="left"), pl.col("ts").dt.weekday() <= 5)
    )


@pytest.fixture(scope="module")
def mistaken(raw: pl.DataFrame) -> pl.DataFrame:
    return as_bars(raw, pl.col("timestamp"))


def heaviest_prices(bars: pl.DataFrame) -> tuple[float, float, float]:
    """VPOC, lowest and highest of the heaviest prices that hold 70 %; equals: lower price first."""
    prices, volume = volume_profile(bars, ES)
    order = np.argsort(-volume, kind="stable")
    count = int(np.searchsorted(np.cumsum(volume[order]), 0.7 * volume.sum())) + 1
    inside = prices[order[:count]]
    return float(inside[0]), float(inside.min()), float(inside.max())


def test_the_mistaken_window_gives_all_54_vpocs_volumes_and_value_areas(mistaken, published):
    names = ("vpoc", "value_area_low", "value_area_high")
    ours = {day: heaviest_prices(bars) for (day,), bars in mistaken.group_by("session")}
    matched = [ours[row["session"]] == tuple(row[name] for name in names) for row in published.iter_rows(named=True)]
    assert (len(matched), sum(matched)) == (54, 54)
    volumes = published.join(mistaken.group_by("session").agg(pl.col("volume").sum()), on="session")
    assert volumes.filter(pl.col("total_volume") == pl.col("volume")).height == 54


def test_the_only_other_vpoc_under_our_tie_rule_is_an_exact_tie(mistaken, published):
    sessions = build_sessions(mistaken, ES, ProfileConfig()).select("session", pl.col("vpoc").alias("ours"))
    other = published.join(sessions, on="session").filter(pl.col("vpoc") != pl.col("ours"))
    assert other.select("session", "vpoc", "ours").rows() == [(date(2025, 1, 2), 5944.50, 5944.75)]
    prices, volume = volume_profile(mistaken.filter(pl.col("session") == date(2025, 1, 2)), ES)
    assert prices[volume == volume.max()].tolist() == [5944.50, 5944.75]


def test_the_true_rth_gives_none_of_53_volumes_and_vpocs_14_points_away(raw, published):
    start = pl.col("timestamp").dt.replace_time_zone("UTC").dt.offset_by("-1m")
    rth = as_bars(raw, start.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None))
    sessions = build_sessions(rth, ES, ProfileConfig()).select("session", "volume", pl.col("vpoc").alias("ours"))
    both = published.join(sessions, on="session")
    assert both.height == 53
    assert both.filter(pl.col("total_volume") == pl.col("volume")).is_empty()
    assert both.select((pl.col("vpoc") - pl.col("ours")).abs().median()).item() == pytest.approx(14, abs=2)
