"""The promotion rule: a pure function from evidence and rules to a decision with all its reasons.

The default is to refuse: a candidate without evidence replaces nothing. The rule is monotone: a better value in the
evidence never turns a promotion into a refusal.

Evidence of skill is an e-process over the sessions of the track record (``evaluation.sequential``). If a candidate has
no skill, its e-process ever reaches 1 / alpha with a probability of at most alpha, however many nights one looks. The
i-th preset that is tried gets alpha = ``false_promotions`` / (i (i + 1)). The sum over all presets is
``false_promotions``: the probability that candidates without skill are ever promoted, over all nights and all presets.
``benchmarks/bench_promotion.py`` simulates it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from vpoc_ml.artifacts.decision import Decision, DecisionState, Selection
from vpoc_ml.artifacts.metrics import Comparison, CostResult, Gains, Interval, Metrics
from vpoc_ml.artifacts.stage_results import LiveRecord, ReproduceResult
from vpoc_ml.config import PromotionConfig

SIMPLE = {
    "skill": "that the rank IC of a session is above zero",
    "constant": "that its Huber loss is lower than the constant's",
    "majority": "that its direction accuracy is higher than majority's",
    "last_sign": "that its direction accuracy is higher than last_sign's",
}
"""Comparisons in which the candidate must be better. Ridge and LightGBM are learners of the stack: there it must not be
worse."""

AGAINST = math.log(20)
"""Evidence on live sessions from which on a preset is refused; a preset with skill ever reaches it in 5 % of cases."""


@dataclass(frozen=True)
class Evidence:
    """The evidence about a candidate. None is a value that could not be measured.

    Attributes:
        rank_ic: over all rows of the track record.
        comparisons: session scores by name, see ``SIMPLE``.
        learner_gains: paired gain in direction accuracy over ridge and, on a track record, over LightGBM.
        net: result after costs.
        policy_costs: results of the policy at multiples of the costs.
        fingerprint: of the candidate's training.
        presets: number of presets tried up to and including the candidate's, in the order of their first trial.
        gate_failures: gates that failed.
        champion_fingerprint: None if there is no champion.
        champion_gain: paired gain in direction accuracy over the champion.
        champion_unscored: why the champion could not be compared.
        champion_age: sessions since the end of the champion's training data.
        live: the live record of the candidate's preset; None before its first session.
        is_refit: candidate and champion are two trainings of one preset, with the same settings and code, which share
            one track record.
        rerun: the comparison of a second training with the candidate; None if there was none.
        rerun_failed: why it could not be trained a second time.
    """

    rank_ic: Interval | None
    comparisons: Mapping[str, Comparison]
    learner_gains: Mapping[str, Interval | None]
    net: float | None
    fingerprint: str
    presets: int = 1
    gate_failures: tuple[str, ...] = ()
    champion_fingerprint: str | None = None
    champion_gain: Interval | None = None
    champion_unscored: str | None = None
    champion_age: int | None = None
    live: LiveRecord | None = None
    is_refit: bool = False
    policy_costs: tuple[CostResult, ...] = ()
    rerun: ReproduceResult | None = None
    rerun_failed: str | None = None

    @classmethod
    def of(
        cls,
        metrics: Metrics,
        *,
        fingerprint: str,
        presets: int = 1,
        champion_fingerprint: str | None = None,
        champion_preset_key: str | None = None,
        champion_age: int | None = None,
        live: LiveRecord | None = None,
        gate_failures: Sequence[str] = (),
    ) -> Evidence:
        """Take the evidence from the metrics of a run; ``champion_preset_key`` is that of the champion's metrics."""

        def accuracy_gain(name: str) -> Interval | None:
            return metrics.versus.get(name, Gains()).direction_accuracy_gain

        return cls(
            rank_ic=metrics.candidate.rank_ic,
            comparisons=metrics.evidence,
            learner_gains={
                name: accuracy_gain(name) for name in ("ridge", "lightgbm") if name == "ridge" or name in metrics.versus
            },
            net=metrics.backtest.net,
            fingerprint=fingerprint,
            presets=presets,
            gate_failures=tuple(gate_failures),
            champion_fingerprint=champion_fingerprint,
            champion_gain=accuracy_gain("champion"),
            champion_unscored=metrics.champion_unscored,
            champion_age=champion_age,
            live=live,
            is_refit=champion_preset_key is not None and champion_preset_key == metrics.preset_key,
            policy_costs=metrics.policy.costs if metrics.policy is not None else (),
        )


