"""Kinds of target: numbers by hand, slow oracles, and what all kinds promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer

from vpoc_ml.config import DatasetConfig, resolve
from vpoc_ml.config.choices import Target
from vpoc_ml.dataset.targets import KINDS, RankTarget, fit_target, target_from_json
from vpoc_ml.errors import InputError, InvalidValueError
from vpoc_ml.evaluation.evaluate import rank_of_zero

TICK = 0.25 / 5000
HUBER = [name for name, kind in KINDS.items() if kind.loss == "huber"]


def market(rows: int = 6_000, seed: int = 1, drift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns on the tick grid, a tenth of them zero, and the volatility known before each."""
    rng = np.random.default_rng(seed)
    volatility = 2e-4 * np.exp(rng.normal(0, 0.5, rows))
    returns = np.round((rng.standard_t(4, rows) * volatility + drift) / TICK) * TICK
    returns[::97] = np.nan
    return returns, volatility


def test_every_kind_can_be_chosen_and_no_other():
    assert {Target.model_validate(text).kind for text in Target.examples()} == set(KINDS)
    with pytest.raises(InvalidValueError, match="one of rank, rank_gauss"):
        fit_target("price", np.zeros(3))
    with pytest.raises(InvalidValueError, match="one of rank"):
        target_from_json({"kind": "price"})


@pytest.mark.parametrize("kind", KINDS)
def test_no_finite_return_is_an_error(kind):
    with pytest.raises(InputError, match=r"training rows with a label; found none\. Shorten dataset\.horizon"):
        fit_target(kind, np.array([np.nan, np.inf]), np.ones(2))


