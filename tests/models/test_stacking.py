"""The stack: a slow oracle, what must hold for any learners, and markets where it must not lose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, minimize_scalar
from scipy.stats import rankdata

from vpoc_ml.artifacts.model_card import Stack
from vpoc_ml.evaluation.metrics import huber
from vpoc_ml.models.stacking import GROUPS, HALF_LIFE, StackRows, apply_stack
from vpoc_ml.models.stacking import fit_stack as fit_rows

NAMES = ("ridge", "lightgbm", "net")
STRONG = (0.3, 0.5, 0.4)


def market(seed, *, ic=0.15, noises=STRONG, sessions=20, rows=100, scale=0.05):
    """Scores, rank targets and sessions: each learner sees the signal through noise of its own; None sees nothing."""
    rng = np.random.default_rng(seed)
    count = sessions * rows
    signal = rng.standard_normal(count)
    y = rankdata(ic * signal + np.sqrt(1 - ic**2) * rng.standard_normal(count)) / count - 0.5 / count
    seen = [
        rng.standard_normal(count) if noise is None else (signal + noise * rng.standard_normal(count)) / (1 + noise**2)
        for noise in noises
    ]
    return 0.5 + scale * np.array(seen), y, np.repeat(np.arange(sessions), rows)


def fit_stack(scores, y, session, names=NAMES, **options) -> Stack:
    return fit_rows(StackRows.of(scores, y, session, names), **options)


def weights(stack: Stack) -> list[float]:
    return [part.weight for part in stack.parts]


def slow(scores, y, session, delta):
    """Weights and slope of two simple learners, from rows and loops."""
    x, target = scores - scores.mean(axis=1, keepdims=True), y - y.mean()
    days = list(dict.fromkeys(session))

    def fits(rows):
        own = [max(0.0, x[k, rows] @ target[rows] / (x[k, rows] @ x[k, rows])) for k in (0, 1)]
        explained = [own[k] * (x[k, rows] @ target[rows]) for k in (0, 1)]
        best = int(explained[1] > explained[0])
        alone = np.array([own[k] * (k == best) for k in (0, 1)])
        return alone, lsq_linear(x[:, rows].T, target[rows], (0, np.inf), tol=1e-14).x

    def error_of(by_session, curvature):
        return np.sqrt(sum(each**2 for each in by_session) * len(days) / (len(days) - 1)) / curvature

    def mixed(alone, together, step):
        coefficients = alone + step * (together - alone)
        return coefficients / coefficients.sum()

    held = [fits(np.isin(session, [d for i, d in enumerate(days) if i * GROUPS // len(days) != g])) for g in range(5)]
    of_day = {day: held[i * GROUPS // len(days)] for i, day in enumerate(days)}
    move = np.array([(of_day[d][1] - of_day[d][0]) @ x[:, i] for i, d in enumerate(session)])
    left = np.array([target[i] - of_day[d][0] @ x[:, i] for i, d in enumerate(session)])
    step = move @ left / (move @ move)
    by_session = [sum((move * (left - step * move))[session == d]) for d in days]
    step = min(1.0, step * max(0.0, 1 - (error_of(by_session, move @ move) / step) ** 2))
    score = np.array([mixed(*of_day[d], step) @ (scores[:, i] - 0.5) for i, d in enumerate(session)])
    counted = np.array([0.5 ** ((len(days) - 1 - days.index(day)) / HALF_LIFE) for day in session])
    loss = lambda slope: counted @ huber(y - 0.5 - slope * score, delta)  # noqa: E731
    slope = minimize_scalar(loss, bounds=(-20, 20), method="bounded", options={"xatol": 1e-10}).x
    left = y - 0.5 - slope * score
    by_session = [sum((counted * score * left.clip(-delta, delta))[session == d]) for d in days]
    error = error_of(by_session, (counted * score**2)[np.abs(left) <= delta].sum())
    slope = (slope / error**2 + 0.5 / 0.5**2) / (1 / error**2 + 1 / 0.5**2)
    slope = min(1.5, max(0.0, slope))
    return mixed(*fits(np.full(len(y), True)), step), slope


@pytest.mark.parametrize(("seed", "scale"), [(seed, scale) for seed in range(4) for scale in (0.02, 0.08)])
def test_two_learners_match_the_slow_oracle(seed, scale):
    scores, y, session = market(seed, noises=(0.5, 0.8), sessions=11, rows=60, scale=scale)
    stack = fit_stack(scores, y, session, NAMES[:2])
    expected, slope = slow(scores, y, session, 0.1)
    assert weights(stack) == pytest.approx(expected, abs=1e-4)
    assert stack.slope == pytest.approx(slope, abs=1e-3)


@given(seed=st.integers(0, 10_000), ic=st.sampled_from([0.0, 0.03, 0.2]), order=st.permutations(range(3)))
@settings(max_examples=40, deadline=None)
def test_any_stack_is_a_bounded_average_and_the_order_of_learners_does_not_matter(seed, ic, order):
    scores, y, session = market(seed, ic=ic)
    stack = fit_stack(scores, y, session)
    other = fit_stack(scores[list(order)], y, session, [NAMES[k] for k in order])
    assert min(weights(stack)) >= 0
    assert sum(weights(stack)) == pytest.approx(1)
    assert 0 <= stack.slope <= 1.5
    assert 0 <= stack.shrinkage <= 1
    by_name = {part.name: part.weight for part in other.parts}
    assert [by_name[name] for name in NAMES] == pytest.approx(weights(stack), abs=1e-7)
    assert other.slope == pytest.approx(stack.slope, abs=1e-6)


@given(seed=st.integers(0, 10_000), factor=st.floats(0.2, 5))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_the_scores_does_not_matter_for_the_weights(seed, factor):
    scores, y, session = market(seed, scale=0.05)
    stack = fit_stack(scores, y, session)
    other = fit_stack(0.5 + factor * (scores - 0.5), y, session)
    assert weights(other) == pytest.approx(weights(stack), abs=1e-6)


def test_scores_that_are_too_wide_are_narrowed():
    """The rank has a standard deviation of 0.29, of which a rank IC of .15 explains 0.04."""
    for seed in range(5):
        scores, y, session = market(seed, rows=1000, scale=1.0)
        stack = fit_stack(scores, y, session)
        assert stack.slope < 0.1
        assert huber(y - apply_stack(stack, scores), 0.1).mean() < huber(y - 0.5, 0.1).mean()


def test_without_evidence_the_slope_is_that_of_the_prior():
    """Narrow scores over 20 sessions of 60 rows: the error of the estimate is about 8."""
    found = [fit_stack(*market(s, ic=0.0, rows=60, scale=0.001)).slope for s in range(20)]
    assert found == pytest.approx([0.5] * 20, abs=0.15)


def test_rows_that_chose_the_learners_are_trusted_less():
    """On validation rows the slope is the estimate times (1 - (e / b)^2)+, so a weak estimate is the constant."""
    found = [fit_stack(*market(s, ic=0.0, rows=60, scale=0.005), validation=True) for s in range(20)]
    assert sum(stack.slope == 0 for stack in found) >= 10
    strong = market(1, rows=1000, scale=0.02)
    trusted, other = (fit_stack(*strong, validation=validation) for validation in (False, True))
    assert other.slope == pytest.approx(trusted.slope, rel=0.1)


@pytest.mark.parametrize("after", [20, 60])
def test_a_signal_that_has_changed_its_sign_ends_the_stack_within_a_month(after):
    """Whether it had lasted 20 or 60 sessions before."""
    scores, y, session = market(1, rows=500, sessions=after + 20)
    turned = np.where((session >= after)[:, None], 1 - scores.T, scores.T).T
    slopes = [
        fit_stack(turned[:, session < end], y[session < end], session[session < end]).slope
        for end in (after, after + 20)
    ]
    assert slopes[0] > 0.5
    assert slopes[1] < 0.2


@pytest.mark.parametrize("useless", range(3))
def test_a_useless_learner_has_almost_no_weight(useless):
    noises = [None if k == useless else 0.5 for k in range(3)]
    found = [weights(fit_stack(*market(s, noises=noises, rows=1000)))[useless] for s in range(5)]
    assert np.mean(found) < 0.05  # a weight has a standard error of about .05 here


def test_equal_learners_share_their_weight():
    scores, y, session = market(1, noises=(2.0, 0.5))
    twice = np.vstack((scores, scores[1]))
    stack = fit_stack(twice, y, session, ("ridge", "net", "other net"))
    single = fit_stack(scores, y, session, ("ridge", "net"))
    assert weights(stack)[1] == pytest.approx(weights(stack)[2], abs=1e-6)
    assert apply_stack(stack, twice) == pytest.approx(apply_stack(single, scores), abs=1e-5)


def test_without_evidence_the_stack_is_the_constant_with_a_simple_learner():
    found = [fit_stack(*market(seed, ic=0.0, rows=1000)) for seed in range(20)]
    assert np.mean([stack.slope for stack in found]) < 0.05
    few = fit_stack(*market(0, sessions=GROUPS - 1))
    assert (weights(few), few.slope, few.simple) == ([1, 0, 0], 0, "ridge")
    assert (apply_stack(few, market(0)[0]) == 0.5).all()


def test_constants_and_missing_values_do_not_count():
    scores, y, session = market(3)
    plain = fit_stack(scores, y, session)
    flat = np.vstack((np.full(len(y), 0.503), scores))
    stack = fit_stack(flat, y, session, ("constant", *NAMES))
    assert weights(stack) == pytest.approx([0, *weights(plain)], abs=1e-5)
    only = fit_stack(flat[:1], y, session, ("constant",))
    assert (weights(only), only.slope) == ([1], pytest.approx(0.5, abs=0.05)), "a constant is no evidence"
    holes, gaps = scores.copy(), y.copy()
    holes[0, ::7], gaps[::5] = np.nan, np.nan
    known = np.isfinite(holes[0]) & np.isfinite(gaps)
    assert fit_stack(holes, gaps, session) == fit_stack(scores[:, known], y[known], session[known])


def test_a_row_s_score_stands_alone_and_a_stack_survives_its_file():
    scores, y, session = market(4)
    stack = fit_stack(scores, y, session)
    score = apply_stack(stack, scores)
    assert score == pytest.approx(0.5 + stack.slope * (weights(stack) @ (scores - 0.5)))
    assert (apply_stack(stack, scores[:, 5:6]) == score[5:6]).all()
    assert Stack.model_validate(stack.to_json()) == stack


@given(seed=st.integers(0, 10_000), first=st.integers(0, 10), count=st.integers(0, 10))
@settings(max_examples=20, deadline=None)
def test_sums_of_all_sessions_give_the_stack_of_some(seed, first, count):
    scores, y, session = market(seed)
    inside = (session >= first) & (session < first + count)
    direct = fit_stack(scores[:, inside], y[inside], session[inside])
    stack = fit_rows(StackRows.of(scores, y, session, NAMES).between(first, first + count))
    assert weights(stack) == pytest.approx(weights(direct), abs=1e-9)
    assert (stack.sessions, stack.simple) == (count, direct.simple)
    assert (stack.slope, stack.shrinkage) == pytest.approx((direct.slope, direct.shrinkage), abs=1e-7)


@pytest.mark.parametrize(
    ("noises", "scale"),
    [((0.5, 2.0, 2.0), 0.014), ((2.0, 2.0, 0.5), 0.014), ((1.0, 1.0, 1.0), 0.1), ((0.5, 1.0, None), 0.1)],
)
def test_the_stack_is_never_worse_than_the_best_learner_beyond_noise(noises, scale):
    """A rank IC of .05 over 40 sessions: new sessions give the stack at least .97 of the best learner's rank IC."""
    shares, losses = [], []
    for seed in range(10):
        earlier = market(seed, ic=0.05, noises=noises, sessions=40, rows=1000, scale=scale)
        scores, y, session = market(seed + 1000, ic=0.05, noises=noises, sessions=40, rows=1000, scale=scale)
        score = apply_stack(fit_stack(*earlier), scores)
        ranks = [np.corrcoef(rankdata(each), y)[0, 1] for each in (score, *scores)]
        shares.append(ranks[0] / max(ranks[1:]))
        gain = np.bincount(session, huber(y - 0.5, 0.1) - huber(y - score, 0.1))
        losses.append(gain.sum() / (gain.std(ddof=1) * np.sqrt(len(gain))))
    assert np.mean(shares) >= 0.97
    assert min(losses) > -1.0
