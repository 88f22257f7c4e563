"""Sentences of the reports whose words follow from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NEAR = 0.005
"""Share of the constant's loss within which a loss counts as near it."""


def after_costs(metrics: Mapping[str, Any]) -> str:
    """Say whether the candidate predicts, whether its trades pay their costs, and the net result in dollars.

    "Predictive": the interval of the rank IC lies above zero. "Tradeable": that of the net result a session does.
    """
    backtest, ic = metrics["backtest"], metrics["models"]["candidate"]["rank_ic"]
    predictive = ic is not None and ic["low"] > 0
    session = backtest["net_per_session"]
    if session is not None and session["low"] > 0:
        words = "predictive and tradeable" if predictive else "profitable, skill not shown"
    elif backtest["net"] > 0:
        words = f"{'predictive' if predictive else 'skill not shown'}, profit within chance"
    else:
        words = "predictive, not tradeable" if predictive else "neither predictive nor tradeable"
    return f"{words}: net {money(backtest['net'])} at ${backtest['round_turn_cost']:,.2f} a round turn"


def money(dollars: float) -> str:
    """Return whole dollars with their sign before the currency: -$512,345."""
    return f"{'-' if round(dollars) < 0 else ''}${abs(dollars):,.0f}"


def loss_sentence(progress: Sequence[Mapping[str, Any]]) -> str:
    """Compare the best validation loss with the loss of predicting the best constant, and say what that means."""
    epochs = [line for line in progress if line["kind"] == "epoch" and line.get("validation_loss") is not None]
    if not epochs or not (constant := epochs[-1].get("validation_constant")):
        return "No epoch ended with a finite validation loss."
    share = min(line["validation_loss"] for line in epochs) / constant - 1
    distance = f"The best validation loss is {abs(share):.2%} {'below' if share < 0 else 'above'} the constant's"
    if share > NEAR:
        return f"{distance}: the net is worse than one number. Lower the learning rate or take a smaller net."
    if share < -NEAR:
        return f"{distance}."
    return (
        f"{distance}. A loss near the constant's is normal at this horizon: even a model with real skill lowers it by"
        " a fraction of a percent."
    )
