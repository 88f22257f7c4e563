"""The reader of stored predictions: which ones it takes, what it refuses, and the CSV."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.errors import ArtifactError, ConfigError
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.scoring.predictions import Prediction, predictions_csv, predictions_of, read_predictions

START = datetime(2025, 3, 14, 14, 30, tzinfo=UTC)


def rows(contract, version, key="ES-1m-rank", start=START, count=2) -> list[Prediction]:
    instrument, horizon, target = key.split("-")
    times = [start + timedelta(minutes=at) for at in range(count)]
    return [
        Prediction(
            ts, contract, date(2025, 3, 14), ts + timedelta(minutes=1), 0.5, None, None, 0.9, 12.5, 0.8, False, 1,
            version, instrument, horizon, target,
        )
        for ts in times
    ]  # fmt: skip


@pytest.fixture
def lake(tmp_path):
    """Two versions of one key; the newer one has two contracts, the later one written first."""
    stored = Lake(tmp_path / "lake")

    def write(contract, version, key="ES-1m-rank", **others):
        frame = pl.DataFrame(rows(contract, version, key, **others), schema=PREDICTIONS, orient="row")
        stored.write_frame(layout.predictions_key(key, version, contract), frame, BuildKey({}, "", ""))

    write("ESM25", 10, start=START + timedelta(days=3))
    write("ESH25", 10)
    write("ESH25", 9)
    return stored, write


def test_the_newest_version_in_order_of_time_as_typed_rows(lake):
    frame = read_predictions(lake[0].root)
    assert frame.schema == pl.Schema(PREDICTIONS)
    assert list(predictions_of(frame)) == rows("ESH25", 10) + rows("ESM25", 10, start=START + timedelta(days=3))
    assert tuple(PREDICTIONS) == Prediction._fields


def test_version_contract_and_time_choose(lake):
    root = lake[0].root
    assert read_predictions(root, version=9)["model_version"].to_list() == [9, 9]
    assert read_predictions(root, contract="ESM25")["contract"].unique().to_list() == ["ESM25"]
    assert read_predictions(root, contract="ESH25", since=START)["ts"].to_list() == [START + timedelta(minutes=1)]


def test_several_keys_must_be_named_and_absent_ones_are_listed(lake):
    stored, write = lake
    write("NQH25", 11, "NQ-1m-rank")
    with pytest.raises(ConfigError, match="ES-1m-rank, NQ-1m-rank"):
        read_predictions(stored.root)
    assert read_predictions(stored.root, key="NQ-1m-rank")["model_version"].to_list() == [11, 11]
    with pytest.raises(ArtifactError, match=r"predictions of ES-1m-rank v12 ESH25.*ES-1m-rank v9 ESH25"):
        read_predictions(stored.root, key="ES-1m-rank", version=12, contract="ESH25")
    with pytest.raises(ArtifactError, match="none"):
        read_predictions(stored.root / "empty")


def test_scores_of_an_older_release_are_refused(lake):
    stored, _ = lake
    key = layout.predictions_key("ES-1m-rank", 12, "ESH25")
    old = pl.DataFrame(rows("ESH25", 12), schema=PREDICTIONS, orient="row").drop("distance")
    stored.write_frame(key, old, BuildKey({}, "", ""))
    with pytest.raises(ArtifactError, match="no distance"):
        read_predictions(stored.root)


def test_csv_by_hand():
    frame = pl.DataFrame(rows("ESH25", 3, count=1), schema=PREDICTIONS, orient="row")
    assert predictions_csv(frame) == (
        "ts,contract,session,known_at,prediction,low,low_ticks,high,high_ticks,distance,abstained,direction,"
        "model_version,instrument,horizon,target\n"
        "2025-03-14T14:30:00Z,ESH25,2025-03-14,2025-03-14T14:31:00Z,0.5,,,0.9,12.5,0.8,false,1,3,ES,1m,rank\n"
    )
