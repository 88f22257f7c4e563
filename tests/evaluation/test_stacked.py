"""The stack of a track record: earlier sessions choose, and only they."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata

from vpoc_ml.artifacts import layout
from vpoc_ml.config import resolve
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.fold_predictions import predict_fold
from vpoc_ml.evaluation.stacked import part_names, stack_after, stacked_track
from vpoc_ml.evaluation.walk_forward import evaluate_track, track_record
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.stacking import ENOUGH_SESSIONS, StackRows, apply_stack, fit_stack
from vpoc_ml.reports.run_report import ReportContext, write_report

from .conftest import plan_of

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
    fitted = baselines.fit_baselines(train, validation, ["signal", "noise"], 0.5, trees=True)
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


def sessions_of(track):
    return track["session"].unique().sort()


def stack_of(rows):
    session = rows["session"].rank("dense").cast(pl.Int64).to_numpy()
    scores = rows.select("part_ridge", "part_all").to_numpy().T
    return fit_stack(StackRows.of(scores, rows["y"].to_numpy(), session, ("ridge", "all")), DELTA)


def test_earlier_sessions_choose_the_learner_that_was_right(track):
    stacked, stacks = stacked_track(track, DELTA)
    assert list(stacks) == sessions_of(track)[21:].to_list(), "a week that begins after 20 sessions is the first one"
    assert all(weights(stack)["ridge"] > 0.95 for stack in stacks.values())
    kept = ~pl.col("session").is_in(list(stacks))
    assert stacked.filter(kept).equals(track.filter(kept))
    untouched = pl.exclude("candidate", "candidate_zero")
    assert stacked.select(untouched).equals(track.select(untouched))


def test_scores_and_thresholds_are_those_of_the_stack(track):
    stacked, stacks = stacked_track(track, DELTA)
    week = sessions_of(track)[42:49]
    expected = stack_of(track.filter(pl.col("session") < week[0]))
    rows = stacked.filter(pl.col("session").is_in(week.implode()))
    assert {stacks[day].sessions for day in week} == {42}
    assert weights(stacks[week[6]]) == pytest.approx(weights(expected), abs=1e-9)
    assert stacks[week[0]].slope == pytest.approx(expected.slope, abs=1e-7)
    scores = rows.select("part_ridge", "part_all").to_numpy().T
    assert rows["candidate"].to_list() == apply_stack(stacks[week[0]], scores).tolist()
    zero = 0.5 + expected.slope * (0.48 * weights(expected)["ridge"] + 0.52 * weights(expected)["all"] - 0.5)
    assert rows["candidate_zero"].to_list() == pytest.approx([zero] * rows.height)


def test_only_the_newest_sessions_count(track, monkeypatch):
    monkeypatch.setattr("vpoc_ml.evaluation.stacked.STACK_SESSIONS", 25)
    days = sessions_of(track)
    stack = stacked_track(track, DELTA)[1][days[42]]
    expected = stack_of(track.filter(pl.col("session").is_between(days[17], days[41])))
    assert (stack.sessions, stack.slope) == (25, pytest.approx(expected.slope, abs=1e-7))


@pytest.mark.parametrize("first", [42, 45])
def test_labels_of_the_week_and_later_ones_change_nothing(track, first):
    days = sessions_of(track)
    later = pl.col("session") >= days[first]
    other = track.with_columns(pl.when(later).then(1 - pl.col("y")).otherwise("y").alias("y"))
    known, found = (stacked_track(each, DELTA)[1] for each in (track, other))
    assert all(found[day] == known[day] for day in days[21:49])
    assert found[days[49]] != known[days[49]]


def test_a_label_that_ends_in_the_week_does_not_count(track):
    """Session by session: the last session before the week has a label that ends in the week."""
    days = sessions_of(track)
    late = pl.when(pl.col("session") == days[41]).then(pl.col("label_end") + timedelta(days=3)).otherwise("label_end")
    known, found = (stacked_track(each, DELTA)[1] for each in (track, track.with_columns(label_end=late)))
    assert [known[day].sessions for day in days[42:56:7]] == [42, 49]
    assert [found[day].sessions for day in days[42:56:7]] == [41, 49]


def test_sessions_with_few_before_them_keep_their_weights(track):
    few = track.filter(pl.col("session") < sessions_of(track)[25])
    assert ENOUGH_SESSIONS == 20
    assert len(stacked_track(few, DELTA)[1]) == 4
    stacked, stacks = stacked_track(few, DELTA, enough=22)
    assert stacks == {}
    assert stacked.equals(few)


def test_a_fold_of_a_model_without_parts_keeps_its_candidate(track):
    lost = pl.col("fold") == "B"
    holed = track.with_columns(pl.when(lost).then(None).otherwise(name).alias(name) for name in ("part_all",))
    stacked, stacks = stacked_track(holed, DELTA)
    days = sessions_of(track)
    assert list(stacks) == [*days[21:30], *days[55:]]
    found = [stacks[days[at]].sessions for at in (55, 62)]
    assert found == [SIZES[0], SIZES[0] + 1], "its sessions cannot choose either"
    assert stacked.filter(lost)["candidate"].to_list() == track.filter(lost)["candidate"].to_list()


def test_without_parts_there_is_no_stack(track):
    plain = track.select(pl.exclude("^part_.*$"))
    assert part_names(plain) == ()
    assert stacked_track(plain, DELTA)[0].equals(plain)


def test_the_shipped_stack_is_that_of_the_next_week(track):
    days, stacks = sessions_of(track), stacked_track(track, DELTA)[1]
    assert stack_after(track, days[48], DELTA) == stacks[days[49]]
    assert stack_after(track, days[64], DELTA).sessions == len(days), "all labels are known after the newest session"
    late = track.with_columns(pl.col("label_end") + timedelta(days=1))
    assert stack_after(late, days[48], DELTA).sessions == 48
    assert stack_after(track, days[18], DELTA) is None


@pytest.mark.slow
def test_the_report_shows_the_stack_of_each_fold_and_every_learner_alone(track, tmp_path, instrument):
    stacked, stacks = stacked_track(track, DELTA)
    folds, models = plan_of(stacked, parts={"ridge": 0.0, "all": 1.0}, slope=0.5)
    record = track_record(stacked, folds, models, stacks, "settings", CONFIG)
    write_json(tmp_path / layout.TRACK_RECORD, record.to_json())
    evaluate_track(tmp_path, stacked, "settings", CONFIG, instrument, train_rows=1000)
    page = write_report(tmp_path, CONFIG, ReportContext(instrument, pl.DataFrame(), {})).read_text()
    assert page.count("slope&nbsp;") == 3
    for fold, metrics in zip(folds, record.folds, strict=True):
        newest = stacks[fold.test.last]
        assert (metrics.slope, metrics.weights["net"]) == (newest.slope, weights(newest)["all"])
        assert f"ridge&nbsp;{weights(newest)['ridge']:.2f}" in page
    for name, ranked in (("net", False), ("ridge", True)):
        alone = rankdata(stacked["part_all" if name == "net" else "part_ridge"].to_numpy())
        ic = np.corrcoef(alone, rankdata(stacked["ret"].to_numpy()))[0, 1]
        assert record.learners[name].rank_ic.value == pytest.approx(ic)
        assert (record.learner_gains[name].huber_gain.low > 0) is ranked
        assert f"{ic:.4f} <small>" in page
    assert "Skill against training sessions" in page
