"""Walk-forward folds in a lake: trained once, extended by a session a night, never by what they are measured on."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.metrics import read_metrics
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.artifacts.track_record import FoldPlan
from vpoc_ml.config import resolve
from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.pipeline import reproduction
from vpoc_ml.pipeline.fold_stages import prepare_refit, preset_key
from vpoc_ml.pipeline.stages import stage_named

from .conftest import NOW

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = {"training.epochs": 2, "machine.engine": "eager", "model.hidden_dims": "4", "features.names": "mom_15m"}
SETTINGS |= {"evaluation.min_history_sessions": 8, "evaluation.fold": "2", "dataset.embargo_sessions": 0}
SETTINGS |= {"training.refit": "nightly"}


def run(place: Path, name: str, raw: Path, last: str = "evaluate", **changes) -> Path:
    pipeline.start_run(str(place), name, "smoke", SETTINGS | changes, str(raw), None, NOW)
    pipeline.run_until(str(place), name, last, NOW)
    return place / "runs" / name


def by_session(prices: Path) -> list[list[bytes]]:
    """Return the lines of a vendor file by session: a break of an hour or more lies between two of them."""
    sessions: list[list[bytes]] = []
    before = None
    for line in prices.read_bytes().splitlines(keepends=True):
        at = datetime.strptime(line[:15].decode(), "%Y%m%d %H%M%S").replace(tzinfo=UTC)
        if before is None or at - before >= timedelta(hours=1):
            sessions.append([])
        sessions[-1].append(line)
        before = at
    return sessions


def first_sessions(delivery: Path, folder: Path, count: int, change=lambda line: line) -> Path:
    """Write the first ``count`` sessions; ``change`` is applied to the lines after the tenth session."""
    folder.mkdir()
    (folder / "VIX_History.csv").write_bytes((delivery / "VIX_History.csv").read_bytes())
    prices = next(delivery.glob("ES*.txt"))
    sessions = by_session(prices)[:count]
    lines = [line if number < 10 else change(line) for number, part in enumerate(sessions) for line in part]
    (folder / prices.name).write_bytes(b"".join(lines))
    return folder


@pytest.fixture(scope="module")
def nights(tmp_path_factory, market):
    """A lake after a night with eleven sessions, and what it held; then the same lake a session later."""
    place = tmp_path_factory.mktemp("nights")
    delivery = place / "delivery"
    delivery.mkdir()
    (delivery / "VIX_History.csv").write_bytes((market / "VIX_History.csv").read_bytes())
    prices = next(market.glob("ES*.txt"))
    kept = by_session(prices)[45:57]  # while the contract is the front one
    (delivery / prices.name).write_bytes(b"".join(line for part in kept for line in part))
    lake = place / "lake"
    run(lake, "first", first_sessions(delivery, place / "raw1", 11))
    before = {path: path.read_bytes() for path in lake.glob("track/ES/*/*")}
    run(lake, "second", first_sessions(delivery, place / "raw2", 12))
    shutil.copytree(lake, place / "untouched")
    return lake, before, delivery


@pytest.fixture
def untouched(nights):
    """The lake as it was after both nights; other tests deliver corrected bars to the first one."""
    return nights[0].with_name("untouched")


def plan_of(lake: Path, name: str) -> FoldPlan:
    return FoldPlan.model_validate_json((lake / "runs" / name / layout.FOLDS).read_bytes())


def predictions(lake: Path, key: str) -> pl.DataFrame:
    return pl.read_parquet(lake / layout.fold_predictions_key("ES", key))


def test_a_night_adds_one_session_of_predictions_and_trains_no_fold_again(nights):
    lake, before, _ = nights
    first, second = plan_of(lake, "first"), plan_of(lake, "second")
    assert [fold.key for fold in second.folds[: len(first.folds)]] == [fold.key for fold in first.folds]
    models = [path for path in before if path.name.startswith(("best_model", "fold.json", "training"))]
    assert len(models) >= 4 * len(first.folds)
    assert all(path.read_bytes() == before[path] for path in models)
    longer = [(old, new) for old, new in zip(first.folds, second.folds, strict=False) if old.test != new.test]
    ((old, new),) = longer
    assert new.test.sessions == old.test.sessions + 1
    stored = pl.read_parquet(before[lake / layout.fold_predictions_key("ES", old.key)])
    now = predictions(lake, new.key)
    assert now.filter(pl.col("session") <= old.test.last).equals(stored)
    assert now["session"].n_unique() == new.test.sessions


@pytest.mark.parametrize("name", ["train-fold", "track-record"])
def test_the_table_of_stages_names_what_these_stages_write(nights, name):
    lake, _, _ = nights
    keys = [str(path.relative_to(lake)) for path in lake.rglob("*") if path.is_file()]
    for named in stage_named(name).produces:
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(named)))
        assert any(map(pattern.fullmatch, keys)), named


def test_the_track_record_holds_every_session_after_the_history_once(nights):
    lake, _, _ = nights
    folder = lake / "runs" / "second"
    track = pl.read_parquet(folder / layout.TRACK_RECORD_PREDICTIONS)
    sessions = json.loads((folder / layout.LABELLED_SESSIONS).read_text())["sessions"]
    assert [day.isoformat() for day in track["session"].unique().sort()] == [each["session"] for each in sessions[8:]]
    assert not track.select("ts", "contract").is_duplicated().any()
    metrics = read_metrics(folder)
    assert (metrics.rows, metrics.folds) == (track.height, len(plan_of(lake, "second").folds))
    assert metrics.preset_key == plan_of(lake, "second").preset_key


def test_the_shipped_model_is_trained_on_all_sessions_as_long_as_the_folds_chose(nights):
    lake, _, _ = nights
    folder = lake / "runs" / "second"
    described = ModelCard.read(folder / layout.BEST_MODEL_CARD, what="the model", remedy="")
    track = pl.read_parquet(folder / layout.TRACK_RECORD_PREDICTIONS)
    assert described.learned_until() >= track["ts"].max()
    assert set(described.splits) >= {"train"}
    assert described.splits["validation"].sessions == described.splits["test"].sessions == 0
    epochs = sorted(
        json.loads((lake / layout.fold_model_key("ES", fold.key)).read_text())["best_epoch"]
        for fold in plan_of(lake, "second").folds
    )
    assert described.best_epoch in epochs
    best, last = (hash_file(folder / f"{name}.safetensors") for name in (layout.BEST_MODEL, layout.FINAL_MODEL))
    assert best == last, "training ends with the chosen epoch"


def test_no_number_of_the_record_comes_from_a_model_that_saw_its_rows(nights, tmp_path):
    """With other prices from the eleventh session on, folds before it keep their models and predictions to the bit."""
    lake, _, delivery = nights

    def shifted(line: bytes) -> bytes:
        start, *prices, volume = line.rstrip().split(b";")
        moved = [b"%.2f" % (float(price) + 3.25) for price in prices]
        return b";".join([start, *moved, volume]) + b"\n"

    raw = first_sessions(delivery, tmp_path / "raw", 12, shifted)
    other = tmp_path / "lake"
    run(other, "night", raw, "track-record")
    ours, theirs = plan_of(lake, "second"), plan_of(other, "night")
    early = [fold for fold in ours.folds if fold.test.last <= ours.folds[0].test.last]
    assert early
    for one, two in zip(early, theirs.folds, strict=False):
        assert one.key == two.key
        files = [root / layout.track_folder("ES", one.key) / "best_model.safetensors" for root in (lake, other)]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert predictions(lake, one.key).equals(predictions(other, two.key))
    assert ours.folds[-1].key != theirs.folds[-1].key or ours.folds[-1].test.first == theirs.folds[-1].test.first


def test_a_fold_refuses_rows_that_changed_after_the_plan(nights, tmp_path):
    lake, _, _ = nights
    name = plan_of(lake, "second").folds[-1].name
    sessions = lake / "runs" / "second" / layout.LABELLED_SESSIONS
    stored = sessions.read_bytes()
    content = json.loads(stored)
    content["sessions"][-1]["digest"] = "0" * 16
    sessions.write_text(json.dumps(content))
    try:
        with pytest.raises(ArtifactError, match=r"session .*the rows from which the training set was built"):
            pipeline.train_fold(str(lake), "second", name)
    finally:
        sessions.write_bytes(stored)


def test_a_damaged_model_is_trained_again_to_the_same_bits(nights):
    lake, _, _ = nights
    fold = plan_of(lake, "second").folds[-1]
    weights = lake / layout.track_folder("ES", fold.key) / "best_model.safetensors"
    content, stored = weights.read_bytes(), predictions(lake, fold.key)
    weights.write_bytes(content[:-1])
    (lake / layout.fold_predictions_key("ES", fold.key)).unlink()
    assert pipeline.train_fold(str(lake), "second", fold.name).reason == "new"
    assert weights.read_bytes() == content
    assert predictions(lake, fold.key).equals(stored)


def test_a_run_with_fewer_sessions_takes_no_prediction_away(nights, tmp_path):
    lake, _, delivery = nights  # its bars are those of the fewer sessions from here on
    key = plan_of(lake, "second").folds[-1].key
    before = predictions(lake, key)
    run(lake, "again", first_sessions(delivery, tmp_path / "raw", 11), "track-record")
    assert predictions(lake, key).equals(before)
    track = pl.read_parquet(lake / "runs" / "again" / layout.TRACK_RECORD_PREDICTIONS)
    assert track["session"].max() < before["session"].max(), "it does not read sessions that it does not have"


def test_an_unknown_fold_is_refused(nights):
    lake, _, _ = nights
    with pytest.raises(ArtifactError, match="a fold 2020-01-01"):
        pipeline.train_fold(str(lake), "second", "2020-01-01")


def test_another_setting_trains_other_folds_and_a_report_setting_does_not():
    same = preset_key(resolve("nightly", {"evaluation.confidence": 0.9, "training.refit": "nightly"}))
    assert same == preset_key(resolve("nightly"))
    assert len({preset_key(resolve("nightly", {"training.seed": seed})) for seed in (1, 2)}) == 2


def test_too_few_sessions_for_a_fold_end_the_run_at_the_roll_table(nights, tmp_path):
    _, _, delivery = nights
    with pytest.raises(InsufficientSessionsError, match=r"before the first walk-forward fold.*evaluation\.fold=off"):
        run(tmp_path / "lake", "night", delivery, **{"evaluation.min_history_sessions": 20})


@pytest.mark.parametrize(("rule", "last"), [("nightly", "Thursday"), ("weekly", "Friday"), ("on_change", "before")])
def test_refit_rules_choose_the_sessions(nights, rule, last):
    from vpoc_ml.pipeline import fold_stages
    from vpoc_ml.pipeline.run import open_run

    lake, _, _ = nights
    opened = open_run(str(lake), "second")
    training = opened.config.training.model_copy(update={"refit": rule})
    object.__setattr__(opened, "config", opened.config.model_copy(update={"training": training}))
    plan = plan_of(lake, "second")
    days = [each.session for each in fold_stages.refit_sessions(opened, plan)]
    stored = json.loads((lake / "runs" / "second" / layout.LABELLED_SESSIONS).read_text())
    newest = date.fromisoformat(stored["sessions"][-1]["session"])
    if last == "before":
        assert days[-1] < plan.folds[-1].test.first
    elif last == "Friday":
        assert days[-1].weekday() <= 4
        assert days[-1] <= newest
        assert not [day for day in days if day > newest - timedelta(days=(newest.weekday() - 4) % 7)]
    else:
        assert days[-1] == newest


def test_a_registered_model_is_reproduced_to_the_bit(untouched):
    lake = str(untouched)
    pipeline.gate_candidate(lake, "second")
    version = pipeline.decide(lake, "second", NOW).version
    before = {path: path.read_bytes() for path in untouched.glob("runs/second/best_model*")}
    found = pipeline.reproduce(lake, pipeline.run_of_version(lake, version))
    assert (found.version, found.equal, found.differences) == (version, True, ())
    assert {path: path.read_bytes() for path in untouched.glob("runs/second/best_model*")} == before
    weights = untouched / "registry" / "models" / str(version) / "best_model.safetensors"
    assert found.reproduced_weights == hash_file(weights)


def test_a_model_that_was_trained_otherwise_differs(untouched, monkeypatch):
    lake = str(untouched)
    pipeline.gate_candidate(lake, "second")
    version = pipeline.decide(lake, "second", NOW).version

    def another(run, plan, choices, folder):
        return prepare_refit(run, plan, choices.model_copy(update={"epochs": 1.0}), folder)

    monkeypatch.setattr(reproduction, "prepare_refit", another)
    found = pipeline.reproduce(lake, pipeline.run_of_version(lake, version))
    assert not found.equal
    assert [text.split(":")[0] for text in found.differences] == ["fingerprint"]
    assert re.fullmatch(r"best_model\.safetensors, \S+\[\d+\]: was .*, is .*", found.first_difference)
