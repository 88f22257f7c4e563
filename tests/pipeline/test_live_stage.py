"""Live records of a whole pipeline: a model is measured on the sessions after its registration only."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.dataset.quantiles import interpolated_rank
from vpoc_ml.lake.store import Lake
from vpoc_ml.models.bundle import load_model
from vpoc_ml.pipeline.champion_stages import model_store
from vpoc_ml.pipeline.live_stage import read_live
from vpoc_ml.registry import ledger

from .conftest import KEY, LEARNS, NOW

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
REGISTERED = datetime(2023, 3, 8, 23, 30, tzinfo=UTC)
"""17:30 in Chicago, half an hour after the session of 9 March has begun."""


def night(lake: str, name: str, raw: Path, now: datetime) -> None:
    overrides = LEARNS | {"data.vix": "none", "training.epochs": 2}
    pipeline.start_run(lake, name, "smoke", overrides, str(raw), None, now)
    pipeline.run_until(lake, name, "promote", now)


def test_sessions_after_the_registration_are_predicted_by_the_model_of_then(market, tmp_path):
    lake, early = str(tmp_path / "lake"), tmp_path / "early"
    early.mkdir()
    (prices,) = market.glob("ES*.txt")
    lines = prices.read_text().splitlines(keepends=True)
    (early / prices.name).write_text("".join(line for line in lines if line[:15] <= "20230308 220000"))
    night(lake, "first", early, REGISTERED)
    assert not (tmp_path / "lake" / "registry" / "live").exists()
    night(lake, "second", market, NOW)
    store = model_store(Lake(lake), KEY)
    (preset,) = ledger.presets_tried(store.entries(), KEY)
    record = read_live(store, preset)
    assert record["session"][0] == date(2023, 3, 9)
    assert record["session"].is_sorted()
    assert record["version"].unique().to_list() == [1]
    stored = pl.read_parquet(tmp_path / "lake" / "runs" / "second" / "training_set.parquet").filter(weight=1)
    model = load_model(store.get(1).folder / "best_model.json")
    for session in record["session"]:
        rows = stored.filter(pl.col("session") == session, pl.col("ts") >= REGISTERED)
        (scores,) = record.filter(session=session).rows(named=True)
        assert scores["rows"] == rows.height
        ranks = model.predict(rows.select(model.features).to_numpy())
        y = interpolated_rank(rows["ret"].to_numpy(), np.asarray(model.model_card.target_quantiles))
        assert scores["forecast_mean"] == pytest.approx((ranks - 0.5).mean())
        assert scores["product_mean"] == pytest.approx(((ranks - 0.5) * (y - 0.5)).mean())
    assert record["rows"][0] < record["rows"][1:-1].min()  # without the half hour before the registration
    before = (tmp_path / "lake" / "registry" / "live" / str(KEY) / f"{preset}.parquet").read_bytes()
    night(lake, "third", market, NOW)
    assert (tmp_path / "lake" / "registry" / "live" / str(KEY) / f"{preset}.parquet").read_bytes() == before
    report = (tmp_path / "lake" / "runs" / "second" / "stages" / "live-record.json").read_text()
    assert f'"sessions":{record.height - 1}' in report.replace(" ", ""), "the first session only standardises"