# ---------------------------------------------------------------- what all kinds promise


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(ticks=st.lists(st.integers(-5, 5), min_size=2, max_size=50).filter(lambda t: len(set(t)) > 1))
def test_targets_rise_with_the_return_and_are_missing_with_it_only(kind, ticks):
    returns = np.array(ticks) * TICK
    volatility = np.full(returns.size, 2 * TICK)
    try:
        target = fit_target(kind, returns, volatility)
    except InvalidValueError:
        assert kind == "multiclass"
        return
    probe = np.array([*np.linspace(-20, 20, 81) * TICK, np.nan, np.inf])
    found = target.apply(probe, np.full(probe.size, 2 * TICK))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(probe))
    assert (np.diff(found[:-2]) >= 0).all()
    assert found[80] > found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_json_holds_everything(kind):
    returns, volatility = market()
    target = fit_target(kind, returns, volatility)
    again = target_from_json(json.loads(json.dumps(target.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.apply(returns, volatility), target.apply(returns, volatility))
    assert (again.start, again.zero_score, again.outputs) == (target.start, target.zero_score, target.outputs)
    outputs = np.random.default_rng(2).normal(size=(50, target.outputs)).squeeze()
    np.testing.assert_array_equal(again.score(outputs), target.score(outputs))


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_constant_scores_the_mean_rank(kind):
    target = fit_target(kind, *market(drift=1e-5))
    start = np.tile(target.start, (3, 1))
    scores = target.score(start[:, 0] if target.outputs == 1 else start)
    np.testing.assert_allclose(scores, 0.5, atol=2e-3)
    assert scores.shape == (3,)


def mean_loss(target, outputs: np.ndarray, y: np.ndarray) -> float:
    """The loss of one constant prediction, written out."""
    if target.loss == "bce":
        return float(np.mean(np.logaddexp(0, outputs[0]) - y * outputs[0]))
    if target.loss == "cross_entropy":
        logs = outputs - np.log(np.exp(outputs).sum())
        return float(-np.mean(logs[y.astype(int)]))
    error = y[:, None] - outputs
    return float(np.maximum(target.levels * error, (target.levels - 1) * error).mean())


@pytest.mark.parametrize("kind", ["binary", "multiclass", "quantiles"])
def test_no_constant_has_a_lower_loss_than_the_start(kind):
    returns, _ = market()
    returns = returns[np.isfinite(returns)]
    target = fit_target(kind, returns)
    y, start = target.apply(returns), np.array(target.start)
    least = mean_loss(target, start, y)
    for index in range(start.size):
        for step in (-0.05, 0.05):
            moved = start.copy()
            moved[index] += step
            assert mean_loss(target, moved, y) > least


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_above_the_threshold_says_up(kind):
    returns, volatility = market()
    target = fit_target(kind, returns, volatility)
    up, down = {
        "bce": (np.array([0.1]), np.array([-0.1])),
        "cross_entropy": (np.array([[0.0, 0.0, 0.5]]), np.array([[0.5, 0.0, 0.0]])),
        "pinball": (np.array(target.start)[None] + 0.02, np.array(target.start)[None] - 0.02),
        "huber": (np.array([target.zero_score + 1e-3]), np.array([target.zero_score - 1e-3])),
    }[target.loss]
    assert target.score(down)[0] < target.zero_score < target.score(up)[0]


@pytest.mark.parametrize("kind", [*HUBER, "quantiles"])
def test_a_known_drift_is_scored_with_about_the_rank_it_brings(kind):
    """Half of the rows drift up, half down; the score of the conditional mean against the mean rank that follows."""
    rng = np.random.default_rng(4)
    volatility = 2e-4 * np.exp(rng.normal(0, 0.3, 40_000))
    side = np.where(np.arange(40_000) % 2, 1.0, -1.0)
    returns = rng.standard_t(5, 40_000) * volatility + side * 4e-5
    target, ranks = fit_target(kind, returns, volatility), RankTarget.fit(returns).apply(returns)
    y = target.apply(returns, volatility)
    for here in (side > 0, side < 0):
        if kind == "quantiles":
            score = target.score(np.quantile(y[here], target.levels)[None])[0]
        else:
            score = target.score(y[here].mean()[None])[0]
        assert score - 0.5 == pytest.approx(ranks[here].mean() - 0.5, rel=0.15)


# ---------------------------------------------------------------- each kind


def test_rank_threshold_is_that_of_the_evaluation():
    returns, _ = market(drift=3e-5)
    known = returns[np.isfinite(returns)]
    assert rank_of_zero(known) == RankTarget.fit(returns).zero_score != 0.5


def quantity_of(target, outputs):
    """What outputs say in the unit of the target's quantity: its line, read backwards."""
    return target.centre + (outputs - 0.5) / target.slope


def test_return_is_a_line_of_the_clipped_log_return():
    returns, _ = market()
    returns[5] = 0.4
    target = fit_target("return", returns)
    finite = np.isfinite(returns)
    found = quantity_of(target, target.apply(returns))
    np.testing.assert_allclose(found[finite], np.clip(returns[finite], -0.1, 0.1), atol=1e-12)
    assert target.apply(returns[finite]).mean() == pytest.approx(0.5)


def test_slope_is_the_rise_of_the_mean_rank_counted_row_by_row():
    returns = np.array([-3.0, -1.0, 0.0, 0.0, 2.0, 4.0]) * 1e-4
    target = fit_target("return", returns)
    step = float(np.subtract(*np.percentile(returns, [75, 25])) / 1.3489795)

    def mean_rank(by: float) -> float:
        counted = [sum((other < r + by) + 0.5 * (other == r + by) for other in returns) for r in returns]
        return sum(counted) / len(returns) ** 2

    assert target.slope == pytest.approx((mean_rank(step) - mean_rank(-step)) / (2 * step))


def test_rank_gauss_is_sklearns_quantile_transform_of_the_returns():
    returns = np.random.default_rng(3).standard_t(3, 5_000) * 1e-2  # sklearn's tolerance of 1e-7 is absolute
    target = fit_target("rank_gauss", returns)
    oracle = QuantileTransformer(n_quantiles=1001, output_distribution="normal", subsample=None)
    expected = oracle.fit_transform(returns[:, None])[:, 0]
    inside = (returns > returns.min()) & (returns < returns.max())
    np.testing.assert_allclose(target.quantity(returns, None)[inside], expected[inside], atol=1e-9)
    exact = scipy.stats.norm.ppf((scipy.stats.rankdata(returns) - 0.5) / returns.size)
    middle = np.abs(exact) < 2
    np.testing.assert_allclose(target.quantity(returns, None)[middle], exact[middle], atol=0.02)
    assert target.slope == pytest.approx(1 / (2 * np.sqrt(np.pi)), rel=0.01)
    assert np.abs(target.quantity(np.array([-1.0, 1.0]), None)).max() == pytest.approx(
        -scipy.stats.norm.ppf(0.5 / 5_000)
    )


def test_rank_gauss_gives_all_zero_returns_the_middle_of_their_ranks():
    returns = np.concatenate([np.linspace(-1, -0.1, 300), np.zeros(400), np.linspace(0.1, 1, 300)])
    assert fit_target("rank_gauss", returns).quantity(np.zeros(1), None)[0] == pytest.approx(0.0, abs=1e-6)


def test_vol_scaled_by_hand():
    returns = np.array([1.0, -2.0, 30.0, 1.0, np.nan]) * 1e-4
    volatility = np.array([1.0, 2.0, 1.0, np.nan, 1.0]) * 1e-4
    target = fit_target("vol_scaled", returns, volatility)
    assert (target.floor, target.usual) == (1e-4, 1e-4)
    moves = quantity_of(target, target.apply(returns, volatility))
    np.testing.assert_allclose(moves, [1.0, -1.0, 5.0, 1.0, np.nan], atol=1e-9)
    np.testing.assert_allclose(quantity_of(target, target.apply(np.array([1e-4]), np.array([1e-9]))), [1.0])


def test_vol_scaled_without_any_known_volatility_uses_the_returns_own_scale():
    returns, _ = market()
    target = fit_target("vol_scaled", returns, np.full(returns.size, np.nan))
    assert 0 < target.floor == target.usual < 1e-3
    with pytest.raises(ValueError, match="one volatility per return"):
        fit_target("vol_scaled", returns)


def test_binary_by_hand():
    returns = np.array([-2.0, -1.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    target = fit_target("binary", returns)
    np.testing.assert_array_equal(target.apply(returns), [0, 0, 0.5, 0.5, 1, 1, 1, 1])
    assert (target.share, target.fall, target.rise) == (5 / 8, 1 / 8, 6 / 8)
    np.testing.assert_allclose(target.score(np.log([1.0, 3.0])), [7 / 16, 1 / 8 + 0.75 * 5 / 8])
    assert target.zero_score == 7 / 16
    assert np.isfinite(fit_target("binary", np.ones(5)).start).all(), "rises only"


def test_multiclass_by_hand():
    returns = np.array([-3.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0])
    target = fit_target("multiclass", returns)
    np.testing.assert_array_equal(target.edges, [0.0, 1.0])
    np.testing.assert_array_equal(target.apply(returns), [0, 0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(target.apply(np.array([-9.0, -0.1, 0.5, 9.0])), [0, 0, 1, 2])
    np.testing.assert_allclose(target.shares, np.ones(3) / 3)
    np.testing.assert_allclose(target.ranks, np.array([1.5, 4.5, 7.5]) / 9)
    np.testing.assert_allclose(target.score(np.log([[1.0, 1.0, 2.0]])), [(1.5 + 4.5 + 2 * 7.5) / 36])
    assert target.zero_score == pytest.approx(0.5)


def test_classes_that_would_be_empty_are_left_out():
    returns = np.concatenate([np.full(10, -1.0), np.zeros(80), np.full(10, 1.0)])
    target = fit_target("multiclass", returns, config=DatasetConfig(target="multiclass(classes=10)"))
    assert target.outputs == len(target.shares) == 3
    assert (target.shares > 0).all()
    with pytest.raises(InvalidValueError, match="nearly all training returns are equal"):
        fit_target("multiclass", np.zeros(50))


def test_quantiles_start_at_the_training_quantiles():
    returns, _ = market()
    target = fit_target("quantiles", returns, config=DatasetConfig(target="quantiles(levels=0.25 0.5 0.75)"))
    known = returns[np.isfinite(returns)]
    np.testing.assert_allclose(
        quantity_of(target, np.array(target.start)), np.quantile(known, [0.25, 0.5, 0.75]), atol=1e-12
    )
    crossed = np.array([[0.6, 0.5, 0.4], [0.4, 0.5, 0.6]])
    np.testing.assert_allclose(target.score(crossed), 0.5)


@pytest.mark.parametrize("levels", ["0.1 0.5", "0.5", "0.9 0.5 0.1", "0 0.5 1"])
def test_levels_that_are_no_centre_are_refused(levels):
    with pytest.raises(InvalidValueError, match="symmetrically about") as caught:
        resolve("nightly", {"dataset.target": f"quantiles({levels})"})
    assert caught.value.key == "dataset.target"
