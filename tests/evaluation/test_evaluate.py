"""A whole evaluation: nothing where there is nothing, something where it was planted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.artifacts.metrics import Interval, read_metrics
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.config import resolve
from vpoc_ml.errors import ArtifactError, InsufficientSessionsError, MissingInputError
from vpoc_ml.evaluation.evaluate import evaluate_model, evaluate_run
from vpoc_ml.evaluation.forecasts import LabelledRows
from vpoc_ml.evaluation.metrics import calibration
from vpoc_ml.models.build import build_model
from vpoc_ml.models.bundle import load_model, save_model

CONFIG = resolve("smoke")
BASELINES = {"constant", "majority", "last_sign", "ridge"}


def test_zero_skill_leaves_zero_inside_the_intervals(make_set, make_run, fake, instrument):
    frame = make_set(strength=0.0, sessions=60)
    metrics = evaluate_model(make_run(frame), CONFIG, fake(frame), instrument=instrument)
    ic = metrics.models["candidate"].rank_ic
    assert ic.low < 0 < ic.high
    for name in BASELINES:
        gain = metrics.versus[name].direction_accuracy_gain
        assert gain.low <= 0, name


def test_planted_skill_shows_against_every_simple_baseline(make_set, make_run, fake, instrument):
    frame = make_set(strength=0.5, sessions=60)
    metrics = evaluate_model(make_run(frame), CONFIG, fake(frame, 0.1), instrument=instrument)
    assert metrics.models["candidate"].rank_ic.low > 0
    for name in BASELINES - {"ridge"}:
        assert metrics.versus[name].direction_accuracy_gain.low > 0, name
    assert metrics.versus["constant"].huber_gain.low > 0
    assert metrics.models["ridge"].rank_ic.low > 0
    assert metrics.backtest.gross > 0
    first, last = metrics.calibration[0], metrics.calibration[-1]
    assert last.realised > first.realised
    assert last.up_share > first.up_share


def test_metrics_file_is_strict_json_of_the_agreed_form(make_set, make_run, fake, instrument):
    frame = make_set(strength=0.3)
    run = make_run(frame)
    metrics = evaluate_model(run, CONFIG, fake(frame), champion=fake(frame, -0.05), instrument=instrument)

    def refuse(text):
        raise AssertionError(text)

    assert json.loads((run / "metrics.json").read_text(), parse_constant=refuse) == metrics.to_json()
    assert read_metrics(run) == metrics
    test = frame.filter(pl.col("split") == "test")
    assert (metrics.rows, metrics.sessions) == (test.height, 8)
    assert metrics.first == test["ts"][0].isoformat()
    assert set(metrics.models) == {"candidate", "champion", *BASELINES}
    assert set(metrics.versus) == {"champion", *BASELINES}
    assert metrics.models["constant"].rank_ic is None
    assert metrics.versus["constant"].rank_ic_gain is None
    assert set(metrics.to_json()["models"]["candidate"]["huber"]) == {"value", "low", "high"}
    assert metrics.zero_return_share == pytest.approx((test["ret"] == 0).mean())


def test_predictions_hold_every_model_on_every_evaluated_row(make_set, make_run, fake, instrument):
    frame = make_set(strength=0.3).with_columns(
        weight=pl.when(pl.int_range(pl.len()) % 50 == 0).then(0.0).otherwise(1.0).cast(pl.Float32)
    )
    run = make_run(frame)
    metrics = evaluate_model(run, CONFIG, fake(frame), champion=fake(frame), instrument=instrument)
    saved = pl.read_parquet(run / "predictions.parquet")
    wanted = frame.filter((pl.col("split") == "test") & (pl.col("weight") == 1))
    assert saved["ts"].equals(wanted["ts"])
    assert metrics.rows == saved.height == wanted.height
    assert {"ts", "contract", "session", "y", "ret", "candidate", "champion", *BASELINES} == set(saved.columns)
    assert np.array_equal(saved["candidate"], saved["champion"])
    assert metrics.versus["champion"].direction_accuracy_gain == Interval(0.0, 0.0, 0.0)


def test_evaluation_is_deterministic(make_set, make_run, fake, instrument):
    frame = make_set(strength=0.2)
    first, again = (
        evaluate_model(make_run(frame, name), CONFIG, fake(frame), instrument=instrument) for name in ("a", "b")
    )
    assert first == again


def test_order_of_the_rows_in_the_file_does_not_matter(make_set, make_run, fake, instrument):
    frame = make_set(strength=0.2)
    first = evaluate_model(make_run(frame, "a"), CONFIG, fake(frame), instrument=instrument)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    assert evaluate_model(make_run(shuffled, "b"), CONFIG, fake(frame), instrument=instrument) == first


def test_champion_with_features_this_run_lacks_is_not_scored(make_set, make_run, fake, instrument):
    frame = make_set()
    stranger = replace(fake(frame), features=("signal", "vwap"))
    metrics = evaluate_model(make_run(frame), CONFIG, fake(frame), champion=stranger, instrument=instrument)
    assert "vwap" in metrics.champion_unscored
    assert "champion" not in metrics.models


def test_candidate_with_features_the_set_lacks_is_an_error(make_set, make_run, fake, instrument):
    frame = make_set()
    with pytest.raises(ArtifactError, match="vwap"):
        evaluate_model(make_run(frame), CONFIG, replace(fake(frame), features=("vwap",)), instrument=instrument)


def test_two_test_sessions_are_too_few(make_set, make_run, fake, instrument):
    frame = make_set(sessions=10)
    with pytest.raises(InsufficientSessionsError, match="test split"):
        evaluate_model(make_run(frame), CONFIG, fake(frame), instrument=instrument)


def test_missing_inputs_are_named(tmp_path, make_set, fake, instrument):
    with pytest.raises(MissingInputError, match="training set"):
        evaluate_model(tmp_path, CONFIG, fake(make_set()), instrument=instrument)
    with pytest.raises(MissingInputError, match="best_model"):
        evaluate_run(tmp_path, CONFIG, instrument=instrument)
    with pytest.raises(MissingInputError, match="metrics"):
        read_metrics(tmp_path)


def test_stored_model_is_evaluated_like_a_loaded_one(make_set, make_run, instrument):
    frame = make_set()
    run = make_run(frame)
    net = build_model(CONFIG.model, NetworkInputs(features=["signal", "noise"], median=[0.0, 0.0], scale=[1.0, 1.0]))
    model_card = ModelCard(features=["signal", "noise"], model=CONFIG.model, zero_rank=0.5)
    stored = load_model(save_model(run, "best_model", net, model_card))
    metrics = evaluate_run(run, CONFIG, champion=stored, instrument=instrument)
    assert metrics == evaluate_model(run, CONFIG, stored, champion=stored, instrument=instrument)
    test = frame.filter(pl.col("split") == "test")
    predicted = stored.predict(test.select("signal", "noise").to_numpy())
    assert np.array_equal(pl.read_parquet(run / "predictions.parquet")["candidate"].to_numpy(), predicted)


@pytest.mark.parametrize(("requested", "charged"), [(None, 5.94), (11.5, 11.5)])
def test_costs_are_the_instruments_own_unless_set(requested, charged, make_set, make_run, fake, instrument):
    frame = make_set(strength=0.3)
    config = resolve("smoke", {} if requested is None else {"evaluation.round_turn_cost": requested})
    cheap = replace(instrument, cost_per_side=2.97, slippage_ticks=0.0)
    found = evaluate_model(make_run(frame), config, fake(frame), instrument=cheap)
    assert found.backtest.round_turn_cost == pytest.approx(charged)


def test_calibration_by_hand():
    rows = LabelledRows(np.array([-1.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.5, 0.8, 0.9]), np.arange(4), 4)
    bins = calibration(np.array([0.4, 0.4, 0.6, 0.6]), rows, bins=2)
    assert [each.model_dump() for each in bins] == [
        {"rows": 2, "prediction": 0.4, "realised": pytest.approx(0.3), "up_share": 0.0},
        {"rows": 2, "prediction": 0.6, "realised": pytest.approx(0.85), "up_share": 1.0},
    ]
    one = calibration(np.full(4, 0.5), rows)
    assert [entry.rows for entry in one] == [4]
