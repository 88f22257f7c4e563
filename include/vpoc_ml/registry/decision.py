"""The states of a decision about a candidate, from the rule to the promotion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vpoc_ml.artifacts.decision import DecisionState as DecisionState

TITLES = {
    DecisionState.REFUSED: "Refused",
    DecisionState.ACCEPTED: "Accepted, not yet promoted",
    DecisionState.WAITING: "Waiting for approval",
    DecisionState.PROMOTED: "Promoted",
    DecisionState.REJECTED: "Rejected by a person",
    DecisionState.EXPIRED: "Expired: nobody approved it in time",
}
SIMULATED = {DecisionState.REFUSED: "Simulated: refused", DecisionState.ACCEPTED: "Simulated: would be promoted"}


def state_of(decision: Mapping[str, Any]) -> DecisionState:
    """Return the state in a decision.json. Files of the first release hold only the result of the rule."""
    return DecisionState(
        decision.get("state") or (DecisionState.PROMOTED if decision["promote"] else DecisionState.REFUSED)
    )


def title_of(decision: Mapping[str, Any]) -> str:
    """Return the headline of a decision."""
    return (SIMULATED if decision.get("simulated") else TITLES)[state_of(decision)]


def tone_of(decision: Mapping[str, Any]) -> str:
    """Return the colour class of a decision: ``good``, ``bad``, or empty while it is open or simulated."""
    tones = {DecisionState.PROMOTED: "good", DecisionState.ACCEPTED: "", DecisionState.WAITING: ""}
    return "" if decision.get("simulated") else tones.get(state_of(decision), "bad")


def remarks_of(decision: Mapping[str, Any]) -> list[str]:
    """Return the remarks on a decision: who requested it and who answered."""
    return [text for text in (decision.get("remark"), (decision.get("approval") or {}).get("text")) if text]
