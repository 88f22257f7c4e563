"""The promotion rule: what it refuses, that it names every reason, and that more evidence never hurts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpoc_ml.artifacts.decision import Selection
from vpoc_ml.artifacts.metrics import Comparison, CostResult
from vpoc_ml.artifacts.stage_results import ReproduceResult
from vpoc_ml.config import PromotionConfig
from vpoc_ml.evaluation.bootstrap import Interval
from vpoc_ml.registry.promotion import SIMPLE, Evidence, decide, odds, required_evidence, selection_sentence

RULES = PromotionConfig()
GOOD = Interval(0.02, 0.01, 0.03)
UNSURE = Interval(0.002, -0.01, 0.014)
SAME = ReproduceResult(
    rows_in=0,
    rows_out=0,
    skipped=False,
    version=1,
    equal=True,
    registered_weights="a" * 64,
    reproduced_weights="a" * 64,
    differences=(),
)
OTHER = SAME.model_copy(update={"equal": False, "first_difference": "best_model.safetensors, body[3]: was 1.0, is 1.5"})


def compared(odds_to_one: float) -> Comparison:
    return Comparison(
        measure="rank IC",
        sessions=120,
        mean=0.02,
        statistic=3.0,
        p_value=0.003,
        log_evidence=math.log(odds_to_one),
        low=0.1,
        high=0.5,
    )


def evidence(**changes) -> Evidence:
    strong = Evidence(
        rank_ic=GOOD,
        comparisons=dict.fromkeys(SIMPLE, compared(500.0)),
        learner_gains={"ridge": GOOD, "lightgbm": GOOD},
        net=-100.0,
        fingerprint="candidate-fingerprint",
        rerun=SAME,
    )
    return replace(strong, **changes)


def test_strong_candidate_without_champion_is_promoted_with_its_numbers():
    decision = decide(evidence(), RULES)
    assert decision.promote
    assert "The rank IC is 0.0200 [0.0100, 0.0300]; its lower bound exceeds 0.0000." in decision.reasons
    shown = "The evidence that the rank IC of a session is above zero is 500 to 1 after 120 sessions"
    assert f"{shown}; 40 to 1 is required for preset 1 of this key." in decision.reasons
    assert len(decision.reasons) == len(decision.checks) == 9


@pytest.mark.parametrize("name", SIMPLE)
def test_little_evidence_against_a_simple_rival_is_refused_with_both_odds(name):
    decision = decide(evidence(comparisons=dict.fromkeys(SIMPLE, compared(500.0)) | {name: compared(39.0)}), RULES)
    assert not decision.promote
    least = "39 to 1 after 120 sessions; 40 to 1 is required for preset 1 of this key: not enough evidence."
    assert decision.reasons == (f"The evidence {SIMPLE[name]} is {least}",)


@pytest.mark.parametrize(("presets", "required"), [(1, 40), (2, 120), (10, 2200)])
def test_each_further_preset_needs_more_evidence(presets, required):
    assert math.exp(required_evidence(presets, 0.05)) == pytest.approx(required)
    enough = dict.fromkeys(SIMPLE, compared(required * 1.001))
    assert decide(evidence(comparisons=enough, presets=presets), RULES).promote
    assert not decide(evidence(comparisons=enough, presets=presets + 1), RULES).promote


def test_shares_of_all_presets_add_up_to_the_rate_of_false_promotions():
    assert sum(math.exp(-required_evidence(presets, 0.05)) for presets in range(1, 100_000)) == pytest.approx(
        0.05, rel=1e-4
    )


@pytest.mark.parametrize(("level", "required"), [("strict", 200), ("standard", 40), ("research", 4)])
def test_levels_differ_in_the_evidence_that_they_require(level, required):
    rules = PromotionConfig(level=level)
    for factor, promoted in ((1.001, True), (0.999, False)):
        comparisons = dict.fromkeys(SIMPLE, compared(required * factor))
        assert decide(evidence(comparisons=comparisons), rules).promote is promoted


def test_level_research_needs_evidence_of_skill_and_baselines_only_behind():
    rules, little = PromotionConfig(level="research"), compared(0.9)
    behind = little.model_copy(update={"mean": -0.001})
    assert decide(evidence(comparisons=dict.fromkeys(SIMPLE, little) | {"skill": compared(5)}), rules).promote
    decision = decide(evidence(comparisons=dict.fromkeys(SIMPLE, compared(5)) | {"majority": behind}), rules)
    assert decision.reasons == (
        "The mean gain over majority in rank IC is -0.001 a session: not ahead of this baseline.",
    )


@pytest.mark.parametrize(
    ("log_evidence", "shown"), [(math.log(2200), "2,200 to 1"), (-1.0, "0.4 to 1"), (50.0, "more than 1,000,000 to 1")]
)
def test_evidence_is_shown_as_odds(log_evidence, shown):
    assert odds(log_evidence) == shown


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"rank_ic": UNSURE}, "its lower bound does not exceed 0.0000: no evidence of skill"),
        ({"rank_ic": Interval(0.01, 0.0, 0.02)}, "no evidence of skill"),
        ({"rank_ic": None}, "predictions do not vary"),
        ({"comparisons": {}}, "The evidence that its Huber loss is lower than the constant's could not be measured."),
        ({"learner_gains": {"ridge": None}}, "over ridge could not be measured"),
        ({"gate_failures": ("bars: null_close",)}, "1 gate failure(s): bars: null_close"),
        (
            {"learner_gains": {"ridge": GOOD, "lightgbm": Interval(0.0, -0.006, 0.006)}},
            "over lightgbm is 0.00 points [-0.60, 0.60]; a loss of 0.50 points is not excluded: it may be worse.",
        ),
    ],
)
def test_missing_evidence_is_refused(changes, wanted):
    decision = decide(evidence(**changes), RULES)
    assert not decision.promote
    assert any(wanted in reason for reason in decision.reasons)


def test_a_stack_that_equals_ridge_is_not_refused_for_it():
    assert decide(evidence(learner_gains={"ridge": Interval(0.0, 0.0, 0.0)}), RULES).promote
    assert decide(evidence(learner_gains={"ridge": Interval(0.0, -0.0049, 0.0049)}), RULES).promote


def test_every_reason_is_listed_not_only_the_first():
    weak = evidence(
        rank_ic=UNSURE,
        comparisons=dict.fromkeys(SIMPLE, compared(1.0)),
        learner_gains={"ridge": UNSURE},
        gate_failures=("bars: volume",),
        champion_fingerprint="candidate-fingerprint",
        champion_gain=UNSURE,
    )
    decision = decide(weak, PromotionConfig(require_net_profit=True))
    assert len(decision.reasons) == 1 + 1 + 4 + 1 + 1 + 3


def test_net_profit_counts_only_where_it_is_required():
    assert decide(evidence(net=-1.0), RULES).promote
    rules = PromotionConfig(require_net_profit=True)
    assert decide(evidence(net=0.01), rules).promote
    assert not decide(evidence(net=0.0), rules).promote
    assert not decide(evidence(net=None), rules).promote


@pytest.mark.parametrize(
    ("changes", "promoted", "wanted"),
    [
        ({}, True, "A second training gave the same bits: weights aaaaaaaaaaaa and model card."),
        (
            {"rerun": OTHER},
            False,
            "A second training gave other bits: best_model.safetensors, body[3]: was 1.0, is 1.5.",
        ),
        ({"rerun": OTHER.model_copy(update={"differences": ("threads: was 1, is 2",)})}, False, "threads: was 1, is 2"),
        ({"rerun": None}, False, "its bits must be compared first."),
        ({"rerun": None, "rerun_failed": "the bars have changed."}, False, "the bars have changed."),
    ],
)
def test_the_second_training_decides_where_all_else_is_met(changes, promoted, wanted):
    decision = decide(evidence(**changes), RULES)
    assert (decision.promote, decision.checks[-1].name) == (promoted, "rerun")
    assert wanted in decision.reasons[-1]
    assert decision.needs_rerun == (changes == {"rerun": None})


def test_a_second_training_is_requested_only_if_it_can_change_the_decision():
    refused = decide(evidence(rank_ic=UNSURE, rerun=None), RULES)
    assert not refused.promote
    assert not refused.needs_rerun
    assert "rerun" not in [check.name for check in refused.checks]
    never = decide(evidence(rerun=None), PromotionConfig(rerun="never"))
    assert never.promote
    assert never.reasons[-1] == "The candidate was not trained a second time: its bits were not compared."


def costs(multiple: float, low: float) -> CostResult:
    per_session = Interval(low + 5, low, low + 10)
    return CostResult(
        multiple=multiple, round_turn_cost=29.5, net=1.0, net_per_session=per_session, sharpe=None, max_drawdown=0.0
    )


@pytest.mark.parametrize(("required", "promoted"), [(0, True), (1, True), (2, False), (3, False)])
def test_tradeable_needs_a_lower_bound_above_zero_at_the_required_costs(required, promoted):
    results = (costs(1.0, 0.01), costs(2.0, 0.0))  # 3 times the costs were not measured
    decision = decide(evidence(policy_costs=results), PromotionConfig(tradeable_at=required))
    assert decision.promote is promoted
    if required == 2:
        shown = "5.00 dollars a session [0.00, 10.00]; a lower bound above zero is required: not tradeable."
        assert decision.reasons == (f"The policy's result at 2 times the costs is {shown}",)


def test_champion_is_kept_at_the_margin_and_replaced_beyond_it():
    rules = PromotionConfig(champion_margin=0.005)
    at = decide(evidence(champion_fingerprint="old", champion_gain=Interval(0.005, 0.001, 0.009)), rules)
    assert not at.promote
    assert at.reasons[0].endswith("it does not exceed the margin of 0.50 points: keep the champion.")
    beyond = decide(evidence(champion_fingerprint="old", champion_gain=Interval(0.0051, 0.001, 0.009)), rules)
    assert beyond.promote


def test_champion_is_kept_where_the_candidate_may_be_worse_than_tolerated():
    gain = Interval(0.01, -0.006, 0.026)
    decision = decide(evidence(champion_fingerprint="old", champion_gain=gain), RULES)
    shown = "The gain in direction accuracy over the champion is 1.00 points [-0.60, 2.60]"
    assert decision.reasons == (f"{shown}; a loss of 0.50 points is not excluded: it may be worse.",)


@pytest.mark.parametrize(("age", "promoted"), [(60, False), (61, True), (None, False)])
def test_old_champion_is_replaced_by_a_candidate_that_is_not_worse(age, promoted):
    gain = Interval(0.0, -0.004, 0.004)
    decision = decide(evidence(champion_fingerprint="old", champion_gain=gain, champion_age=age), RULES)
    assert decision.promote is promoted


def test_champion_that_could_not_be_scored_is_kept():
    decision = decide(evidence(champion_fingerprint="old", champion_unscored="the champion needs vwap"), RULES)
    assert not decision.promote
    assert "the champion needs vwap" in decision.reasons[0]


def test_same_training_is_already_champion():
    decision = decide(evidence(champion_fingerprint="candidate-fingerprint", champion_gain=GOOD), RULES)
    assert decision.reasons == ("The candidate is already champion (fingerprint candidate-fi): nothing to promote.",)


@pytest.mark.parametrize(
    ("presets", "p_value", "begin", "end"),
    [
        (1, 0.0, "No other preset was tried for this key. On its 90 sessions the p-value", "exceeds zero"),
        (3, 0.2, "3 presets were tried for this key; 2 have 90 sessions in common.", "presets without skill"),
    ],
)
def test_candidate_beside_all_presets_in_words(presets, p_value, begin, end):
    found = Selection(
        presets=presets,
        compared=min(presets, 2),
        sessions=90,
        p_value=p_value,
        superior=(),
        effective_trials=1.5,
        deflated_sharpe=0.875,
        minimum_sessions=None,
    )
    text = selection_sentence(found)
    assert text.startswith(begin)
    assert text.endswith(f"{end} with a probability of 88%.")


numbers = st.floats(-0.2, 0.2, allow_nan=False)
intervals = st.tuples(numbers, numbers, numbers).map(lambda t: Interval(*(sorted(t)[i] for i in (1, 0, 2))))
comparisons = st.floats(0.01, 10_000).map(compared)


def random_evidence() -> st.SearchStrategy[Evidence]:
    return st.builds(
        Evidence,
        rank_ic=st.none() | intervals,
        comparisons=st.fixed_dictionaries(dict.fromkeys(SIMPLE, comparisons)),
        learner_gains=st.dictionaries(st.sampled_from(["ridge", "lightgbm"]), st.none() | intervals),
        net=st.none() | numbers,
        fingerprint=st.sampled_from(["a", "b"]),
        presets=st.integers(1, 50),
        gate_failures=st.lists(st.just("bars: x"), max_size=1).map(tuple),
        champion_fingerprint=st.none() | st.sampled_from(["a", "b"]),
        champion_gain=st.none() | intervals,
        champion_age=st.none() | st.integers(0, 200),
        rerun=st.sampled_from([None, SAME, OTHER]),
    )


rules_strategy = st.builds(
    PromotionConfig,
    level=st.sampled_from(["strict", "standard", "research"]),
    min_rank_ic=st.floats(0, 0.1),
    require_net_profit=st.booleans(),
    champion_margin=st.floats(-0.1, 0.1),
    rerun=st.sampled_from(["always", "never"]),
)


def better(interval: Interval | None, step: float) -> Interval | None:
    return interval and Interval(interval.value + step, interval.low + step, interval.high + step)


@settings(max_examples=300, deadline=None)
@given(random_evidence() | st.just(evidence()), rules_strategy, st.floats(0, 0.2), st.sampled_from(range(11)))
def test_improving_a_number_never_turns_promotion_into_refusal(before, rules, step, which):
    found = dict(before.comparisons)
    names = list(SIMPLE)
    if which < len(names):
        one = found[names[which]]
        found[names[which]] = one.model_copy(update={"log_evidence": one.log_evidence + 10 * step})
        after = replace(before, comparisons=found)
    elif which == 4:
        after = replace(before, rank_ic=better(before.rank_ic, step))
    elif which == 5:
        after = replace(before, learner_gains={name: better(gain, step) for name, gain in before.learner_gains.items()})
    elif which == 6:
        after = replace(before, net=None if before.net is None else before.net + step)
    elif which == 7:
        after = replace(before, presets=1)
    elif which == 8:
        after = replace(before, champion_age=None if before.champion_age is None else before.champion_age + 30)
    elif which == 9:
        after = replace(before, rerun=SAME)
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
