"""The demo as a command: exit codes, what it prints and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vpoc_ops import airflow_home
from vpoc_ops.demo import input_conf, main

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
sys.path.insert(0, {folder!r})
import fake_pipeline
from vpoc_ops.demo import main
fake_pipeline.validate_quickly(setattr)
fake_pipeline.wait_briefly(setattr)
for fail, *arguments in json.loads(sys.argv[1]):
    fake_pipeline.install(fake_pipeline.FakePipeline(fail))
    code = main(arguments)
    print({end!r}, code, flush=True)
sys.exit(code)
"""
END = "--- the demo ended with"
RUNS = {"finished": (None, "-o", "training.epochs=3"), "program": ("program",), "gate": ("gate",)}
"""What fails in the fake pipeline, and further arguments, by the name of the run."""


def run_demo(runs: list[tuple[str | None, ...]]) -> subprocess.CompletedProcess[str]:
    """Run the demo with the fake pipeline, once for each of ``runs``, in a process of its own."""
    program = PROGRAM.format(folder=str(Path(__file__).parent), end=END)
    return subprocess.run(
        [sys.executable, "-c", program, json.dumps(runs)],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """What each of ``RUNS`` printed, its exit code and its lake; Airflow is loaded once for all."""
    root = tmp_path_factory.mktemp("demos")
    lakes = {name: root / name for name in RUNS}
    for lake in lakes.values():
        (lake / "raw").mkdir(parents=True)
        (lake / "raw" / "anything.txt").touch()
    places = {name: ("--lake", str(lake), "--home", str(root / "home")) for name, lake in lakes.items()}
    done = run_demo([(fail, *places[name], *arguments) for name, (fail, *arguments) in RUNS.items()])
    *printed, rest = re.split(rf"{END} (\d+)\n", done.stdout)
    assert rest == "", done.stdout + done.stderr
    outputs, codes = printed[::2], [int(code) for code in printed[1::2]]
    assert done.returncode == codes[-1] == 3
    return {
        name: SimpleNamespace(lake=lakes[name], stdout=output, stderr=done.stderr, code=code)
        for name, output, code in zip(RUNS, outputs, codes, strict=True)
    }


def test_a_finished_run_prints_its_table_and_exits_with_zero(demos):
    done = demos["finished"]
    assert done.code == 0, done.stdout + done.stderr
    for text in (
        "finished ingest_contract ESH25",
        "epoch 1",
        "12,345",
        "REFUSED; neither predictive nor tradeable: net -$512,345 at $2.50 a round turn",
        "[0.4900, 0.5300]",
        "report.html",
    ):
        assert text in done.stdout
    ending = done.stdout[done.stdout.index("What happened") :]
    for line in ("decision      REFUSED", "Where to look", "report  ", f"make up LAKE={done.lake}", "vpoc-ml models"):
        assert line in ending
    assert done.stdout.count("report.html") == 1
    assert "[info" not in done.stdout + done.stderr, "Airflow's log belongs into the file"
    (log,) = (done.lake / "logs").glob("demo-*.log")
    assert "publish_reports" in log.read_text()
    (summary,) = done.lake.glob("runs/*/summary.json")
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
def test_a_failed_run_prints_its_error_and_exits_with_its_code(demos, fail, code, text):
    done = demos[fail]
    assert done.code == code, done.stdout + done.stderr
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


def test_an_unknown_mode_is_refused_with_the_known_ones():
    done = run_demo([(None, "--mode", "trend")])
    assert done.returncode == 2
    assert "'trend' is not one of 'signal', 'martingale', 'linear', 'overlap', 'drifting'" in done.stderr
