"""The states of a decision about a candidate, from the rule's verdict to the promotion. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class DecisionState(StrEnum):
    """Where a candidate stands.

    The rule says ``refused``, ``accepted`` (it will be promoted) or, where a person must approve, ``waiting``. Then it
    is ``promoted``, ``rejected`` by a person, or ``expired``: nobody answered in time.
    """

    REFUSED = "refused"
    ACCEPTED = "accepted"
    WAITING = "waiting"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    EXPIRED = "expired"


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
    """Return the state in a decision.json; the first ones hold the rule's verdict alone."""
    return DecisionState(
        decision.get("state") or (DecisionState.PROMOTED if decision["promote"] else DecisionState.REFUSED)
    )


def title_of(decision: Mapping[str, Any]) -> str:
    """Return the headline of a decision."""
    return (SIMULATED if decision.get("simulated") else TITLES)[state_of(decision)]


def tone_of(decision: Mapping[str, Any]) -> str:
    """Return how a decision is coloured: ``good``, ``bad``, or empty while it is open or simulated."""
    tones = {DecisionState.PROMOTED: "good", DecisionState.ACCEPTED: "", DecisionState.WAITING: ""}
    return "" if decision.get("simulated") else tones.get(state_of(decision), "bad")


def remarks_of(decision: Mapping[str, Any]) -> list[str]:
    """Return what is to be said about a decision beside the rule's reasons: who asked for it, who answered."""
    return [text for text in (decision.get("remark"), (decision.get("approval") or {}).get("text")) if text]
