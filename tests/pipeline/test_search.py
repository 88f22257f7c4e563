"""The stage and the command of a search: real trials, what is kept of them, and that test rows are never looked at."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.cli import app
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.errors import InsufficientSessionsError, InvalidValueError, MissingInputError, WriterBusyError
from vpoc_ml.evaluation.forecasts import centred_ranks
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.store import Lake
from vpoc_ml.models.bundle import load_model
from vpoc_ml.registry import mlflow_copies

pytestmark = pytest.mark.slow

LOG_TRIAL = mlflow_copies.log_trial
NAMES = ("signal", "noise", "flat")
SESSIONS, BARS = 13, 200
VARY = ("training.learning_rate=1e-3..1e-2 log", "model.hidden_dims=8|16")
QUICK = {"training.epochs": 2, "training.batch_size": 64, "evaluation.bootstrap_samples": 100, "machine.device": "cpu"}


def write_training_set(folder: Path) -> None:
    """Write 13 sessions of 200 minutes: 7 train, 3 validate, 3 test; one feature knows the next return a little."""
    rng = np.random.default_rng(5)
    rows = SESSIONS * BARS
    features = rng.normal(size=(rows, len(NAMES)))
    ret = (0.4 * features[:, 0] + rng.normal(size=rows)) * 1e-4
    number = np.arange(rows) // BARS
    days = [date(2023, 3, 1) + timedelta(days=int(each)) for each in range(SESSIONS)]
    opened = [datetime(day.year, day.month, day.day, 14, 30, tzinfo=timezone.utc) for day in days]  # noqa: UP017
    split = np.array(["train", "validation", "test"])[np.searchsorted([7, 10], number, side="right")]
    target = RankTarget.fit(ret[split == "train"])
    frame = pl.DataFrame(
        {
            "ts": [opened[each] + timedelta(minutes=int(row % BARS)) for row, each in enumerate(number)],
            "contract": "ESH23",
            "session": [days[each] for each in number],
            "split": split,
            "ret": ret,
            "y": target.apply(ret).astype(np.float32),
            "weight": np.float32(1.0),
            "entry_price": 4000.0,
            "exit_price": 4000.0 * np.exp(ret),
        }
    )
    frame = frame.with_columns(label_end=pl.col("ts") + pl.duration(minutes=1))
    matrix = pl.DataFrame(features.astype(np.float32), schema=NAMES)
    pl.concat([frame, matrix], how="horizontal").write_parquet(folder / "training_set.parquet")
    columns = [fit_robust_scaling(features[split == "train", index]) for index in range(len(NAMES))]
    statistics = {
        "features": NAMES,
        "median": [each.median for each in columns],
        "scale": [each.scale for each in columns],
        "zero_rank": target.zero_score,
        "target_quantiles": target.quantiles(),
        "splits": {},
    }
    write_json(folder / "feature_statistics.json", statistics)


@pytest.fixture
def run(start, lake, monkeypatch):
    """Name of a run with a training set; trials stay out of MLflow."""
    name = start(overrides=QUICK)
    write_training_set(Path(lake) / "runs" / name)
    monkeypatch.setattr(mlflow_copies, "log_trial", lambda *_: None)
    return name


@pytest.fixture
def folder(run, lake) -> Path:
    return Path(lake) / "runs" / run


def test_search_keeps_each_trial_s_validation_returns_and_names_the_best(run, lake, folder):
    result = pipeline.search(lake, run, 4, VARY)
    found = json.loads((folder / "search" / "search.json").read_text())
    assert (result.finished, result.unstable, result.value) == (4, 0, found["best"]["value"])
    assert list(result.best) == found["best"]["overrides"]
    assert result.own_value == found["records"][0]["value"]
    validation = pl.read_parquet(folder / "training_set.parquet").filter(pl.col("split") == "validation")
    returns = pl.read_parquet(folder / "search" / "returns.parquet")
    assert returns.columns == ["trial", "session", "gross", "net", "trades"]
    assert returns["trial"].unique().to_list() == [0, 1, 2, 3]
    assert set(returns["session"]) == set(validation["session"])
    for record in found["records"]:
        model = load_model(folder / "search" / "trials" / record["trial"] / "best_model.json")
        scores = model.predict(validation.select(NAMES).to_numpy())
        expected = np.corrcoef(centred_ranks(scores), centred_ranks(validation["ret"].to_numpy()))[0, 1]
        assert record["value"] == pytest.approx(expected, abs=1e-6)
        own = returns.filter(pl.col("trial") == record["number"])
        assert own["net"].sum() == pytest.approx(record["metrics"]["net"])
    assert found["best"]["value"] > 0.2, "the planted signal"
    record = json.loads((folder / "stages" / "search.json").read_text())
    assert record["best"] == list(result.best)


def test_test_rows_do_not_matter(run, lake, folder):
    pipeline.search(lake, run, 3, VARY)
    before = json.loads((folder / "search" / "search.json").read_text())["records"]
    rows = pl.read_parquet(folder / "training_set.parquet")
    broken = [pl.when(pl.col("split") == "test").then(None).otherwise(pl.col(n)).alias(n) for n in ("ret", "y", *NAMES)]
    rows.with_columns(broken).write_parquet(folder / "training_set.parquet")
    pipeline.search(lake, run, 3, VARY)
    after = json.loads((folder / "search" / "search.json").read_text())["records"]
    assert [r["trial"] for r in before] != [r["trial"] for r in after], "trained anew"
    assert [r["value"] for r in before] == [r["value"] for r in after]
    assert [r["metrics"] for r in before] == [r["metrics"] for r in after]


def test_trials_are_in_mlflow_once(run, lake, monkeypatch):
    from mlflow import MlflowClient

    from vpoc_ml.pipeline.champion_stages import registry_of

    monkeypatch.setattr(mlflow_copies, "log_trial", LOG_TRIAL)
    for count in (2, 3):
        pipeline.search(lake, run, count, VARY)
    client = MlflowClient(registry_of(Lake(lake)).mlflow.tracking_uri)
    logged = client.search_runs([client.get_experiment_by_name(mlflow_copies.EXPERIMENT).experiment_id])
    assert sorted(each.data.tags["number"] for each in logged) == ["0", "1", "2"]
    assert all(each.data.params["model.hidden_dims"] in ("8", "16") for each in logged)
    assert all(-1 <= each.data.metrics["validation_rank_ic"] == each.data.metrics["value"] for each in logged)
    assert {each.info.status for each in logged} == {"FINISHED"}


def test_search_goes_on_without_mlflow(run, lake, monkeypatch, caplog):
    def unreachable(*_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(mlflow_copies, "log_trial", unreachable)
    assert pipeline.search(lake, run, 1, VARY).finished == 1
    assert "trial 0 is not in MLflow: no route to host" in caplog.text
    logged = []
    monkeypatch.setattr(mlflow_copies, "log_trial", lambda uri, name, record: logged.append(record.number))
    assert pipeline.search(lake, run, 1, VARY).finished == 1
    assert logged == [0], "the next call makes up for it"


def test_unstable_trials_are_counted_and_have_no_returns(run, lake, folder):
    hot = ("training.learning_rate=9..10", "training.max_rollbacks=0", "training.gradient_clip=1000")
    result = pipeline.search(lake, run, 2, ("training.monitor_steps=5", *hot))
    assert (result.unstable, result.best) == (2, None)
    assert not (folder / "search" / "returns.parquet").exists()


def test_too_few_validation_sessions_are_named(run, lake, folder):
    rows = pl.read_parquet(folder / "training_set.parquet")
    first = rows.filter(pl.col("split") == "validation")["session"].min()
    rows.filter((pl.col("split") != "validation") | (pl.col("session") == first)).write_parquet(
        folder / "training_set.parquet"
    )
    with pytest.raises(InsufficientSessionsError, match="at least 3 sessions for the validation split"):
        pipeline.search(lake, run, 1, VARY)


def test_command_prints_the_best_and_refuses_a_bad_space(run, lake):
    arguments = ["search", run, "--trials", "1", "--vary", VARY[0], "--lake", lake, "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "trial 0" in result.stderr
    assert json.loads(result.stdout)["space"] == ["training.learning_rate=0.001..0.01 log"]
    with pytest.raises(InvalidValueError, match="data and split stay"):
        pipeline.search(lake, run, 1, ["dataset.horizon=1m|5m"])


def test_run_that_is_being_searched_and_run_without_training_set_are_refused(run, lake, folder, monkeypatch):
    held = Lake.writing
    monkeypatch.setattr(Lake, "writing", lambda self, name, wait_seconds: held(self, name, wait_seconds=0.1))
    with Lake(lake).writing(f"search-{run}", wait_seconds=1), pytest.raises(WriterBusyError, match="no other writer"):
        pipeline.search(lake, run, 1, VARY)
    (folder / "training_set.parquet").unlink()
    with pytest.raises(MissingInputError, match="Build the training set first"):
        pipeline.search(lake, run, 1, VARY)


def test_a_pointer_to_a_trained_model_that_holds_something_else_trains_again(run, lake):
    first = pipeline.train(lake, run)
    assert not first.skipped
    assert pipeline.train(lake, run).skipped
    pointer = f"trained/{first.fingerprint}.json"
    Lake(lake).write_checksummed_json(pointer, {"run": run})
    again = pipeline.train(lake, run)
    assert (again.skipped, again.fingerprint) == (False, first.fingerprint)
    assert set(Lake(lake).read_checksummed_json(pointer)["files"]) == set(layout.MODEL_FILES)
