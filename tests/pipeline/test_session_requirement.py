"""Too few sessions are refused before profiles and features; exactly enough of them go through every stage."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from vpoc_ml import config, pipeline
from vpoc_ml.cli import app
from vpoc_ml.dataset.splits import MIN_PART_SESSIONS, sessions_needed
from vpoc_ml.errors import InsufficientSessionsError, InvalidValueError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.stages import STAGE_NAMES

from .conftest import NOW

pytestmark = pytest.mark.slow

WARM_UP = 22
SPLITS = sessions_needed(config.resolve("smoke").dataset, MIN_PART_SESSIONS)


def deliver(market: Path, folder: Path, sessions: int) -> Path:
    """Copy the VIX and the newest whole sessions of the market's contract into ``folder``."""
    folder.mkdir()
    shutil.copy(next(market.glob("VIX*")), folder)
    prices = next(market.glob("ES*.txt"))
    lines = prices.read_text().splitlines(keepends=True)
    timestamps = [datetime.strptime(line[:15], "%Y%m%d %H%M%S").replace(tzinfo=UTC) for line in lines]
    starts = [
        0,
        *(i + 1 for i, (one, other) in enumerate(pairwise(timestamps)) if (other - one).total_seconds() >= 45 * 60),
    ]
    (folder / prices.name).write_text("".join(lines[starts[-sessions] :]))
    return folder


def stages_of(lake: str) -> list[str]:
    return [row.stage for row in pipeline.summarize(lake, "night").stages]


@pytest.mark.e2e
def test_exactly_the_sessions_needed_go_through_every_stage(market, lake, tmp_path):
    raw = deliver(market, tmp_path / "raw", WARM_UP + SPLITS)
    pipeline.start_run(lake, "night", "smoke", {"training.epochs": 1}, str(raw), None, NOW)
    pipeline.run_until(lake, "night", STAGE_NAMES[-1], NOW)
    recorded = {path.name.split(".")[0] for path in Path(lake, "runs", "night", "stages").glob("*.json")}
    assert recorded == set(STAGE_NAMES) - {"train-fold"}, "preset smoke has no folds"
    rows = pl.read_parquet(Path(lake, "runs", "night", "training_set.parquet"))
    sessions = rows.filter(pl.col("weight") == 1).group_by("split").agg(pl.col("session").n_unique())
    assert dict(sessions.iter_rows()) == {"train": 8, "validation": 3, "test": 3}


def test_one_session_fewer_ends_before_the_profiles_with_exit_code_5_and_the_arithmetic(market, lake, tmp_path):
    raw = deliver(market, tmp_path / "raw", WARM_UP + SPLITS - 1)
    arguments = ["run", "night", "--lake", lake, "--preset", "smoke", "--raw", str(raw)]
    result = CliRunner().invoke(app, [*arguments, "-o", "quality.max_age_sessions=5000"])
    assert isinstance(result.exception, InsufficientSessionsError)
    assert result.exception.exit_code == 5
    assert (result.exception.found, result.exception.needed) == (WARM_UP + SPLITS - 1, WARM_UP + SPLITS)
    text = str(result.exception)
    assert "22 in the warm-up of the features (har_m: 22 sessions, rsi_14: 390 bars)" in text
    assert "14 sessions of training, validation and test (8 + 3 + 3" in text
    assert "2 embargoes of 1 session" in text
    assert "evaluation.fold" not in text, "smoke has no folds"
    assert stages_of(lake)[-1] == "rolls"
    assert not Lake(lake).keys("developing")


def test_features_with_a_short_warm_up_need_fewer_sessions(lake, start):
    start(overrides={"features.names": "mom_15m,rv_390"})
    pipeline.run_until(lake, "night", "rolls", NOW)
    contracts = list(pipeline.plan_contracts(lake, "night").contracts)
    with pytest.raises(InsufficientSessionsError, match=r"rv_390: 390 bars") as caught:
        pipeline.build_rolls(lake, "night", contracts, last="score")
    assert caught.value.needed - SPLITS <= 1


def test_a_file_shorter_than_the_warm_up_counts_the_whole_warm_up(lake, start):
    start()
    with pytest.raises(InsufficientSessionsError) as caught:
        pipeline.run_until(lake, "night", "score", NOW)
    assert caught.value.needed == WARM_UP + SPLITS


def test_commands_without_a_training_set_work_with_any_number_of_sessions(lake, start):
    start()
    pipeline.run_until(lake, "night", "features", NOW)
    assert stages_of(lake)[-1] == "features"


def test_shares_that_no_number_of_sessions_fills_are_refused_at_the_start(lake, start):
    with pytest.raises(InvalidValueError, match=re.escape("dataset.train_share")):
        start(overrides={"dataset.train_share": 0.9, "dataset.validation_share": 0.0999})
