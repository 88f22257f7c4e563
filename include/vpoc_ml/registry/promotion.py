"""The promotion rule: a pure function from evidence and rules to a decision with all its reasons.

The default is to refuse. An interval that contains zero is no evidence, and a candidate without evidence replaces
nothing. The rule is monotone: a better value in the evidence never turns a promotion into a refusal. The rule sees
one night at a time. On each night an interval lies above zero by chance with a probability of 2.5 %, so over many
nights a lucky candidate would pass a single condition. Several conditions must therefore hold together, and every
decision is recorded in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from vpoc_ml.artifacts.decision import Decision, DecisionState
from vpoc_ml.artifacts.metrics import Gains, Interval, Metrics
from vpoc_ml.config import PromotionConfig
from vpoc_ml.evaluation.baselines import BASELINES


@dataclass(frozen=True)
class Evidence:
    """The evidence about a candidate. None is a value that could not be measured.

    ``accuracy_gain`` holds the candidate's paired gain in direction accuracy over each baseline.
    ``champion_fingerprint`` is None if there is no champion. ``is_refit`` says that candidate and champion are two
    trainings of one preset, with the same settings and code, which share one track record.
    """

    rank_ic: Interval | None
    accuracy_gain: Mapping[str, Interval | None]
    huber_gain: Interval | None
    net: float | None
    fingerprint: str
    gate_failures: tuple[str, ...] = ()
    champion_fingerprint: str | None = None
    champion_gain: Interval | None = None
    champion_unscored: str | None = None
    is_refit: bool = False

    @classmethod
    def of(
        cls,
        metrics: Metrics,
        *,
        fingerprint: str,
        champion_fingerprint: str | None = None,
        champion_preset_key: str | None = None,
        gate_failures: Sequence[str] = (),
    ) -> Evidence:
        """Take the evidence from the metrics of a run; ``champion_preset_key`` is that of the champion's metrics."""

        def gains(name: str) -> Gains:
            return metrics.versus.get(name, Gains())

        return cls(
            rank_ic=metrics.candidate.rank_ic,
            accuracy_gain={name: gains(name).direction_accuracy_gain for name in BASELINES},
            huber_gain=gains("constant").huber_gain,
            net=metrics.backtest.net,
            fingerprint=fingerprint,
            gate_failures=tuple(gate_failures),
            champion_fingerprint=champion_fingerprint,
            champion_gain=gains("champion").direction_accuracy_gain,
            champion_unscored=metrics.champion_unscored,
            is_refit=champion_preset_key is not None and champion_preset_key == metrics.preset_key,
        )


