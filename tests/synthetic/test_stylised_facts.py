"""A synthetic market of 12 contracts has the statistics of real ES, measured with the product's own profiles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.market.roll_table import front_periods
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.synthetic.generate import write_market

pytestmark = pytest.mark.slow

ES = instrument("ES")
PROFILE = ["contract", "session", *(f"rth_{name}" for name in ("bars", "vpoc", "vah", "val", "high", "low", "range"))]
BUSY = 22  # sessions until the volume of the first contract has arrived


@dataclass(frozen=True)
class Market:
    vix: pl.DataFrame
    daily: pl.DataFrame  # contract, session, volume: of every contract
    minutes: pl.DataFrame  # full days of the front contract: r in basis points, clock in New York
    profiles: pl.DataFrame  # sessions of the front contract
    bars: int


@pytest.fixture(scope="module", params=["signal", "martingale"])
def market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Market:
    written = write_market(tmp_path_factory.mktemp("market"), contracts=12, seed=7, mode=request.param)
    vix = read_vix(written.vix)
    bars = {}
    for code, path in written.files.items():
        built = build_bars(path, parse_contract(code), ES, vix, IngestConfig())
        assert built.reasons == {}
        bars[code] = built.bars
    daily = pl.concat(frame.group_by("contract", "session").agg(pl.col("volume").sum()) for frame in bars.values())
    periods = front_periods(daily).select("contract", "first_session", "last_session")
    days = daily["session"].unique().sort()
    minutes = pl.concat(_front(frame, periods, days[BUSY]) for frame in bars.values())
    sessions = (build_sessions(frame, ES, ProfileConfig()) for frame in bars.values())
    profiles = pl.concat(_front(frame, periods, days[BUSY]) for frame in sessions)
    total = sum(frame.height for frame in bars.values())
    return Market(vix, daily, _full_days(minutes), profiles.sort("session"), total)


def _front(frame: pl.DataFrame, periods: pl.DataFrame, first: object) -> pl.DataFrame:
    inside = pl.col("session").is_between("first_session", "last_session") & (pl.col("session") >= first)
    return frame.join(periods, on="contract").filter(inside)


def _full_days(minutes: pl.DataFrame) -> pl.DataFrame:
    change = (pl.col("close") / pl.col("close").shift(1)).log().over("contract", "session", order_by="ts")
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    full = minutes.with_columns(r=1e4 * change, clock=local.dt.strftime("%H:%M"))
    return full.filter(pl.col("rth").sum().over("session") == 390).drop_nulls("r").sort("ts")


def kurtosis(values: pl.Series) -> float:
    centred = values.to_numpy() - values.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2 - 3)


def test_twelve_contracts_are_more_than_a_million_bars(market: Market) -> None:
    assert market.bars > 1_140_000


def test_volume_by_time_of_day(market: Market) -> None:
    days = market.minutes.group_by("session").agg(
        total=pl.col("volume").sum(),
        rth=pl.col("volume").filter("rth").sum(),
        close=pl.col("volume").filter(pl.col("clock") == "15:59").sum(),
    )
    assert 0.75 < (days["rth"] / days["total"]).median() < 0.82
    assert 0.03 < (days["close"] / days["rth"]).median() < 0.05
    assert 1.2e6 < days["total"].median() < 1.8e6


def test_tails_and_zero_returns(market: Market) -> None:
    rth = market.minutes.filter("rth")
    assert 8 < kurtosis(rth["r"]) < 35
    by_day = rth.select("clock", x=pl.col("r") / pl.col("r").std().over("session"))
    assert kurtosis(by_day.select(pl.col("x") / pl.col("x").std().over("clock")).to_series()) < 3
    assert 0.05 < (market.minutes["r"] == 0).mean() < 0.25
    assert 0.05 < (rth["r"] == 0).mean() < 0.25
    assert 3.0 < rth["r"].std() < 6.0


def test_volatility_is_persistent_and_returns_are_not(market: Market) -> None:
    r = market.minutes.filter("rth")["r"].to_numpy()
    size = np.abs(r)
    correlation = {lag: np.corrcoef(size[lag:], size[:-lag])[0, 1] for lag in (1, 10, 390)}
    assert correlation[1] > 0.2
    assert correlation[10] > 0.15
    assert 0.13 < correlation[390] < 0.25
    assert abs(np.corrcoef(r[1:], r[:-1])[0, 1]) < 0.04


def test_value_area_is_about_half_of_the_range(market: Market) -> None:
    full = market.profiles.filter(pl.col("rth_bars") == 390)
    assert 0.45 < ((full["rth_vah"] - full["rth_val"]) / full["rth_range"]).median() < 0.55


def test_vpoc_is_touched_again_in_the_next_session_on_about_half_of_the_days(market: Market) -> None:
    with_rth = market.profiles.drop_nulls("rth_vpoc")
    following = {name: pl.col(name).shift(-1).over("contract") for name in ("rth_low", "rth_high")}
    touched = with_rth.select(pl.col("rth_vpoc").is_between(following["rth_low"], following["rth_high"])).to_series()
    assert 0.43 < touched.drop_nulls().mean() < 0.57


def test_vix_falls_when_the_market_rises(market: Market) -> None:
    closes = market.profiles.filter(pl.col("rth_bars") == 390)
    joined = closes.join(market.vix.select("date", vix="close"), left_on="session", right_on="date").sort("session")
    changes = joined.select(
        ret=pl.col("rth_close").log().diff().over("contract"), change=pl.col("vix").log().diff().over("contract")
    )
    assert -0.85 < changes.drop_nulls().select(pl.corr("ret", "change")).item() < -0.65
    assert 0.06 < changes["change"].std() < 0.09


def test_volume_migrates_over_the_roll_week(market: Market) -> None:
    volume = {(code, day): v for code, day, v in market.daily.iter_rows()}
    codes = market.daily["contract"].unique(maintain_order=True).to_list()
    for old, new in pairwise(codes):
        monday = parse_contract(old).scheduled_roll

        def share(ago: int, old: str = old, new: str = new, monday: object = monday) -> float:
            day = monday + timedelta(days=ago)  # type: ignore[operator]
            return volume[new, day] / (volume[new, day] + volume[old, day])

        assert share(-4) < 0.20 < share(-3) + 0.02
        assert share(-3) < 0.5 < share(0) < share(2) < share(4)
        assert share(4) > 0.95
