"""The Python interface on a lake with a walk-forward run; the notebooks of ``examples/`` run on the same lake."""

from __future__ import annotations

import ast
import json
import os
import shutil
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from vpoc_ml import api, pipeline
from vpoc_ml.artifacts.schemas import BARS
from vpoc_ml.errors import ArtifactError, InvalidValueError, MissingInputError
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.plugins.registered import Active, set_active

from .conftest import NOW

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SETTINGS = {
    "training.epochs": 1,
    "model.hidden_dims": "4",
    "features.names": "mom_15m, rv_30",
    "evaluation.fold": "20",
    "evaluation.min_history_sessions": 30,
    "evaluation.bootstrap_samples": 200,
}


@pytest.fixture(scope="module")
def place(market, tmp_path_factory):
    """A folder with ``data/demo``, a lake with the evaluated run ``night``."""
    folder = tmp_path_factory.mktemp("project")
    lake = str(folder / "data" / "demo")
    pipeline.start_run(lake, "night", "smoke", SETTINGS, str(market), None, NOW)
    pipeline.run_until(lake, "night", "decide", NOW)
    return folder


@pytest.fixture
def lake(place):
    yield api.open_lake(place / "data" / "demo")
    set_active(Active())


def test_tables_are_those_of_the_lake(lake, place):
    stored = Lake(place / "data" / "demo")
    assert lake.contracts() == lake.contracts("features") == ["ESH23"]
    bars = lake.bars("ESH23")
    assert list(bars.columns) == list(BARS)
    assert len(bars) == stored.require_manifest("bars/ES/ESH23.parquet").rows
    day = lake.session_days("ESH23")[-1]
    own = lake.bars("ESH23", day)
    assert set(own["session"]) == {pd.Timestamp(day)}
    assert own.equals(lake.bars("ESH23", day.isoformat()))
    assert len(lake.developing("ESH23", day)) == len(lake.features("ESH23", day)) == len(own)
    profile, levels = lake.profile("ESH23", day), lake.sessions("ESH23").iloc[-1]
    assert profile["volume"].sum() == pytest.approx(own["volume"].sum())
    assert profile.loc[profile["volume"].idxmax(), "price"] == levels["vpoc"]
    assert {"mom_15m", "rv_30"} <= set(lake.training_set("night").columns)
    assert lake.known_features().set_index("name").loc["garch_vol_5m", "family"] == "garch"


def test_scores_folds_and_gains_are_those_of_the_track_record(lake):
    record = lake.track_record("night")
    folds = lake.folds("night")
    assert list(dict.fromkeys(folds["fold"])) == [each.fold.name for each in record.folds]
    first = folds[(folds["fold"] == record.folds[0].fold.name) & (folds["model"] == "ridge")].iloc[0]
    assert first["huber"] == record.folds[0].models["ridge"].huber.value
    assert first["train_last"] < first["test_first"]
    scores = lake.scores("night").set_index("model")
    assert scores.loc["candidate", "mae_low"] <= scores.loc["candidate", "mae"] <= scores.loc["candidate", "mae_high"]
    assert pd.isna(scores.loc["constant", "rank_ic"])
    assert len(lake.track_predictions("night")) == record.rows
    assert lake.metrics("night").sessions == record.sessions
    assert lake.summary("night").preset == "smoke"


def test_runs_models_and_ledger(lake, tmp_path):
    runs = lake.runs().set_index("run")
    assert runs.loc["night", "preset"] == "smoke"
    assert len(lake.models()) == 1
    assert list(lake.ledger()["action"]) == ["candidate", "refuse"]
    empty = api.open_lake(tmp_path)
    assert empty.models() == []
    assert empty.runs().empty
    assert empty.ledger().empty
    assert empty.contracts() == []
    assert not (tmp_path / "registry").exists()


def test_charts_are_pictures(lake):
    day = lake.session_days("ESH23")[-1]
    assert lake.plot_session("ESH23", day)._repr_svg_().startswith("<svg")
    for chart in (lake.plot_profile("ESH23", day), lake.plot_track_record("night"), lake.plot_gains("night")):
        assert chart._repr_html_().startswith('<img style="background: white" src="data:image/svg')


def test_features_are_computed_as_they_are_stored(lake):
    made, stored = lake.compute_features("ESH23", ["hurst"]), lake.features("ESH23")
    assert list(made.columns[-1:]) == ["hurst_390m"]
    for name in FEATURE_NAMES:
        pd.testing.assert_series_equal(made[name], stored[name])


def test_what_is_absent_is_an_error_that_says_what_makes_it(lake):
    with pytest.raises(ArtifactError, match=r"bars/ES/ESM23"):
        lake.bars("ESM23")
    with pytest.raises(MissingInputError, match="session 1999-01-04 of ESH23"):
        lake.profile("ESH23", date(1999, 1, 4))
    with pytest.raises(InvalidValueError, match="a date such as 2023-03-01"):
        lake.bars("ESH23", "yesterday")
    with pytest.raises(ArtifactError, match="the training set of run other"):
        lake.training_set("other")
    with pytest.raises(ArtifactError, match=r"track_record\.json of run other"):
        lake.track_record("other")
    with pytest.raises(InvalidValueError, match="one of plan, ingest"):
        lake.run("more", until="training")


def test_a_lake_in_an_object_store_is_read_like_a_folder(bucket, lake):
    stored, bars = Lake(bucket), Lake(lake.root).read_frame("bars/ES/ESH23.parquet").head(100)
    stored.write_frame("bars/ES/ESH23.parquet", bars, BuildKey({}, "", ""))
    Lake(f"{bucket}/runs/night").write_frame("training_set.parquet", bars, BuildKey({}, "", ""))
    remote = api.open_lake(bucket)
    assert remote.contracts() == ["ESH23"]
    pd.testing.assert_frame_equal(remote.bars("ESH23"), lake.bars("ESH23").head(100))
    assert len(remote.training_set("night")) == 100
    assert remote.models() == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_demo_lake(place, tmp_path, monkeypatch, path):
    notebook = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
    imported = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))}
    assert {each for each in imported if "vpoc_ml" in each} == {"from vpoc_ml import api"}
    shutil.copytree(place / "data", tmp_path / "data")
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")
    space = {"__name__": "__main__", "display": lambda shown: shown}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{path.name} cell {number}", "exec"), space)
    set_active(Active())
    assert os.getcwd() == str(tmp_path / "examples")
