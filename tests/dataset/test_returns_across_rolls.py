"""No label and no return of the training set reaches from one contract into another."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from vpoc_ml.config import DatasetConfig, RunConfig
from vpoc_ml.config.choices import Horizon
from vpoc_ml.dataset.assemble import assemble
from vpoc_ml.market.instruments import instrument

GAP = 50.0
ROLL = 15  # of 30 sessions; both contracts have bars of all of them


@pytest.fixture(scope="module")
def rolled(make):
    """The later contract trades 50 points above the earlier one in every minute."""
    days = make.weekdays(date(2024, 1, 8), 30)
    old = make.bars("ESH24", days)
    prices = [pl.col(name) + GAP for name in ("open", "high", "low", "close")]
    bars = {"ESH24": old, "ESM24": old.with_columns(pl.lit("ESM24").alias("contract"), *prices)}
    front = pl.DataFrame(
        {
            "contract": ["ESH24", "ESM24"],
            "first_session": [days[0], days[ROLL]],
            "last_session": [days[ROLL - 1], days[-1]],
            "predecessor": [None, "ESH24"],
            "gap": [None, GAP],
            "ratio": [None, 1.01],
        }
    )
    config = RunConfig(
        dataset=DatasetConfig(horizon=Horizon.of("5m"), label="close", embargo_sessions=0, min_sessions=5)
    )
    features = {code: make.features(frame) for code, frame in bars.items()}
    return assemble(bars, features, front, instrument("ES"), config).frame, bars, days


def test_every_session_is_of_its_front_contract_only(rolled):
    frame, _, days = rolled
    owners = frame.group_by("session").agg(pl.col("contract").unique()).sort("session")
    assert owners["contract"].list.len().max() == 1
    for session, (contract,) in owners.iter_rows():
        assert contract == ("ESH24" if session < days[ROLL] else "ESM24")


def test_no_return_holds_the_gap(rolled):
    """The gap is one percent; the walk moves at most 0.75 points a minute."""
    frame, _, _ = rolled
    for name, minutes in (("ret", 5), ("last_ret", 1)):
        assert frame[name].drop_nans().abs().max() < minutes * 0.75 / 4900, name


def test_prices_of_a_label_are_quotes_of_the_rows_own_contract(rolled):
    frame, bars, _ = rolled
    ends = pl.concat(bars.values()).select("contract", label_end="ts", quoted="close")
    labelled = frame.filter(pl.col("ret").is_not_nan()).join(ends, on=["contract", "label_end"], how="left")
    assert labelled.height > 500
    assert (labelled["exit_price"] == labelled["quoted"]).all()


def test_the_last_minutes_before_a_roll_have_no_label(rolled):
    frame, _, days = rolled
    last = frame.filter(pl.col("session") == days[ROLL - 1]).tail(5)
    assert last["ret"].is_nan().all()
    assert (last["weight"] == 0).all()
