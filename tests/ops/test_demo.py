"""The demo as a command: exit codes, what it prints and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vpoc_ops import airflow_home
from vpoc_ops.demo import input_conf, main

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import fake_pipeline
fake_pipeline.install(fake_pipeline.FakePipeline(fake_pipeline.requested_failure()))
from vpoc_ops.demo import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def demo(tmp_path, home):
    """Run the demo with the fake pipeline in a process of its own."""
    lake = tmp_path / "lake"
    (lake / "raw").mkdir(parents=True)
    (lake / "raw" / "anything.txt").touch()

    def run(*arguments: str, fail: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM.format(folder=str(Path(__file__).parent))]
        places = ["--lake", str(lake), "--home", str(home)]
        environment = os.environ | {"FAKE_FAIL": fail, "COLUMNS": "200"}
        return subprocess.run(
            [*command, *places, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    run.lake = lake
    return run


def test_a_finished_run_prints_its_table_and_exits_with_zero(demo):
    done = demo("-o", "training.epochs=3")
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "finished ingest_contract ESH25",
        "epoch 1",
        "12,345",
        "REFUSED; neither predictive nor tradeable: net -$512,345 at $2.50 a round turn",
        "[0.4900, 0.5300]",
        "report.html",
    ):
        assert text in done.stdout
    assert "[info" not in done.stdout + done.stderr, "Airflow's log belongs into the file"
    (log,) = (demo.lake / "logs").glob("demo-*.log")
    assert "publish_reports" in log.read_text()
    (summary,) = demo.lake.glob("runs/*/summary.json")
    content = json.loads(summary.read_text())
    assert content["state"] == "success"
    assert content["decision"]["promote"] is False
    config = json.loads((summary.parent / "config.json").read_text())
    assert config["training"]["epochs"] == 3


@pytest.mark.parametrize(
    ("fail", "code", "text"),
    [
        ("gate", 3, "DATA GATE FAILED"),
        ("program", 1, "TypeError: a mistake in the program"),
    ],
)
def test_a_failed_run_prints_its_error_and_exits_with_its_code(demo, fail, code, text):
    done = demo(fail=fail)
    assert done.returncode == code, done.stdout + done.stderr
    assert text in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("-o", "training.epoch=3"), 2, "training.epochs"),
        (("-o", "training.epochs=0"), 2, "training.epochs"),
        (("-o", "training.epochs"), 2, "key=value"),
        (("--preset", "nigthly"), 2, "nightly"),
        (("-o", "promotion.require_approval=true"), 2, "make up"),
        (("--data", "/nowhere"), 5, "/nowhere"),
        (("--vix", "/nowhere.csv"), 5, "/nowhere.csv"),
    ],
)
def test_wrong_arguments_are_rejected_before_anything_starts(tmp_path, monkeypatch, capsys, arguments, code, text):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "anything.txt").touch()
    monkeypatch.setattr(airflow_home, "apply", lambda env: pytest.fail("Airflow was about to start"))
    assert main(["--lake", str(tmp_path), "--home", str(tmp_path / "home"), *arguments]) == code
    assert text in capsys.readouterr().out
    assert not (tmp_path / "logs").exists()


def test_a_market_whose_signal_drifts_holds_more_than_a_year(tmp_path):
    given = input_conf(data=None, vix=None, lake=tmp_path, mode="drifting")
    assert given == {"raw": None, "vix": None}
    names = {path.name for path in (tmp_path / "raw").glob("ES *.txt")}
    assert names == {f"ES {month}.Last.txt" for month in ("03-23", "06-23", "09-23", "12-23", "03-24")}


def test_an_unknown_mode_is_refused_with_the_known_ones(demo):
    done = demo("--mode", "trend")
    assert done.returncode == 2
    assert "'trend' is not one of 'signal', 'martingale', 'linear', 'overlap', 'drifting'" in done.stderr