@dataclass(frozen=True)
class PromotionCheck:
    """One condition of the rule. ``text`` is a sentence with its numbers."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True)
class PromotionDecision:
    """The decision of the rule. ``reasons`` are the failed conditions or, for a promotion, all conditions."""

    promote: bool
    reasons: tuple[str, ...]
    checks: tuple[PromotionCheck, ...] = field(default=())

    def to_json(self) -> dict[str, JsonValue]:
        """Return ``promote``, ``reasons`` and ``checks``."""
        return {
            "promote": self.promote,
            "reasons": list(self.reasons),
            "checks": [{"name": c.name, "passed": c.passed, "text": c.text} for c in self.checks],
        }


def decide(evidence: Evidence, rules: PromotionConfig) -> PromotionDecision:
    """Return whether the candidate becomes champion, with every reason."""
    failures = evidence.gate_failures
    text = f"{len(failures)} gate failure(s): {'; '.join(failures)}." if failures else ""
    checks = [PromotionCheck("gates", not failures, text or "Every gate of the run passed (0 failures).")]
    checks.append(_rank_ic(evidence, rules))
    for name in BASELINES:
        gain, what = evidence.accuracy_gain.get(name), f"The gain in direction accuracy over {name}"
        shown = f"{what} could not be measured." if gain is None else f"{what} is {_points(gain)}"
        checks.append(_excludes_zero(f"accuracy_vs_{name}", shown, gain))
    gain, shown = evidence.huber_gain, "The Huber loss against the constant could not be measured."
    if gain is not None:
        shown = f"The Huber loss is lower than the constant's by {gain.value:.6f} [{gain.low:.6f}, {gain.high:.6f}]"
    checks.append(_excludes_zero("huber_vs_constant", shown, gain))
    if rules.require_net_profit:
        net, text = evidence.net, "The result after costs could not be measured."
        if net is not None:
            text = f"The backtest's result after costs is {net:,.2f} dollars; a profit is required."
        checks.append(PromotionCheck("net_profit", net is not None and net > 0, text))
    checks += _champion(evidence, rules)
    against = tuple(check.text for check in checks if not check.passed)
    return PromotionDecision(not against, against or tuple(check.text for check in checks), tuple(checks))


def _rank_ic(evidence: Evidence, rules: PromotionConfig) -> PromotionCheck:
    interval, least = evidence.rank_ic, rules.min_rank_ic
    if interval is None:
        return PromotionCheck(
            "rank_ic", False, "The rank IC could not be measured: the candidate's predictions do not vary."
        )
    shown = f"The rank IC is {interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
    if interval.low > least:
        return PromotionCheck("rank_ic", True, f"{shown}; its lower bound exceeds {least:.4f}.")
    return PromotionCheck(
        "rank_ic", False, f"{shown}; its lower bound does not exceed {least:.4f}: no evidence of skill."
    )


def _champion(evidence: Evidence, rules: PromotionConfig) -> list[PromotionCheck]:
    if evidence.champion_fingerprint is None:
        return []
    checks = []
    if evidence.champion_fingerprint == evidence.fingerprint:
        same = f"The candidate is already champion (fingerprint {evidence.fingerprint[:12]}): nothing to promote."
        checks.append(PromotionCheck("not_champion", False, same))
    if evidence.is_refit:
        text = (
            "The candidate is a new training of the champion's preset on newer sessions. Settings and code are the"
            " same, and both have one track record, so no margin over the champion is required."
        )
        return [*checks, PromotionCheck("champion", True, text)]
    gain, margin = evidence.champion_gain, rules.champion_margin
    if gain is None:
        reason = evidence.champion_unscored or "it was not measured on this run's rows"
        checks.append(
            PromotionCheck("champion", False, f"The champion could not be compared: {reason}. Keep the champion.")
        )
    else:
        shown = f"The gain in direction accuracy over the champion is {_points(gain)}"
        passed = gain.value > margin
        ending = "exceeds {}." if passed else "does not exceed {}: keep the champion."
        text = f"{shown}; it {ending.format(f'the margin of {100 * margin:.2f} points')}"
        checks.append(PromotionCheck("champion", passed, text))
    return checks


def _excludes_zero(name: str, shown: str, gain: Interval | None) -> PromotionCheck:
    """Return the check that a gain lies above zero; a gain that was not measured fails with ``shown`` as it is."""
    if gain is None:
        return PromotionCheck(name, False, shown)
    if gain.low > 0:
        return PromotionCheck(name, True, f"{shown}; the interval lies above zero.")
    where = "contains zero: no evidence of skill" if gain.high >= 0 else "lies below zero: worse than this baseline"
    return PromotionCheck(name, False, f"{shown}; the interval {where}.")


def _points(gain: Interval) -> str:
    return f"{100 * gain.value:.2f} points [{100 * gain.low:.2f}, {100 * gain.high:.2f}]"


TITLES = {
    DecisionState.REFUSED: "Refused",
    DecisionState.ACCEPTED: "Accepted, not yet promoted",
    DecisionState.WAITING: "Waiting for approval",
    DecisionState.PROMOTED: "Promoted",
    DecisionState.REJECTED: "Rejected by a person",
    DecisionState.EXPIRED: "Expired: nobody approved it in time",
}
SIMULATED = {DecisionState.REFUSED: "Simulated: refused", DecisionState.ACCEPTED: "Simulated: would be promoted"}


def title_of(decision: Decision) -> str:
    """Return the headline of a decision."""
    return (SIMULATED if decision.simulated else TITLES)[decision.state]


def tone_of(decision: Decision) -> str:
    """Return the colour class of a decision: ``good``, ``bad``, or empty while it is open or simulated."""
    tones = {DecisionState.PROMOTED: "good", DecisionState.ACCEPTED: "", DecisionState.WAITING: ""}
    return "" if decision.simulated else tones.get(decision.state, "bad")
