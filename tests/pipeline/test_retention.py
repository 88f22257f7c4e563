"""What the retention deletes, and what it must never delete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vpoc_ml import pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.config import resolve
from vpoc_ml.errors import ArtifactError, InvalidValueError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline import retention

FIRST = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
PERIOD = {"first": "2026-01-05", "last": "2026-01-09", "sessions": 5}
SMALL = ("config.json", "inputs.json", "folds.json", "best_model.safetensors", "decision.json", "stages/plan.json")
BULKY = ("training_set.json", "training_set.parquet", "checkpoints/step-1.ckpt", "folds/ESH26/progress.jsonl")


def fold(key: str) -> dict:
    return {"name": key, "key": key, "train": PERIOD, "validation": PERIOD, "test": PERIOD}


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Ten nights, ``night-0`` the oldest; each uses fold ``shared`` and one of its own. No registry."""
    lake = Lake(tmp_path / "lake")
    for number in range(10):
        run = f"night-{number}"
        for name in (*SMALL, *BULKY):
            lake.write_text(layout.run_file(run, name), "{}")
        lake.write_text(layout.run_file(run, "config.json"), resolve("smoke").to_json())
        lake.storage.delete(layout.run_file(run, "decision.json"))
        lake.write_json(layout.run_file(run, "inputs.json"), {"started": (FIRST + timedelta(days=number)).isoformat()})
        folds = [fold("shared"), fold(f"own-{number}")]
        lake.write_json(layout.run_file(run, "folds.json"), {"preset_key": "p", "folds": folds})
        for each in folds:
            lake.write_text(f"track/ES/{each['key']}/fold.json", "{}")
            lake.write_text(f"track/ES/{each['key']}/predictions.parquet", "rows")
    return lake


def test_older_nights_lose_their_bulky_files_and_folds_of_their_own(lake):
    listed = pipeline.retain(str(lake.root), 7, delete=False)
    before = set(lake.names(""))
    done = pipeline.retain(str(lake.root), 7)
    old = [f"night-{number}" for number in range(3)]
    assert (done.deleted, done.kept, list(done.runs)) == (True, 7, old)
    assert list(done.folds) == [f"track/ES/own-{number}" for number in range(3)]
    gone = {layout.run_file(run, name) for run in old for name in BULKY}
    gone |= {f"track/ES/own-{number}/{name}" for number in range(3) for name in ("fold.json", "predictions.parquet")}
    assert before - set(lake.names("")) == gone
    assert done.files == listed.files == len(gone)
    assert pipeline.retain(str(lake.root), 7).files == 0


def test_what_a_champion_or_a_waiting_candidate_refers_to_stays(lake, monkeypatch):
    monkeypatch.setattr(retention, "_champions", lambda lake: ({"night-0"}, {"own-2"}))
    waiting = {"state": "waiting", "promote": True, "reasons": [], "version": 1}
    absent = dict.fromkeys(("champion_before", "remark", "approval"))
    lake.write_json(layout.run_file("night-1", "decision.json"), waiting | absent)
    done = pipeline.retain(str(lake.root), 7)
    assert (done.runs, done.folds, done.kept) == (("night-2",), (), 9)


def test_a_damaged_record_of_a_kept_run_ends_it_before_anything_is_deleted(lake):
    before = lake.storage.version_tokens("")
    lake.write_text(layout.run_file("night-9", "folds.json"), '{"preset_key": "p"}')
    with pytest.raises(ArtifactError, match="the plan of folds"):
        pipeline.retain(str(lake.root), 7)
    assert before.keys() == lake.storage.version_tokens("").keys()


def test_the_newest_week_cannot_be_deleted(lake):
    with pytest.raises(InvalidValueError, match="at least 7"):
        pipeline.retain(str(lake.root), 6)
