"""The stack of a track record: earlier folds choose, and only they."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.track_record import Fold, FoldModel, Period
from vpoc_ml.config import resolve
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.fold_predictions import predict_fold
from vpoc_ml.evaluation.stacked import earlier_stack, part_names, stacked_track
from vpoc_ml.evaluation.walk_forward import evaluate_track, track_record
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.stacking import ENOUGH_SESSIONS, apply_stack, fit_stack
from vpoc_ml.reports.run_report import ReportContext, write_report

SIZES = (30, 25, 10)
"""Test sessions of the folds."""
DELTA = 0.1
CONFIG = resolve("smoke")
QUANTILES = tuple(np.linspace(-0.002, 0.002, 1001))


@dataclass(frozen=True)
class TwoParts:
    """Ridge sees the signal and the network only noise, but the model prefers the network."""

    zero_rank: float = 0.5
    features: tuple[str, ...] = ("signal", "noise")
    part_zero_ranks: dict[str, float] = field(default_factory=lambda: {"ridge": 0.48, "all": 0.52})

    def parts(self, features: np.ndarray) -> np.ndarray:
        return 0.5 + 0.02 * np.tanh(features.astype(np.float64).T)

    def mixed(self, parts: np.ndarray) -> np.ndarray:
        return parts[1]

    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.mixed(self.parts(features))


@pytest.fixture
def track(make_set):
    """Three folds of a model whose own weights are wrong."""
    rows = make_set(strength=0.5, sessions=20, seed=3).filter(pl.col("split") != "test")
    train, validation = (rows.filter(pl.col("split") == name) for name in ("train", "validation"))
    fitted = baselines.fit_baselines(train, validation, ["signal", "noise"], 0.5)
    frame = make_set(strength=0.5, sessions=sum(SIZES)).with_columns(ret_close="ret")
    made = predict_fold(frame, TwoParts(), fitted, QUANTILES)
    names = pl.DataFrame({"session": made["session"].unique().sort()})
    names = names.with_columns(fold=pl.Series(np.repeat(["A", "B", "C"], SIZES)))
    return made.join(names, on="session", maintain_order="left")


def weights(stack):
    return {part.name: part.weight for part in stack.parts}


def test_a_track_record_holds_the_parts_of_a_mixed_model(track):
    assert part_names(track) == ("ridge", "all")
    assert set(track["part_ridge_zero"]) == {0.48}
    assert track["part_all"].to_list() == track["candidate"].to_list()


def test_earlier_folds_choose_the_learner_that_was_right(track):
    stacked, stacks = stacked_track(track, DELTA)
    assert list(stacks) == ["B", "C"], "nothing lies before the first fold, so it keeps its own weights"
    assert all(weights(stack)["ridge"] > 0.95 for stack in stacks.values())
    kept = pl.col("fold") == "A"
    assert stacked.filter(kept).equals(track.filter(kept))
    untouched = pl.exclude("candidate", "candidate_zero")
    assert stacked.select(untouched).equals(track.select(untouched))


def test_scores_and_thresholds_are_those_of_the_stack(track):
    stacked, stacks = stacked_track(track, DELTA)
    before, rows = track.filter(pl.col("fold") < "C"), stacked.filter(pl.col("fold") == "C")
    columns = ["part_ridge", "part_all"]
    session = before["session"].rank("dense").cast(pl.Int64).to_numpy()
    expected = fit_stack(before[columns].to_numpy().T, before["y"].to_numpy(), session, ("ridge", "all"), 0.5, DELTA)
    assert stacks["C"] == expected
    assert rows["candidate"].to_list() == apply_stack(expected, rows[columns].to_numpy().T).tolist()
    zero = 0.5 + expected.slope * (0.48 * weights(expected)["ridge"] + 0.52 * weights(expected)["all"] - 0.5)
    assert rows["candidate_zero"].to_list() == pytest.approx([zero] * rows.height)


def test_labels_of_the_fold_and_later_ones_change_nothing(track):
    later = pl.col("fold") >= "B"
    other = track.with_columns(pl.when(later).then(1 - pl.col("y")).otherwise("y").alias("y"))
    assert stacked_track(other, DELTA)[1]["B"] == stacked_track(track, DELTA)[1]["B"]


def test_a_label_that_ends_in_the_fold_does_not_count(track):
    """Session by session: the last session before the fold has a label that ends in the fold."""
    last = pl.col("session") == track.filter(pl.col("fold") == "A")["session"].max()
    late = pl.when(last).then(pl.col("label_end") + timedelta(days=9)).otherwise("label_end")
    overlapping = track.with_columns(label_end=late)
    assert stacked_track(overlapping, DELTA)[1]["B"].sessions == SIZES[0] - 1
    assert stacked_track(track, DELTA)[1]["B"].sessions == SIZES[0]


def test_a_fold_with_few_sessions_before_it_keeps_its_weights(track):
    few = track.filter(pl.col("session").is_in(track["session"].unique().sort().tail(SIZES[2] + 19).implode()))
    assert ENOUGH_SESSIONS == 20
    stacked, stacks = stacked_track(few, DELTA)
    assert stacks == {}
    assert stacked.equals(few)
    assert list(stacked_track(few, DELTA, enough=19)[1]) == ["C"]


def test_a_fold_of_a_model_without_parts_keeps_its_candidate(track):
    lost = pl.col("fold") == "B"
    holed = track.with_columns(pl.when(lost).then(None).otherwise(name).alias(name) for name in ("part_all",))
    stacked, stacks = stacked_track(holed, DELTA)
    assert list(stacks) == ["C"]
    assert stacks["C"].sessions == SIZES[0], "its sessions cannot choose either"
    assert stacked.filter(lost)["candidate"].to_list() == track.filter(lost)["candidate"].to_list()


def test_without_parts_there_is_no_stack(track):
    plain = track.select(pl.exclude("^part_.*$"))
    assert part_names(plain) == ()
    assert earlier_stack(plain, plain["ts"].max(), DELTA) is None
    assert stacked_track(plain, DELTA)[0].equals(plain)


@pytest.mark.slow
def test_the_report_shows_the_stack_of_each_fold_and_every_learner_alone(track, tmp_path, instrument):
    stacked, stacks = stacked_track(track, DELTA)
    folds, models = folds_of(stacked)
    record = track_record(stacked, folds, models, stacks, "settings", CONFIG)
    write_json(tmp_path / layout.TRACK_RECORD, record.to_json())
    evaluate_track(tmp_path, stacked, "settings", CONFIG, instrument, train_rows=1000)
    page = write_report(tmp_path, CONFIG, ReportContext(instrument, pl.DataFrame(), {})).read_text()
    assert page.count("slope&nbsp;") == 3
    assert "net&nbsp;1.00" in page, "the first fold keeps its weights"
    assert f"ridge&nbsp;{weights(stacks['C'])['ridge']:.2f}" in page
    for name, ranked in (("net", False), ("ridge", True)):
        alone = rankdata(stacked["part_all" if name == "net" else "part_ridge"].to_numpy())
        ic = np.corrcoef(alone, rankdata(stacked["ret"].to_numpy()))[0, 1]
        assert record.learners[name].rank_ic.value == pytest.approx(ic)
        assert (record.learner_gains[name].huber_gain.low > 0) is ranked
        assert f"{ic:.4f} <small>" in page
    assert "Skill against training sessions" in page


def folds_of(track):
    """The folds of a track record, and records of their models, whose own weights are on the network."""
    folds, models = [], {}
    for number, name in enumerate(track["fold"].unique(maintain_order=True)):
        days = track.filter(pl.col("fold") == name)["session"].unique().sort()
        test = Period(first=days[0], last=days[-1], sessions=len(days))
        window = Period(first=date(2024, 1, 1), last=date(2024, 12, 31), sessions=100 + number)
        folds.append(Fold(name=name, key=name.lower(), train=window, validation=window, test=test))
        own = {"ridge": 0.0, "all": 1.0}
        models[name] = FoldModel.model_construct(best_epoch=3, preset="smoke", train_rows=9, parts=own, slope=0.5)
    return folds, models