@dataclass(frozen=True)
class PromotionCheck:
    """One condition of the rule. ``text`` is a sentence with its numbers."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True)
class PromotionDecision:
    """The decision of the rule. ``reasons`` are the failed conditions or, for a promotion, all conditions.

    ``needs_rerun``: all other conditions are met, and the candidate has not been trained a second time.
    """

    promote: bool
    reasons: tuple[str, ...]
    checks: tuple[PromotionCheck, ...] = field(default=())
    needs_rerun: bool = False

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
    required = required_evidence(evidence.presets, rules.thresholds.false_promotions)
    for name in SIMPLE:
        found = evidence.comparisons.get(name)
        if rules.thresholds.beats_all or name == "skill":
            checks.append(_better(name, found, required, evidence.presets))
        else:
            checks.append(_ahead(name, found))
    for name, gain in evidence.learner_gains.items():
        checks.append(_not_worse(name, gain, rules.thresholds.tolerance))
    if evidence.live is not None and evidence.live.rank_ic is not None:
        checks.append(_live(evidence.live, evidence.live.rank_ic))
    if rules.require_net_profit:
        net, text = evidence.net, "The result after costs could not be measured."
        if net is not None:
            text = f"The backtest's result after costs is {net:,.2f} dollars; a profit is required."
        checks.append(PromotionCheck("net_profit", net is not None and net > 0, text))
    if rules.tradeable_at:
        checks.append(_tradeable(evidence.policy_costs, rules.tradeable_at))
    checks += _champion(evidence, rules)
    against = tuple(check.text for check in checks if not check.passed)
    if against:
        return PromotionDecision(False, against, tuple(checks))
    checks.append(_rerun(evidence, rules))
    texts = tuple(check.text for check in checks)
    if checks[-1].passed:
        return PromotionDecision(True, texts, tuple(checks))
    needs_rerun = evidence.rerun is None and evidence.rerun_failed is None
    return PromotionDecision(False, texts[-1:], tuple(checks), needs_rerun)


def required_evidence(presets: int, false_promotions: float) -> float:
    """Return the log of the e-value that the ``presets``-th preset needs."""
    return math.log(presets * (presets + 1) / false_promotions)


def odds(log_evidence: float) -> str:
    """Return an e-value as odds: ``40 to 1``."""
    if log_evidence > math.log(1e6):
        return "more than 1,000,000 to 1"
    value = math.exp(log_evidence)
    return f"{value:,.0f} to 1" if value >= 10 else f"{value:.1f} to 1"


def _better(name: str, found: Comparison | None, required: float, presets: int) -> PromotionCheck:
    if found is None:
        return PromotionCheck(name, False, f"The evidence {SIMPLE[name]} could not be measured.")
    passed = found.log_evidence >= required
    least = f"{odds(required)} is required for preset {presets} of this key"
    shown = f"The evidence {SIMPLE[name]} is {odds(found.log_evidence)} after {found.sessions} sessions"
    return PromotionCheck(name, passed, f"{shown}; {least}{'.' if passed else ': not enough evidence.'}")


def _ahead(name: str, found: Comparison | None) -> PromotionCheck:
    """Return the check that the candidate is ahead on average, for a level that requires no more."""
    mean = None if found is None else found.mean
    if found is None or mean is None:
        return PromotionCheck(name, False, f"The mean score against {name} could not be measured.")
    shown = f"The mean gain over {name} in {found.measure} is {mean:.2g} a session"
    return PromotionCheck(name, mean > 0, f"{shown}{'.' if mean > 0 else ': not ahead of this baseline.'}")


def _live(record: LiveRecord, rank_ic: float) -> PromotionCheck:
    """Return the check that the sessions since the preset was registered do not speak against it."""
    passed = record.log_against < AGAINST
    shown = f"On {record.sessions} live sessions the mean rank IC is {rank_ic:.4f}; evidence that it is below zero:"
    ending = "." if passed else f": the live record refutes the track record ({odds(AGAINST)} or more)."
    return PromotionCheck("live", passed, f"{shown} {odds(record.log_against)}{ending}")


def _not_worse(rival: str, gain: Interval | None, tolerance: float) -> PromotionCheck:
    """Return the check that the candidate does not lose more than ``tolerance`` of direction accuracy."""
    name, rival = f"not_worse_than_{rival}", "the champion" if rival == "champion" else rival
    if gain is None:
        return PromotionCheck(name, False, f"The gain in direction accuracy over {rival} could not be measured.")
    shown = f"The gain in direction accuracy over {rival} is {_points(gain)}"
    if gain.low > -tolerance:
        return PromotionCheck(name, True, f"{shown}; a loss of {100 * tolerance:.2f} points is excluded.")
    return PromotionCheck(
        name, False, f"{shown}; a loss of {100 * tolerance:.2f} points is not excluded: it may be worse."
    )


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


def _tradeable(costs: Sequence[CostResult], multiple: int) -> PromotionCheck:
    """Return the check that the policy earns money at a multiple of the costs, by the lower bound of its interval."""
    found = next((each.net_per_session for each in costs if each.multiple == multiple), None)
    if found is None:
        text = f"The policy's result at {multiple} times the costs could not be measured."
        return PromotionCheck("tradeable", False, text)
    shown = f"{found.value:,.2f} dollars a session [{found.low:,.2f}, {found.high:,.2f}]"
    ending = "." if found.low > 0 else ": not tradeable."
    text = f"The policy's result at {multiple} times the costs is {shown}; a lower bound above zero is required{ending}"
    return PromotionCheck("tradeable", found.low > 0, text)


def _rerun(evidence: Evidence, rules: PromotionConfig) -> PromotionCheck:
    """Return the check that a second training gave the same bits. Without one it fails, unless none is required."""
    found = evidence.rerun
    if rules.rerun == "never":
        return PromotionCheck("rerun", True, "The candidate was not trained a second time: its bits were not compared.")
    if found is None:
        reason = evidence.rerun_failed or "its bits must be compared first."
        return PromotionCheck("rerun", False, f"The candidate was not trained a second time: {reason}")
    if found.equal:
        text = f"A second training gave the same bits: weights {found.registered_weights[:12]} and model card."
        return PromotionCheck("rerun", True, text)
    text = f"A second training gave other bits: {found.first_difference}."
    if found.differences:
        text += f" The trainings differ in {'; '.join(found.differences)}."
    return PromotionCheck("rerun", False, text)


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
        text = f"The champion could not be compared: {reason}. Keep the champion."
        return [*checks, PromotionCheck("champion", False, text)]
    age = evidence.champion_age
    if age is not None and age > rules.champion_expires:
        text = f"The champion's training data ended {age} sessions ago: a candidate that is not worse replaces it."
        checks.append(PromotionCheck("champion", True, text))
    else:
        passed = gain.value > margin
        ending = "exceeds {}." if passed else "does not exceed {}: keep the champion."
        shown = f"The gain in direction accuracy over the champion is {_points(gain)}"
        text = f"{shown}; it {ending.format(f'the margin of {100 * margin:.2f} points')}"
        checks.append(PromotionCheck("champion", passed, text))
    return [*checks, _not_worse("champion", gain, rules.thresholds.tolerance)]


def _points(gain: Interval) -> str:
    return f"{100 * gain.value:.2f} points [{100 * gain.low:.2f}, {100 * gain.high:.2f}]"


def selection_sentence(found: Selection) -> str:
    """Return what the tests over all presets say about the candidate."""
    p_value = "below 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
    text = (
        f"No other preset was tried for this key. On its {found.sessions} sessions the p-value that the rank IC is luck"
        f" is {p_value}."
    )
    rival = "zero"
    if found.presets > 1:
        best = ", ".join(map(str, found.superior)) or "none"
        text = (
            f"{found.presets} presets were tried for this key; {found.compared} have {found.sessions} sessions in"
            f" common. The p-value that the best rank IC among them is luck is {p_value}. Versions with skill,"
            f" corrected for the number of presets: {best}."
        )
        rival = f"that of the best of {found.effective_trials:.1f} independent presets without skill"
    if found.deflated_sharpe is None:
        return text
    chance = f"{found.deflated_sharpe:.0%}"
    return f"{text} The policy's true Sharpe ratio exceeds {rival} with a probability of {chance}."


AGAINST_THE_RULE = "Promoted by hand, against the promotion rule,"
"""Start of the first reason, in ledger and report, of a promotion that a person made against the rule."""

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
    if decision.override is not None and decision.state == DecisionState.PROMOTED:
        return AGAINST_THE_RULE.rstrip(",")
    return (SIMULATED if decision.simulated else TITLES)[decision.state]


def tone_of(decision: Decision) -> str:
    """Return the colour class of a decision: ``good``, ``bad`` (also an override), or empty: open or simulated."""
    if decision.override is not None:
        return "bad"
    tones = {DecisionState.PROMOTED: "good", DecisionState.ACCEPTED: "", DecisionState.WAITING: ""}
    return "" if decision.simulated else tones.get(decision.state, "bad")
