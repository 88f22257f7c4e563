"""The stage and the command of seeds: what they hand on, and that the record says what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.training.conftest import plant, write_run
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.artifacts.studies import SeedComparison
from vpoc_ml.cli import app
from vpoc_ml.errors import MissingInputError
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.training.launch import seed_study as training

from .conftest import NOW

pytestmark = pytest.mark.slow


def test_command_trains_each_seed_in_the_runs_folder(start, lake, monkeypatch):
    run, requested = start(), []

    def train(folder, chosen, processes, on_progress):
        requested.append((folder.name, list(chosen), processes))
        return SeedComparison(
            seeds=tuple(chosen),
            validation_losses={"1": 0.2, "2": 0.1},
            spread=0.05,
            best="2",
            correlations={"1": 0.01, "2": None},
            mean_correlation=None,
            models={seed: f"seeds/{seed}/best_model.json" for seed in ("1", "2")},
        )

    monkeypatch.setattr(training, "train_seeds", train)
    arguments = ["seeds", run, "--seed", "1", "--seed", "2", "--processes", "2", "--lake", lake, "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert requested == [(run, [1, 2], 2)]
    assert json.loads(result.stdout)["best"] == "2"
    assert json.loads((Path(lake) / "runs" / run / "stages" / "seeds.json").read_text())["seeds"] == [1, 2]


def test_stdout_of_the_command_is_its_result_and_nothing_else(lake):
    tiny = {"training.epochs": 1, "training.batch_size": 64, "model.hidden_dims": (4,), "machine.engine": "eager"}
    folder = write_run(Path(lake) / "runs" / "night", plant(400), tiny, "smoke")
    write_json(folder / "inputs.json", {"raw": None, "vix": None, "started": NOW.isoformat()})
    command = ["seeds", "night", "--seed", "1", "--seed", "2", "--lake", lake, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "from vpoc_ml.cli import main; main()", *command],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["seeds"] == [1, 2]
    epochs = [text for text in done.stderr.splitlines() if '"kind": "epoch"' in text]
    assert [json.loads(text)["folder"] for text in epochs] == ["1", "2"], "the progress of each seed"


def test_run_without_a_training_set_reports_what_is_missing(start, lake):
    with pytest.raises(MissingInputError, match="Build the training set first"):
        pipeline.train_seeds(lake, start(), [1], 1)
