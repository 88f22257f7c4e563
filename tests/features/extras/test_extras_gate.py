"""The registry together with every optional family passes the gate ``features``."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.gate_report import YOUNG
from vpoc_ml.artifacts.schemas import FEATURE_KEYS
from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.features.build import build_features
from vpoc_ml.features.registry import COVARIATES, OPTIONAL_FAMILIES, selected_features
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.quality.gates import validate_features
from vpoc_ml.synthetic.generate import write_market

pytestmark = pytest.mark.slow

EVERY = (*OPTIONAL_FAMILIES, COVARIATES)
KNOWN = selected_features(EVERY, covariates=["other"])


class Built(NamedTuple):
    """Bars of a contract and all their features."""

    bars: pl.DataFrame
    features: pl.DataFrame


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, es: Instrument) -> Built:
    """The synthetic contract from 08:00 to 10:20 Chicago: long enough for the fits, and across the open at 08:30."""
    market = write_market(tmp_path_factory.mktemp("market"), contracts=1)
    vix, config = read_vix(market.vix), ProfileConfig()
    bars = build_bars(market.files["ESH23"], parse_contract("ESH23"), es, vix, IngestConfig()).bars
    clock = pl.col("ts").dt.convert_time_zone("America/Chicago").dt.time()
    bars = bars.filter(clock.is_between(time(8), time(10, 20), closed="left"))
    noise = np.random.default_rng(7).normal(0, 2, bars.height)
    features = build_features(
        bars,
        build_sessions(bars, es, config),
        build_developing(bars, es, config),
        vix,
        es,
        extras=EVERY,
        pair=bars.select("ts", close=3 * pl.col("close") + noise),
        covariates={"other": vix.with_columns(close=100 - 2 * pl.col("close"))},
    )
    return Built(bars, features)


def test_the_gate_passes(tmp_path: Path, built: Built) -> None:
    for name, frame in built._asdict().items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
    verdict = validate_features(
        {"ESH23": tmp_path / "features.parquet"},
        bars={"ESH23": tmp_path / "bars.parquet"},
        registry=KNOWN,
        run="run1",
        reports_dir=tmp_path / "reports",
        now=datetime(2023, 4, 1, tzinfo=UTC),
    )
    assert verdict.passed, verdict.message()
    assert YOUNG not in {each.check for each in verdict.failures}  # it would excuse a constant or an empty feature


def test_no_two_features_have_the_same_values(built: Built) -> None:
    assert built.features.columns == [*FEATURE_KEYS, *KNOWN]
    names, values = list(KNOWN), built.features.select(list(KNOWN)).to_numpy().astype(np.float64)
    values = values[np.isfinite(values).all(axis=1)][-1000:]
    assert len(values) == 1000
    copies = [
        (name, names[other])
        for at, name in enumerate(names)
        for other in at + 1 + np.flatnonzero(np.isclose(values[:, at + 1 :], values[:, [at]], rtol=1e-5).all(axis=0))
    ]
    assert copies == []
