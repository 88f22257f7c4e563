"""The states of a decision about a candidate, from the rule to the promotion."""

from __future__ import annotations

from vpoc_ml.artifacts.decision import Decision, DecisionState

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
