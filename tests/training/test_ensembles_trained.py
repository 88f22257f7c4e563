"""Ensembles and blends from a run folder to a stored model: what was weighed in training is what scores later."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import ndtri

from vpoc_ml.dataset import scalers, targets
from vpoc_ml.dataset.quantiles import quantile_edges
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.bundle import load_model
from vpoc_ml.models.forecaster import Forecaster
from vpoc_ml.models.ridge import fit_ridge
from vpoc_ml.models.stacking import StackRows, apply_stack, fit_stack
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.scoring.batch import ScoringRules, score_bars
from vpoc_ml.training.launch import saving
from vpoc_ml.training.launch.job import train_run

pytestmark = pytest.mark.slow

NAMES = ["mom_60m", "mom_15m", "vwap", "rv_30", "tod_sin"]
QUICK = {"training__epochs": 2, "training__batch_size": 256, "training__warmup_steps": 5, "model__hidden_dims": (8,)}
GROUPS = ("price", "volume", "volatility")
SIGMA = 2e-4


def known_features(folder, planted, target="rank", scaler="none", bins=24):
    """Give the run features of the registry, and what the assembly would fit for its settings."""
    path = folder / "training_set.parquet"
    frame = pl.read_parquet(path).rename({f"f{at}": name for at, name in enumerate(NAMES)})
    statistics = json.loads((folder / "feature_statistics.json").read_text()) | {"features": NAMES}
    train = planted.split == "train"
    returns = ndtri(np.clip(planted.y, 1e-6, 1 - 1e-6)) * SIGMA
    statistics["target_quantiles"] = targets.RankTarget.fit(returns[train]).quantiles()
    if target != "rank":
        fitted = targets.fit_target(target, returns[train], np.full(train.sum(), SIGMA))
        frame = frame.with_columns(pl.Series("target", fitted.apply(returns), dtype=pl.Float32))
        statistics |= {"target": fitted.to_json(), "zero_rank": fitted.zero_score}
    columns = planted.raw[train].T
    if scaler != "none":
        scaling = scalers.fit_scaler(scaler, columns)
        columns = scaling.apply(planted.raw[train]).T
        statistics["scaler"] = scaling.to_artifact().model_dump()
    found = [fit_robust_scaling(column) for column in columns]
    statistics |= {"median": [each.median for each in found], "scale": [each.scale for each in found]}
    statistics["edges"] = [quantile_edges(column, bins) for column in columns]
    frame.write_parquet(path)
    write_json(folder / "feature_statistics.json", statistics)
    return folder


@pytest.fixture
def weighed(monkeypatch):
    """Parts [parts, rows] and weights of each fit, as training saw them."""
    seen = []

    def spy(parts, ranks):
        weights = best_weights(parts, ranks)
        seen.append((parts, weights))
        return weights

    best_weights = saving.best_weights
    monkeypatch.setattr(saving, "best_weights", spy)
    return seen


@pytest.mark.parametrize(
    ("target", "scaler", "model"),
    [
        ("rank", "none", {"members": 2, "groups": GROUPS, "blend": "lightgbm"}),
        ("quantiles", "robust", {"groups": ("all", "price")}),
        ("binary", "none", {"blend": "lightgbm", "kind": "mlp"}),
        ("multiclass", "winsor", {"members": 2, "groups": GROUPS, "kind": "mlp_batchnorm"}),
        ("rank", "none", {"members": 2, "blend": "lightgbm", "kind": "attention", "encoding": "piecewise_linear"}),
    ],
)
def test_scoring_repeats_bit_for_bit_what_training_weighed(make_run, tiny, weighed, target, scaler, model):
    chosen = {f"model__{key}": value for key, value in model.items()}
    folder = known_features(make_run(tiny, **QUICK, **chosen), tiny, target, scaler)
    result = train_run(folder)
    loaded = load_model(folder / "best_model.json")
    parts, weights = weighed[-1]  # the best model's are fitted last
    rows = tiny.split == "validation"
    mixed = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert np.array_equal(loaded.predict(tiny.raw[rows]), mixed)
    assert result.parts == loaded.model_card.parts
    expected = (*model.get("groups", ("all",)), *(["lightgbm"] if "blend" in model else []))
    assert tuple(part.name for part in result.parts) == expected
    assert sum(part.weight for part in result.parts) == pytest.approx(1)
    assert len(result.members) == model.get("members", 1) * len(model.get("groups", "1"))
    assert abs(loaded.zero_rank - 0.5) < 0.05


def test_scored_bars_are_those_predictions(make_run, tiny):
    chosen = {"model__members": 2, "model__groups": GROUPS, "model__blend": "lightgbm"}
    folder = known_features(make_run(tiny, **QUICK, **chosen), tiny)
    train_run(folder)
    loaded = load_model(folder / "best_model.json")
    bars = pl.DataFrame(
        {
            "ts": pl.datetime_range(
                datetime(2025, 3, 3, tzinfo=UTC), interval="1m", eager=True, closed="left",
                end=datetime(2025, 3, 3, 5, tzinfo=UTC), time_unit="us",
            ),
        }
    ).with_columns(contract=pl.lit("ESH25"), session=pl.lit(date(2025, 3, 3)), close=5000.0)  # fmt: skip
    cells = [pl.Series(name, tiny.raw[: bars.height, at]) for at, name in enumerate(NAMES)]
    key, rules = ModelKey("ES", "1m", "rank"), ScoringRules(None, None, None, 0.25)
    given = bars.with_columns(cells)
    scores = score_bars(loaded, given, rules, model_version=1, key=key)
    predicted = loaded.predict(tiny.raw[: bars.height])
    np.testing.assert_allclose(scores.frame["prediction"].to_numpy(), predicted, rtol=1e-6)
    alone = [score_bars(loaded, given[at : at + 1], rules, model_version=1, key=key).frame for at in range(70)]
    assert pl.concat(alone).equals(scores.frame[:70]), "the score of a bar does not depend on the other bars"
    up = loaded.predict(tiny.raw[: bars.height]) > loaded.zero_rank
    assert np.array_equal(scores.frame["direction"].to_numpy() == 1, up)


@pytest.mark.parametrize("kind", ["mlp", "mlp_batchnorm", "attention"])
def test_every_kind_learns(make_run, planter, kind):
    planted = planter(20_000)
    folder = make_run(planted, training__epochs=4, training__batch_size=256, model__kind=kind, model__hidden_dims=(16,))
    result = train_run(folder)
    assert result.best_validation_loss < result.validation_constant
    assert planted.captured(load_model(folder / "best_model.json").predict(planted.raw)) > 0.7


def test_members_and_trees_do_not_do_worse_than_one_net(make_run, planter):
    planted = planter(20_000)
    more = {"model__members": 4, "model__blend": "lightgbm"}
    error = {}
    for name, chosen in {"one": {}, "more": more}.items():
        folder = make_run(planted, name, training__epochs=3, **chosen)
        train_run(folder)
        scores = load_model(folder / "best_model.json").predict(planted.raw)
        test = planted.split == "test"
        error[name] = np.square(planted.y - scores)[test].mean()
    assert error["more"] < error["one"]


def test_the_same_run_gives_the_same_bytes_and_a_resumed_one_too(make_run, tiny):
    chosen = {"model__kind": "mlp_batchnorm", "model__members": 2, "model__groups": GROUPS, "model__blend": "lightgbm"}
    whole = known_features(make_run(tiny, "whole", **QUICK, **chosen), tiny)
    train_run(whole)
    half = known_features(make_run(tiny, "half", **QUICK, **chosen), tiny)

    class Killed(Exception):
        pass

    def kill(line):
        if line.kind == "window" and line.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_run(half, on_progress=kill)
    result = train_run(half)
    assert result.resumed_from_step > 0
    for name in ("best_model.safetensors", "final_model.safetensors"):
        assert (half / name).read_bytes() == (whole / name).read_bytes()
    assert result.to_json()["parts"] == json.loads((whole / "training_result.json").read_text())["parts"]


def test_a_dead_group_does_not_make_the_model_dead(make_run, planter):
    planted = planter(6_000)
    planted.raw[:, 2] = 7.0  # the only feature of volume, and the calendar's
    planted.raw[:, 4] = 7.0
    folder = known_features(make_run(planted, **QUICK, model__groups=GROUPS), planted)
    result = train_run(folder)
    assert not result.dead
    assert [part.name for part in result.parts] == list(GROUPS)


def test_settings_of_one_net_store_no_parts(make_run, tiny):
    folder = make_run(tiny, **QUICK)
    assert train_run(folder).parts is None
    model_card = load_model(folder / "best_model.json").model_card
    assert model_card.parts is None
    assert model_card.groups is None
    assert model_card.model.members == 1


@pytest.mark.parametrize(("independent", "constant"), [(200.0, False), (12.0, True)])
def test_few_validation_sessions_give_a_network_no_weight_in_a_stack(make_run, tiny, independent, constant):
    """12 sessions have chosen its epoch, and are too few to compare it with ridge.

    Where all labels of a session are one, they are too few for a slope too.
    """
    learners = ("ridge", "lightgbm", "net")
    folder = known_features(make_run(tiny, **QUICK, model__learners=learners), tiny)
    path = folder / "training_set.parquet"
    sessions = pl.int_range(pl.len()).cast(pl.Int32) // (tiny.y.size // 60)
    pl.read_parquet(path).with_columns(session=sessions.cast(pl.Date)).write_parquet(path)
    statistics = json.loads((folder / "feature_statistics.json").read_text())
    write_json(folder / "feature_statistics.json", statistics | {"effective_rows": {"validation": independent}})
    result = train_run(folder)
    weights = {part.name: part.weight for part in result.parts}
    assert weights["all"] == 0
    assert weights["ridge"] + weights["lightgbm"] == pytest.approx(1)
    assert (result.slope == 0) is constant


@pytest.mark.parametrize("learners", [("ridge", "net"), ("lightgbm", "net"), ("net", "lightgbm", "ridge")])
def test_a_trained_stack_scores_what_was_fitted_on_validation(make_run, tiny, learners):
    folder = known_features(make_run(tiny, **QUICK, model__members=2, model__learners=learners), tiny)
    path = folder / "training_set.parquet"
    sessions = pl.int_range(pl.len()).cast(pl.Int32) // (tiny.y.size // 150)
    pl.read_parquet(path).with_columns(session=sessions.cast(pl.Date)).write_parquet(path)
    result = train_run(folder)
    loaded = load_model(folder / "best_model.json")
    names = ["all", *(name for name in ("ridge", "lightgbm") if name in learners)]
    assert [part.name for part in result.parts] == names
    rows = tiny.split == "validation"
    with torch.inference_mode():
        guarded = loaded.net.guard(torch.tensor(tiny.raw))
        parts = Forecaster(loaded.net.body, None, loaded.trees, ridge=loaded.ridge).parts(guarded)
    days = pl.read_parquet(path)["session"].cast(pl.Int32).to_numpy()
    held = StackRows.of(parts[:, rows], tiny.y[rows].astype(np.float32).astype(float), days[rows], names)
    stack = fit_stack(held, validation=True)
    assert [part.weight for part in stack.parts] == pytest.approx([part.weight for part in result.parts], abs=1e-6)
    assert loaded.model_card.slope == pytest.approx(stack.slope, abs=1e-6)
    assert stack.slope > 0
    assert loaded.predict(tiny.raw) == pytest.approx(apply_stack(stack, parts), abs=1e-6)
    if loaded.ridge is not None:
        train = tiny.split == "train"
        fitted = fit_ridge(*((guarded[part].numpy(), tiny.y[part]) for part in (train, rows)))
        assert loaded.ridge.values == pytest.approx(fitted.values, abs=1e-5)
