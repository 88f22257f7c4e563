"""The sentences of the reports follow from their numbers."""

from __future__ import annotations

import pytest
from tests.evaluation.example_metrics import example_metrics

from vpoc_ml.artifacts.metrics import BacktestMetrics, CostResult, Interval, Metrics, Policy, PolicyMetrics
from vpoc_ml.artifacts.stage_results import Coverage, ScoreResult
from vpoc_ml.artifacts.training_progress import EpochRecord, WindowRecord
from vpoc_ml.reports.sentences import (
    after_costs,
    bounce_sentence,
    loss_sentence,
    money,
    policy_rule,
    policy_sentence,
    scores_sentence,
)

LOSS, WITHIN, GAIN = (Interval(0, low, high) for low, high in ((-3, -1), (-1, 2), (1, 2)))


@pytest.mark.parametrize(
    ("net", "session", "ic", "words"),
    [
        (-512_345.4, LOSS, 0.05, "predictive, not tradeable: net -$512,345 at $29.50 a round turn"),
        (-900.0, LOSS, 0.0, "neither predictive nor tradeable: net -$900 at"),
        (-900.0, None, None, "neither predictive nor tradeable: net -$900 at"),
        (0.0, LOSS, 0.05, "predictive, not tradeable: net $0 at"),
        (1234.0, WITHIN, 0.05, "predictive, profit within chance: net $1,234 at"),
        (1234.0, None, None, "skill not shown, profit within chance: net $1,234 at"),
        (1234.0, GAIN, 0.05, "predictive and tradeable: net $1,234 at"),
        (1234.0, GAIN, 0.0, "profitable, skill not shown: net $1,234 at"),
    ],
)
def test_words_after_costs_follow_rank_ic_and_net_result(net, session, ic, words):
    backtest = BacktestMetrics.model_validate(
        example_metrics(backtest={"net": net, "net_per_session": session})["backtest"]
    )
    rank_ic = None if ic is None else Interval(ic, ic - 0.01, ic + 0.01)
    assert after_costs(backtest, rank_ic).startswith(words)


@pytest.mark.parametrize(("dollars", "text"), [(-0.4, "$0"), (-1.2, "-$1"), (1_234_567.0, "$1,234,567")])
def test_money_has_its_sign_before_the_currency(dollars, text):
    assert money(dollars) == text


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.0205, 0.01996], "0.20 % below"),
        ([0.02001, 0.0202], "0.05 % above the constant's. A loss near the constant's is normal"),
        ([0.0228, 0.03], "14.00 % above the constant's: the net is worse than one number"),
        ([0.015, None], "25.00 % below the constant's."),
        ([None], "No epoch ended with a finite validation loss"),
        ([], "No epoch ended"),
    ],
)
def test_loss_sentence_follows_the_best_validation_loss(losses, words):
    epochs = [EpochRecord(validation_loss=loss, validation_constant=0.02) for loss in losses]
    sentence = loss_sentence([WindowRecord(loss=1.0), *epochs])
    assert words.replace(" %", "%") in sentence
    assert ("is normal" in sentence) == ("normal" in words or "0.20 %" in words)


@pytest.mark.parametrize(
    ("executable", "close", "share", "words"),
    [
        (0.02, 0.19, 0.893, "89% of the candidate's close-to-close rank IC is lost"),
        (-0.02, 0.1, 1.2, "100% of the candidate's close-to-close rank IC is lost"),
        (0.2, 0.19, -0.05, "None of the candidate's close-to-close rank IC is lost"),
        (0.02, -0.1, None, "no close-to-close skill"),
    ],
)
def test_bounce_is_the_share_that_the_next_open_loses(executable, close, share, words):
    skill = {
        "executable": {"value": executable, "low": -1, "high": 1},
        "close": {"value": close, "low": -1, "high": 1},
        "bounce_share": share,
    }
    assert words in bounce_sentence(Metrics.model_validate(example_metrics(label_skill={"candidate": skill})))


def example_policy(band: float | None, rule: str, keep: float = 0.0) -> PolicyMetrics:
    costs = tuple(
        CostResult(
            multiple=multiple,
            round_turn_cost=29.5 * multiple,
            net=1000.0 - 400.0 * multiple,
            net_per_session=Interval(15.0, -4.0, 31.0),
            sharpe=None,
            max_drawdown=0.0,
        )
        for multiple in (1.0, 2.0, 3.0)
    )
    return PolicyMetrics(
        policy=Policy(slope=8.0, slope_error=1.0, band=band, rule=rule, keep=keep, hold_minutes=15, sessions=39),
        verdict="predictive, not tradeable",
        round_turns=40,
        gross=1000.0,
        gross_per_session=None,
        costs=costs,
        break_even_cost=None,
        break_even_ticks=None,
        turnover=1.0,
        exposure=0.1,
        regimes=(),
        daily=(),
    )


def test_policy_sentence_has_verdict_interval_and_result_at_twice_the_costs():
    text = policy_sentence(example_policy(1.5, "decay"))
    assert text.startswith(
        "Predictive, not tradeable: the position policy earns $15 [-$4, $31] a session net of $29.50"
    )
    assert text.endswith("and $200 in all at twice the costs.")
    assert policy_sentence(example_policy(None, "none")).endswith("so the policy does not trade.")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (example_policy(1.5, "horizon"), "exceeds 1.50 ticks; leave after 15 min without a new signal"),
        (example_policy(1.5, "reversal"), "leave when the expected move exceeds the band on the other side"),
        (example_policy(3.0, "decay", 0.5), "leave when the expected move falls below 1.50 ticks"),
        (example_policy(None, "none"), "No trade."),
    ],
)
def test_policy_rule_says_when_a_position_is_opened_and_left(policy, words):
    assert words in policy_rule(policy)


def test_scores_say_what_was_scored_where_nothing_is_known_and_what_the_intervals_held():
    none = ScoreResult(rows_in=0, rows_out=0, skipped=True, note="there is no champion of ES-1m-rank yet")
    assert scores_sentence(none) == none.note
    fresh = ScoreResult(rows_in=0, rows_out=0, skipped=False, version=4, stated_coverage=0.9)
    assert scores_sentence(fresh) == (
        "version 4 has no bar to score yet: none is newer than its training data; no interval has met a known return"
        " yet"
    )
    coverage = Coverage(share=0.8974, rows=27_000, sessions=20, track_sessions=18)
    scored = fresh.model_copy(update={"rows_out": 2760, "added": 1380, "abstained": 7, "coverage": coverage})
    assert scores_sentence(scored) == (
        "version 4 has scored 2,760 bars, 1,380 of them new; 0.25 % have no direction, because they are unlike the"
        " training rows; intervals for 90 % held 89.7 % of 27,000 returns in 20 sessions, 18 of them in its track"
        " record"
    )
