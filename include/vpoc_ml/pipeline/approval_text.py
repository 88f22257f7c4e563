"""The evidence that a person reads before approving a promotion, as Markdown."""

from __future__ import annotations

from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.metrics import Gains, Interval, Metrics

GAINS = (
    ("direction_accuracy_gain", "accuracy, points", 100, ".2f"),
    ("rank_ic_gain", "rank IC", 1, ".4f"),
    ("huber_gain", "Huber loss, lower by", 1, ".6f"),
)


def approval_text(run: str, decision: Decision, metrics: Metrics) -> str:
    """Return the decision box: what would change, result after costs, gains with intervals, and the rule's reasons."""
    before = decision.champion_before
    instead = "there is no champion yet" if before is None else f"in place of version {before}"
    test = metrics.backtest
    period = f"{metrics.sessions} test sessions from {metrics.first[:10]} to {metrics.last[:10]}"
    costs = f"before costs {_dollars(test.gross)}, {test.trades:,} round turns, {period}"
    versus = sorted(metrics.versus.items(), key=lambda item: item[0] != "champion")
    confidence = f"{100 * metrics.confidence:g} %"
    return "\n".join(
        [
            f"Promote version {decision.version} (run `{run}`) to champion of **{decision.key}**; {instead}.",
            "",
            f"Result after costs: **{_dollars(test.net)}** ({costs}).",
            "",
            f"| candidate against | {' | '.join(title for _, title, _, _ in GAINS)} |",
            f"|---|{'---|' * len(GAINS)}",
            *(f"| {name} | {_gains(gains)} |" for name, gains in versus),
            "",
            f"Differences on the same rows with {confidence} intervals; above zero the candidate is better.",
            "",
            "The promotion rule accepts the candidate:",
            "",
            *(f"* {reason}" for reason in decision.reasons),
        ]
    )


def _gains(gains: Gains) -> str:
    return " | ".join(_interval(getattr(gains, name), factor, form) for name, _, factor, form in GAINS)


def _interval(value: Interval | None, factor: float, form: str) -> str:
    if value is None:
        return "n/a"
    point, low, high = (format(factor * getattr(value, part), form) for part in ("value", "low", "high"))
    return f"{point} [{low}, {high}]"


def _dollars(value: float) -> str:
    return f"{value:,.2f} dollars"
