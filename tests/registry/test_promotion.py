"""The promotion rule: what it refuses, that it names every reason, and that more evidence never hurts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.config import PromotionConfig
from vpoc_ml.evaluation.baselines import BASELINES
from vpoc_ml.evaluation.bootstrap import Interval
from vpoc_ml.registry.promotion import Evidence, decide

RULES = PromotionConfig()
GOOD = Interval(0.02, 0.01, 0.03)
UNSURE = Interval(0.002, -0.01, 0.014)


def evidence(**changes) -> Evidence:
    strong = Evidence(
        rank_ic=GOOD,
        accuracy_gain=dict.fromkeys(BASELINES, GOOD),
        huber_gain=Interval(0.0001, 0.00005, 0.00015),
        net=-100.0,
        fingerprint="candidate-fingerprint",
    )
    return replace(strong, **changes)


def test_strong_candidate_without_champion_is_promoted_with_its_numbers():
    decision = decide(evidence(), RULES)
    assert decision.promote
    assert "The rank IC is 0.0200 [0.0100, 0.0300]; its lower bound exceeds 0.0000." in decision.reasons
    assert len(decision.reasons) == len(decision.checks) == 7


@pytest.mark.parametrize("name", BASELINES)
def test_gain_that_contains_zero_is_refused_naming_the_baseline(name):
    decision = decide(evidence(accuracy_gain=dict.fromkeys(BASELINES, GOOD) | {name: UNSURE}), RULES)
    assert not decision.promote
    gain = f"The gain in direction accuracy over {name} is 0.20 points [-1.00, 1.40]"
    assert decision.reasons == (f"{gain}; the interval contains zero: no evidence of skill.",)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"rank_ic": UNSURE}, "its lower bound does not exceed 0.0000: no evidence of skill"),
        ({"rank_ic": Interval(0.01, 0.0, 0.02)}, "no evidence of skill"),
        ({"rank_ic": None}, "predictions do not vary"),
        ({"huber_gain": UNSURE}, "Huber loss is lower than the constant's by 0.002000 [-0.010000, 0.014000]"),
        ({"huber_gain": None}, "could not be measured"),
        ({"accuracy_gain": {}}, "over ridge could not be measured"),
        ({"gate_failures": ("bars: null_close",)}, "1 gate failure(s): bars: null_close"),
        ({"accuracy_gain": dict.fromkeys(BASELINES, Interval(-0.03, -0.04, -0.02))}, "worse than this baseline"),
    ],
)
def test_missing_evidence_is_refused(changes, wanted):
    decision = decide(evidence(**changes), RULES)
    assert not decision.promote
    assert any(wanted in reason for reason in decision.reasons)


def test_every_reason_is_listed_not_only_the_first():
    weak = evidence(
        rank_ic=UNSURE,
        accuracy_gain=dict.fromkeys(BASELINES, UNSURE),
        huber_gain=UNSURE,
        gate_failures=("bars: volume",),
        champion_fingerprint="candidate-fingerprint",
        champion_gain=Interval(0.0, 0.0, 0.0),
    )
    decision = decide(weak, PromotionConfig(require_net_profit=True))
    assert len(decision.reasons) == 1 + 1 + 4 + 1 + 1 + 2


def test_net_profit_counts_only_where_it_is_required():
    assert decide(evidence(net=-1.0), RULES).promote
    rules = PromotionConfig(require_net_profit=True)
    assert decide(evidence(net=0.01), rules).promote
    assert not decide(evidence(net=0.0), rules).promote
    assert not decide(evidence(net=None), rules).promote


def test_champion_is_kept_at_the_margin_and_replaced_beyond_it():
    rules = PromotionConfig(champion_margin=0.005)
    at = decide(evidence(champion_fingerprint="old", champion_gain=Interval(0.005, 0.001, 0.009)), rules)
    assert not at.promote
    assert at.reasons[0].endswith("it does not exceed the margin of 0.50 points: keep the champion.")
    beyond = decide(evidence(champion_fingerprint="old", champion_gain=Interval(0.0051, 0.001, 0.009)), rules)
    assert beyond.promote


def test_champion_that_could_not_be_scored_is_kept():
    decision = decide(evidence(champion_fingerprint="old", champion_unscored="the champion needs vwap"), RULES)
    assert not decision.promote
    assert "the champion needs vwap" in decision.reasons[0]


def test_same_training_is_already_champion():
    decision = decide(evidence(champion_fingerprint="candidate-fingerprint", champion_gain=GOOD), RULES)
    assert decision.reasons == ("The candidate is already champion (fingerprint candidate-fi): nothing to promote.",)


numbers = st.floats(-0.2, 0.2, allow_nan=False)
intervals = st.tuples(numbers, numbers, numbers).map(lambda t: Interval(*(sorted(t)[i] for i in (1, 0, 2))))


def random_evidence() -> st.SearchStrategy[Evidence]:
    return st.builds(
        Evidence,
        rank_ic=st.none() | intervals,
        accuracy_gain=st.fixed_dictionaries(dict.fromkeys(BASELINES, st.none() | intervals)),
        huber_gain=st.none() | intervals,
        net=st.none() | numbers,
        fingerprint=st.sampled_from(["a", "b"]),
        gate_failures=st.lists(st.just("bars: x"), max_size=1).map(tuple),
        champion_fingerprint=st.none() | st.sampled_from(["a", "b"]),
        champion_gain=st.none() | intervals,
    )


rules_strategy = st.builds(
    PromotionConfig,
    min_rank_ic=st.floats(0, 0.1),
    require_net_profit=st.booleans(),
    champion_margin=st.floats(-0.1, 0.1),
)


def better(interval: Interval | None, step: float) -> Interval | None:
    return interval and Interval(interval.value + step, interval.low + step, interval.high + step)


@settings(max_examples=300, deadline=None)
@given(random_evidence() | st.just(evidence()), rules_strategy, st.floats(0, 0.2), st.sampled_from(range(8)))
def test_improving_a_number_never_turns_promotion_into_refusal(before, rules, step, which):
    gains = dict(before.accuracy_gain)
    if which < len(BASELINES):
        gains[BASELINES[which]] = better(gains[BASELINES[which]], step)
        after = replace(before, accuracy_gain=gains)
    elif which == 4:
        after = replace(before, rank_ic=better(before.rank_ic, step))
    elif which == 5:
        after = replace(before, huber_gain=better(before.huber_gain, step))
    elif which == 6:
        after = replace(before, net=None if before.net is None else before.net + step)
    else:
        after = replace(before, champion_gain=better(before.champion_gain, step), gate_failures=())
    assert decide(after, rules).promote >= decide(before, rules).promote


@settings(max_examples=200, deadline=None)
@given(random_evidence(), rules_strategy)
def test_decision_is_deterministic_and_lists_each_failed_check(case, rules):
    decision = decide(case, rules)
    assert decision == decide(case, rules)
    failed = tuple(check.text for check in decision.checks if not check.passed)
    assert decision.promote == (not failed)
    assert decision.reasons == (failed or tuple(check.text for check in decision.checks))
