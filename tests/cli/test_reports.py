"""``vpoc-ml report run`` prints what the page of a run shows; without a name, of the newest run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.cli import app
from vpoc_ml.errors import ArtifactError, MissingInputError
from vpoc_ml.lake.store import Lake

NOW = datetime(2026, 5, 14, 22, 30, tzinfo=UTC)


def call(lake, *words):
    return CliRunner().invoke(app, ["report", *words, "--lake", str(lake)], catch_exceptions=False)


@pytest.fixture
def lake(tmp_path):
    """A lake with an older run, and a newer one whose raw folder is empty."""
    for minutes, name in enumerate(("z-older", "a-newer")):
        pipeline.start_run(str(tmp_path), name, now=NOW + timedelta(minutes=minutes))
    with pytest.raises(MissingInputError):
        pipeline.plan_contracts(str(tmp_path), "a-newer")
    return tmp_path


def test_a_failed_run_is_shown_with_its_message_and_what_to_do(lake):
    shown = call(lake, "run").stdout
    assert "FAILED plan" in shown
    assert "MissingInputError: Expected a folder with price files of ES" in shown
    assert "Deliver or correct the input that the message names" in shown
    assert "FAILED" not in call(lake, "run", "z-older").stdout
    assert json.loads(call(lake, "run", "--json").stdout)["run"] == "a-newer"


def test_the_report_is_written_to_a_file_once_the_run_is_evaluated(lake, tmp_path):
    target = tmp_path / "out" / "night.html"
    with pytest.raises(ArtifactError, match=r"report\.html"):
        call(lake, "run", "--html", str(target))
    assert not target.exists()
    Lake(lake).write_text(layout.run_file("a-newer", layout.REPORT), "<html>night</html>")
    assert call(lake, "run", "--html", str(target)).exit_code == 0
    assert target.read_text() == "<html>night</html>"


def test_a_lake_without_runs_or_sessions_says_how_to_make_some(tmp_path):
    with pytest.raises(ArtifactError, match="start one with vpoc-ml run"):
        call(tmp_path, "run")
    with pytest.raises(MissingInputError, match="Run vpoc-ml profile first"):
        call(tmp_path, "session")
