"""The sentences of the reports follow from their numbers."""

from __future__ import annotations

import pytest
from tests.evaluation.example_metrics import example_metrics

from vpoc_ml.artifacts.metrics import BacktestMetrics, Interval
from vpoc_ml.artifacts.training_progress import EpochRecord, WindowRecord
from vpoc_ml.reports.sentences import after_costs, loss_sentence, money

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
