"""Vendor files that hold only the front period of each contract: what the warm-ups of the features cost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vpoc_ml import pipeline
from vpoc_ml.artifacts.stage_results import TrainingSetResult
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.roll_table import NO_STEP
from vpoc_ml.pipeline import roll_stage

from .conftest import NOW
from .nights import H, M, U

pytestmark = pytest.mark.slow

FRONT = {H: ("20230101", "20230313"), M: ("20230313", "20230612"), U: ("20230612", "20231231")}
TRUE_GAP = 36.0


@pytest.fixture(scope="module")
def front_files(vendor: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of ``vendor``, each cut at the weekend before the volume crosses, so that no minute is common."""
    folder = tmp_path_factory.mktemp("front")
    for name, (first, end) in FRONT.items():
        lines = (vendor / name).read_text().splitlines(keepends=True)
        # the week begins on Sunday evening, so a line of that day belongs to the next file
        sunday = f"{int(end) - 1}"
        kept = (line for line in lines if first <= line[:8] < end and not line.startswith(sunday))
        begun = (line for line in lines if line.startswith(f"{int(first) - 1} 2"))
        (folder / name).write_text("".join([*begun, *kept]))
    shutil.copy(vendor / "VIX_History.csv", folder)
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Callable[[Path], TrainingSetResult]:
    """Return a function that builds the training set of a folder of vendor files."""

    def build(raw: Path) -> TrainingSetResult:
        root, overrides = str(tmp_path / "lake"), {"dataset.min_sessions": 10}
        pipeline.start_run(root, "night", "smoke", overrides, str(raw), None, NOW)
        codes = list(pipeline.plan_contracts(root, "night").contracts)
        for code in codes:
            pipeline.ingest_contract(root, "night", code)
        pipeline.build_rolls(root, "night", codes)
        for code in codes:
            pipeline.profile_contract(root, "night", code)
            pipeline.features_contract(root, "night", code)
        return pipeline.build_training_set(root, "night", codes)

    return build


def lost(made: TrainingSetResult) -> dict[str, int]:
    return {loss.contract: loss.lost for loss in made.losses}


def test_common_minutes_leave_only_the_warm_up_of_the_first_contract(vendor, train) -> None:
    made = train(vendor)
    assert made.losses[0].reason == "warm-up of the first contract"
    assert lost(made) == {"ESH23": made.losses[0].lost, "ESM23": 0, "ESU23": 0}
    assert sum(loss.rows - loss.lost for loss in made.losses) >= made.rows_out


def test_estimated_steps_give_back_what_front_period_files_lost(front_files, train, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(roll_stage, "estimate_roll", lambda *args: NO_STEP)
    before = train(front_files)
    first, second, third = before.losses
    assert min(second.lost, third.lost) > 15 * 1380
    assert second.reason == "its own warm-up: no step from the prices of ESH23"
    assert sum(loss.lost for loss in before.losses) > 0.7 * sum(loss.rows for loss in before.losses)
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "lake")
    after = train(front_files)
    assert lost(after) == {"ESH23": first.lost, "ESM23": 0, "ESU23": 0}
    assert [loss.rows for loss in after.losses] == [loss.rows for loss in before.losses]
    table = Lake(tmp_path / "lake").read_frame("roll/ES.parquet").tail(2)
    assert table["source"].to_list() == ["estimated"] * 2
    assert ((table["gap"] - TRUE_GAP).abs() < 2 * table["uncertainty"]).all()
    summary = pipeline.summarize(str(tmp_path / "lake"), "night")
    assert summary.lost_rows == after.lost_rows
    assert summary.lost_rows[1] == after.losses[0].text
    notes = {
        failure.contract: failure.note
        for failure in pipeline.gate_features(str(tmp_path / "lake"), "night", list(lost(after))).failures
        if failure.check == "step"
    }
    assert tuple(notes.values()) == summary.steps
    assert list(notes) == ["ESM23", "ESU23"]
