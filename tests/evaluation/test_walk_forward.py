"""The track record: stored predictions, metrics of folds, policies of earlier folds only, the champion's rows."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.metrics import read_metrics
from vpoc_ml.config import resolve
from vpoc_ml.evaluation import baselines
from vpoc_ml.evaluation.fold_predictions import LEARNERS, predict_fold
from vpoc_ml.evaluation.walk_forward import evaluate_track, forecasts_of, policies_by_fold, policy_by_fold, track_record

from .conftest import plan_of

CONFIG = resolve("smoke")
QUANTILES = tuple(np.linspace(-0.002, 0.002, 1001))
SIZES = (20, 12, 8)
"""Test sessions of the folds; the training rows come before."""


@pytest.fixture
def fitted(make_set):
    rows = make_set(strength=0.5, sessions=20, seed=3).filter(pl.col("split") != "test")
    train, validation = (rows.filter(pl.col("split") == name) for name in ("train", "validation"))
    return baselines.fit_baselines(train, validation, ["signal", "noise"], 0.5, trees=True)


@pytest.fixture
def track(make_set, fake, fitted):
    """A track record of three folds, in which the first feature predicts the return."""
    frame = make_set(strength=0.5, sessions=sum(SIZES))
    sessions = frame["session"].unique().sort().to_list()
    parts, begin = [], 0
    for number, size in enumerate(SIZES):
        rows = frame.filter(pl.col("session").is_in(sessions[begin : begin + size]))
        model = fake(frame, 0.05 + 0.01 * number)
        found = predict_fold(rows.with_columns(ret_close="ret"), model, fitted, QUANTILES)
        parts.append(found.with_columns(fold=pl.lit(f"F{number}")))
        begin += size
    return pl.concat(parts)


def test_stored_predictions_give_the_forecasts_back(make_set, fake, fitted):
    frame = make_set(strength=0.5, sessions=4).with_columns(ret_close="ret")
    model = fake(frame, 0.05)
    holed = frame.with_columns(ret=pl.when(pl.int_range(pl.len()) == 5).then(float("nan")).otherwise("ret"))
    stored = predict_fold(holed, model, fitted, QUANTILES)
    assert stored.height == frame.height - 1, "a row without a return is no part of the record"
    known = frame.with_row_index().filter(pl.col("index") != 5)
    candidate, *others = forecasts_of(stored)
    assert np.array_equal(candidate.rank, np.float64(model.predict(known.select(model.features).to_numpy())))
    assert np.all(candidate.zero_rank == model.zero_rank)
    for ours, direct in zip(others, baselines.forecasts(fitted, known), strict=True):
        assert (ours.name, ours.direction_only, ours.ranked) == (direct.name, direct.direction_only, direct.ranked)
        assert np.array_equal(ours.rank, direct.rank)
        assert np.array_equal(ours.direction, direct.direction)


def test_the_target_of_a_row_is_its_rank_among_the_training_returns(make_set, fake, fitted):
    frame = make_set(strength=0.5, sessions=4).with_columns(ret_close="ret", ret=pl.lit(0.001))
    assert predict_fold(frame, fake(frame), fitted, QUANTILES)["y"].to_list() == pytest.approx([0.75] * frame.height)


def test_metrics_of_each_fold_are_those_of_its_rows(track):
    folds, models = plan_of(track)
    record = track_record(track, folds, models, {}, "settings", CONFIG)
    assert [(each.rows, each.sessions) for each in record.folds] == [(200 * size, size) for size in SIZES]
    for each in record.folds:
        alone = track.filter(pl.col("fold") == each.fold.name)
        hits = np.sign(alone["candidate"] - alone["candidate_zero"]) == np.sign(alone["ret"])
        moved = alone["ret"].to_numpy() != 0
        assert each.models["candidate"].direction_accuracy.value == pytest.approx(hits.to_numpy()[moved].mean())
        assert each.models["constant"].rank_ic is None
        assert each.versus["constant"].direction_accuracy_gain.value > 0


def test_cumulated_gains_add_up_to_the_losses_saved(track):
    folds, models = plan_of(track)
    record = track_record(track, folds, models, {}, "settings", CONFIG)
    assert set(record.cumulative) == {"constant", "last_sign", "ridge", "lightgbm"}

    def loss(name: str) -> pl.DataFrame:
        error = (pl.col(name) - pl.col("y")).abs()
        delta = CONFIG.evaluation.huber_delta
        huber = pl.when(error <= delta).then(error**2 / 2).otherwise(delta * (error - delta / 2))
        return track.group_by("session").agg(huber.mean().alias("loss")).sort("session")

    saved = loss("ridge")["loss"] - loss("candidate")["loss"]
    assert [each.gain for each in record.cumulative["ridge"]] == pytest.approx(saved.cum_sum().to_list())


def test_a_short_fold_has_no_intervals(track):
    two = track.filter(pl.col("session").is_in(track["session"].unique().sort().tail(2).implode()))
    folds, models = plan_of(two)
    (only,) = track_record(two, folds, models, {}, "settings", CONFIG).folds
    assert (only.sessions, only.models, only.versus) == (2, {}, {})


def test_metrics_of_the_track_record_cover_all_folds(track, tmp_path, instrument):
    metrics = evaluate_track(tmp_path, track, "settings", CONFIG, instrument, train_rows=1000)
    assert read_metrics(tmp_path) == metrics
    assert (metrics.rows, metrics.sessions, metrics.folds) == (track.height, sum(SIZES), 3)
    assert (metrics.preset_key, metrics.train_rows, metrics.champion_unscored) == ("settings", 1000, None)
    assert set(metrics.models) == set(LEARNERS)
    assert metrics.candidate.rank_ic.low > 0
    assert len(metrics.policy.daily) == sum(SIZES[1:]), "the first fold only chooses"


def test_the_champion_is_compared_on_the_rows_that_it_predicted_out_of_sample(track, tmp_path, instrument):
    late = track["session"].unique().sort().tail(10)
    rows = track.filter(pl.col("session").is_in(late.implode()))
    champion = rows.select(
        "ts", "contract", champion=1 - pl.col("candidate"), champion_zero=1 - pl.col("candidate_zero")
    )
    metrics = evaluate_track(tmp_path, track, "s", CONFIG, instrument, champion=champion, train_rows=1)
    assert (metrics.champion_sessions, metrics.sessions) == (10, sum(SIZES))
    hit = np.sign(rows["candidate"] - rows["candidate_zero"]) == np.sign(rows["ret"])
    share = hit.to_numpy()[rows["ret"].to_numpy() != 0].mean()
    gain = metrics.versus["champion"].direction_accuracy_gain
    assert gain.value == pytest.approx(2 * share - 1), "an opposite forecast is wrong where the candidate is right"
    assert gain.low > 0


def test_a_champion_with_too_few_such_rows_is_not_compared(track, tmp_path, instrument):
    rows = track.filter(pl.col("session") == track["session"].max())
    champion = rows.select("ts", "contract", champion="candidate", champion_zero="candidate_zero")
    metrics = evaluate_track(tmp_path, track, "s", CONFIG, instrument, champion=champion, train_rows=1)
    assert "champion" not in metrics.models
    assert "cover 1 of the track record's 40 sessions" in metrics.champion_unscored


def test_no_policy_knows_the_fold_that_it_trades(track, instrument):
    """Other returns and prices of the newest fold change nothing in the folds before it."""
    candidate = forecasts_of(track)[0]
    newest = pl.col("fold") == "F2"
    flipped = track.with_columns(
        exit_price=pl.when(newest).then(2 * pl.col("entry_price") - pl.col("exit_price")).otherwise("exit_price"),
        ret=pl.when(newest).then(-pl.col("ret")).otherwise("ret"),
    )
    before, after = (policy_by_fold(each, candidate, CONFIG, instrument) for each in (track, flipped))
    middle = SIZES[1]
    assert before.daily[:middle] == after.daily[:middle]
    assert before.policy == after.policy, "the newest choice is made on the folds before the newest one"


def test_no_policy_knows_a_label_that_ends_in_the_fold_that_it_trades(track, instrument):
    """Labels that end a session later: those of the last session before a fold are not known when it begins."""
    days = track["session"].unique().sort()
    later = pl.DataFrame({"session": days, "label_end": days.shift(-1).fill_null(days[-1] + timedelta(days=1))})
    ends = later.with_columns(pl.col("label_end").cast(pl.Datetime("us", "UTC")) + timedelta(hours=22))
    over = track.drop("label_end").join(ends, on="session").sort("ts")
    known, found = (policies_by_fold(each, forecasts_of(each)[0], CONFIG, instrument) for each in (track, over))
    assert [policy.sessions for policy in known.values()] == [20, 32]
    assert [policy.sessions for policy in found.values()] == [19, 31]


def test_a_single_fold_is_cut_into_halves(track, instrument):
    one = track.filter(pl.col("fold") == "F0")
    policy = policy_by_fold(one, forecasts_of(one)[0], CONFIG, instrument)
    assert (policy.policy.sessions, len(policy.daily)) == (10, 10)
    few = one.filter(pl.col("session").is_in(one["session"].unique().sort().head(4).implode()))
    assert policy_by_fold(few, forecasts_of(few)[0], CONFIG, instrument) is None
