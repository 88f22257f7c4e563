"""A run whose stored configuration is damaged says so, whoever reads it first, and says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vpoc_ml import cli, config, pipeline
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.training.__main__ import main as train_process
from vpoc_ml.training.launch import seed_study
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.run_inputs import INPUTS
from vpoc_ml.training.launch.search import Search

WHOLE = config.resolve("smoke").to_json().encode()
DAMAGED = {
    "empty": (b"", "Invalid JSON"),
    "torn": (WHOLE[: len(WHOLE) // 2], "Invalid JSON"),
    "not UTF-8": (b"\xff" + WHOLE, "Invalid JSON"),
    "a list": (b"[]", "an object"),
    "a section that is none": (b'{"training": 3}', "training: Input should be"),
    "a value beyond its limits": (b'{"training": {"epochs": -1}}', "training.epochs: Input should be greater"),
    "a setting that is none": (b'{"training": {"epoch": 1}}', "training.epoch: Extra inputs"),
}


def read_as_search(folder: Path) -> None:
    Search(folder, (), 0, train_run, lambda folder, config: {})._base()


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("read", [read_config, train_run, read_as_search], ids=lambda read: read.__name__)
def test_training_names_the_file_what_is_wrong_and_what_to_do(tmp_path, content, read):
    stored, wrong = DAMAGED[content]
    (tmp_path / "config.json").write_bytes(stored)
    with pytest.raises(UnreadableFileError) as caught:
        read(tmp_path)
    reported = str(caught.value)
    assert reported.startswith(f"{tmp_path / 'config.json'}: expected the configuration of a run; found ")
    assert wrong in reported
    assert reported.endswith("Start the run again with its settings, or restore the file.")


def test_training_process_and_seeds_report_the_same(tmp_path, capsys):
    for name in INPUTS:
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_bytes(b"{")
    assert train_process([str(tmp_path)]) == 5
    assert json.loads(capsys.readouterr().out)["error"] == "UnreadableFileError"
    with pytest.raises(UnreadableFileError):
        seed_study.train_seeds(tmp_path, [1], 1)


def test_stages_and_commands_report_the_same(start, lake, monkeypatch, capsys):
    run = start()
    path = Path(lake) / "runs" / run / "config.json"
    assert pipeline.summarize(lake, run).preset == "smoke"
    path.write_bytes(path.read_bytes()[:100])
    for call in (pipeline.plan_contracts, pipeline.summarize):
        with pytest.raises(UnreadableFileError, match="Start the run again"):
            call(lake, run)
    monkeypatch.setattr("sys.argv", ["vpoc-ml", "summary", run, "--lake", lake])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 5
    reported = capsys.readouterr().err.replace("\n", "")  # which is folded to the width of a terminal
    assert "config.json: expected the configuration of a run" in reported


def test_run_without_a_configuration_is_not_damaged(tmp_path):
    for read in (read_config, train_run):
        with pytest.raises(MissingInputError, match="Start the run first"):
            read(tmp_path)
