"""The gates on one real contract: correct data raises no alarm, and one planted fault is found."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from vpoc_ml.config import RunConfig
from vpoc_ml.features.build import build_features
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import contract_sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.quality.checks import ContractFacts, MarketFacts
from vpoc_ml.quality.gates import validate_bars, validate_features

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_real_contract_passes_without_warning_and_a_planted_fault_is_found(real_data, world):
    config, es, contract = RunConfig(), instrument("ES"), parse_contract("ESH25")
    vix = read_vix(next((real_data / "vix").glob("*.csv")))
    built = build_bars(real_data / "es_ninjatrader" / "ES 03-25.Last.txt", contract, es, vix, config.ingest)
    bars = built.bars
    levels = build_sessions(bars, es, config.profile), build_developing(bars, es, config.profile)
    features = build_features(bars, *levels, vix, es)
    margin = timedelta(days=10)
    calendar = contract_sessions(contract, es, bars["session"].min() - margin, bars["session"].max() + margin)
    common = {"reports_dir": world.reports, "now": world.now}
    good, market = world.file("bars", bars), MarketFacts(es.tick_size)

    verdict = validate_bars({"ESH25": ContractFacts(good, calendar)}, market, run="a", **common)
    assert not [f for f in verdict.failures if f.severity != "info"], verdict.message()
    verdict = validate_features({"ESH25": world.file("features", features)}, bars={"ESH25": good}, run="a", **common)
    assert verdict.passed, verdict.message()

    row = bars.height - 1000
    broken = bars.with_columns(high=pl.when(pl.int_range(pl.len()) == row).then(pl.col("low") - 0.25).otherwise("high"))
    bad = {"ESH25": ContractFacts(world.file("bad", broken), calendar)}
    verdict = validate_bars(bad, market, run="b", **common)
    (failure,) = [f for f in verdict.failures if f.severity == "critical"]
    assert (failure.check, failure.count, failure.first) == ("ohlc", 1, (bars["ts"][row].isoformat(),))
