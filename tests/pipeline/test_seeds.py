"""The stage and the command of seeds: what they hand on, and that the record says what came of it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.cli import app
from vpoc_ml.errors import MissingInputError
from vpoc_ml.training import seeds as training


def test_command_trains_each_seed_in_the_runs_folder(start, lake, monkeypatch):
    run, asked = start(), []

    def train(folder, chosen, processes):
        asked.append((folder.name, list(chosen), processes))
        return {"seeds": list(chosen), "best": "2"}

    monkeypatch.setattr(training, "train_seeds", train)
    arguments = ["seeds", run, "--seed", "1", "--seed", "2", "--processes", "2", "--lake", lake, "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert asked == [(run, [1, 2], 2)]
    assert json.loads(result.stdout)["best"] == "2"
    assert json.loads((training.Path(lake) / "runs" / run / "stages" / "seeds.json").read_text())["seeds"] == [1, 2]


def test_run_without_a_training_set_is_told_what_is_missing(start, lake):
    with pytest.raises(MissingInputError, match="Build the training set first"):
        pipeline.train_seeds(lake, start(), [1], 1)
