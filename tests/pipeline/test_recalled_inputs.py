"""What a command line leaves out is recalled from the newest run of the lake that named it."""

from datetime import timedelta

import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.cli import app
from vpoc_ml.pipeline.run import open_run

from .conftest import NOW


@pytest.fixture
def folders(tmp_path):
    """Two raw folders, each with a VIX file beside it: ``(raw, vix)`` of ``a`` and ``b``."""
    found = {}
    for name in "ab":
        raw, vix = tmp_path / name, tmp_path / f"{name}.csv"
        raw.mkdir()
        vix.touch()
        found[name] = str(raw), str(vix)
    return found


def begin(lake, name, inputs, minutes):
    pipeline.start_run(lake, name, "smoke", None, *inputs, now=NOW + timedelta(minutes=minutes))


def test_a_new_lake_recalls_nothing(lake):
    found = pipeline.recall_inputs(lake, None, None)
    assert (found.raw, found.vix, found.notes) == (None, None, ())


def test_the_newest_run_that_named_a_folder_counts_not_the_last_name(lake, folders):
    begin(lake, "z-older", folders["a"], 0)
    begin(lake, "b-newer", folders["b"], 1)
    begin(lake, "newest-without", (None, None), 2)
    found = pipeline.recall_inputs(lake, None, None)
    assert (found.raw, found.vix) == folders["b"]
    assert found.notes == (
        f"raw folder of run b-newer: {folders['b'][0]}",
        f"VIX file of run b-newer: {folders['b'][1]}",
    )


def test_what_the_command_line_names_comes_first(lake, folders):
    begin(lake, "one", folders["a"], 0)
    begin(lake, "two", folders["b"], 1)
    found = pipeline.recall_inputs(lake, folders["a"][0], None)
    assert (found.raw, found.vix) == folders["a"], "the VIX file belongs to the named folder"
    assert found.notes == (f"VIX file of run one: {folders['a'][1]}",)
    assert pipeline.recall_inputs(lake, *folders["b"]).notes == ()


def test_files_in_the_lakes_own_folder_come_before_those_of_a_run(lake, folders, tmp_path):
    begin(lake, "one", folders["a"], 0)
    (tmp_path / "lake" / "raw").mkdir(parents=True)
    assert pipeline.recall_inputs(lake, None, None).raw == folders["a"][0]
    (tmp_path / "lake" / "raw" / "ES 03-23.Last.txt").touch()
    found = pipeline.recall_inputs(lake, None, None)
    assert (found.raw, found.vix) == (None, None)


def test_what_no_longer_exists_is_not_recalled(lake, folders, tmp_path):
    begin(lake, "one", folders["a"], 0)
    begin(lake, "two", folders["b"], 1)
    (tmp_path / "b").rmdir()
    (tmp_path / "a.csv").unlink()
    found = pipeline.recall_inputs(lake, None, None)
    assert (found.raw, found.vix) == (folders["a"][0], None)


def test_the_command_after_ingest_needs_no_folder_and_says_which_it_reads(lake, delivery):
    def call(*arguments):
        return CliRunner().invoke(app, [*arguments, "--lake", lake, "-o", "data.vix=none"], catch_exceptions=False)

    assert call("ingest", "--raw", str(delivery)).exit_code == 0
    answer = call("ingest", "--run", "other")
    assert answer.exit_code == 0, answer.output
    assert f"raw folder of run manual: {delivery}" in answer.stderr
    assert open_run(lake, "other").inputs["raw"] == str(delivery)
    assert "unchanged" in answer.stdout
