"""The column lists of ``artifacts.schemas`` are those of the tables that the product builds."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.artifacts import schemas
from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.ingest.bars import BuiltBars, build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.market.roll_table import RollStep, front_periods, roll_table
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.synthetic.generate import SyntheticMarket, write_market

ES = instrument("ES")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> SyntheticMarket:
    return write_market(tmp_path_factory.mktemp("market"), contracts=1, faults=("ohlc",))


@pytest.fixture(scope="module")
def built(market: SyntheticMarket) -> BuiltBars:
    path = next(iter(market.files.values()))
    return build_bars(path, parse_contract("ESH23"), ES, read_vix(market.vix), IngestConfig())


def test_bars_and_quarantine_have_their_schemas(built: BuiltBars) -> None:
    assert built.quarantine.height == 3
    assert list(built.bars.schema.items()) == list(schemas.BARS.items())
    assert list(built.quarantine.schema.items()) == list(schemas.QUARANTINE.items())


def test_index_values_have_their_schema(market: SyntheticMarket) -> None:
    assert list(read_vix(market.vix).schema.items()) == list(schemas.INDEX_VALUES.items())


def test_sessions_and_developing_levels_have_their_schemas(built: BuiltBars) -> None:
    bars = built.bars.filter(built.bars["session"] <= built.bars["session"].unique().sort()[2])
    sessions, developing = build_sessions(bars, ES, ProfileConfig()), build_developing(bars, ES, ProfileConfig())
    assert list(sessions.schema.items()) == list(schemas.SESSIONS.items())
    assert list(developing.schema.items()) == list(schemas.DEVELOPING.items())


def test_roll_table_has_its_schema(built: BuiltBars) -> None:
    daily = built.bars.group_by("contract", "session").agg(pl.col("volume").sum())
    table = roll_table(front_periods(daily), lambda *_: RollStep(None, None))
    assert list(table.schema.items()) == list(schemas.ROLLS.items())
