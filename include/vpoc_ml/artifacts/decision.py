"""``decision.json``: the newest decision about a run's candidate, from the rule's verdict to the promotion."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from vpoc_ml.artifacts.json_artifact import JsonArtifact


class DecisionState(StrEnum):
    """State of a candidate.

    The rule gives ``refused``, ``accepted`` (to be promoted) or, where a person must approve, ``waiting``. Then the
    candidate is ``promoted``, ``rejected`` by a person, or ``expired`` because nobody answered in time.
    """

    REFUSED = "refused"
    ACCEPTED = "accepted"
    WAITING = "waiting"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Check(BaseModel):
    """One condition of the promotion rule."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    passed: bool
    text: str


class Approval(BaseModel):
    """The answer to a candidate that waited for approval.

    Attributes:
        answer: ``approved``, ``rejected`` or ``timeout``.
        name: the person; None after a timeout.
        time: ISO timestamp.
        note: the person's remark.
        text: the answer as a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    answer: str
    name: str | None
    time: str
    note: str
    text: str


class Override(BaseModel):
    """A promotion by hand of a candidate that the rule refused.

    Attributes:
        name: the person.
        time: ISO timestamp.
        reason: the person's reason.
        text: the override as a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    time: str
    reason: str
    text: str


class Selection(BaseModel):
    """A candidate beside all presets that were tried for its key, on their common sessions.

    Attributes:
        presets: presets that were tried.
        compared: presets with session scores, the candidate's among them.
        sessions: common sessions.
        p_value: of Hansen's test of superior predictive ability: the probability of a best rank IC this high if no
            preset had skill.
        superior: versions whose rank IC is above zero by Romano and Wolf's StepM, 5 % familywise.
        effective_trials: independent presets that the compared ones are worth, by the results of their policies.
        deflated_sharpe: probability that the policy's true Sharpe ratio exceeds that of the best of so many presets
            without skill; None without trades.
        minimum_sessions: sessions after which a Sharpe ratio like the policy's is significant at 95 %; None if it never
            is.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    presets: int
    compared: int
    sessions: int
    p_value: float
    superior: tuple[int, ...]
    effective_trials: float
    deflated_sharpe: float | None
    minimum_sessions: float | None


class Decision(JsonArtifact):
    """A decision about a candidate.

    Attributes:
        key: key of the model; None in a file of the first release.
        state: the candidate's state.
        simulated: the run is of a past night, so the decision changes no champion.
        promote: the rule's verdict.
        reasons: the rule's reasons.
        checks: every condition of the rule.
        net: result of the test rows after costs, in the instrument's currency.
        version: version of the candidate; None if it is not registered.
        champion_before: version of the champion that the candidate was compared with; None without one.
        decided_at: ISO timestamp.
        remark: remark on the decision, such as who requested it.
        approval: the answer of a person; None as long as there is none.
        override: the override of the rule's refusal by a person; None if the rule's verdict counts.
        selection: the candidate beside all presets; None in a simulation, and with too few common sessions.
    """

    key: str | None = None
    state: DecisionState
    simulated: bool = False
    promote: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    net: float | None = None
    version: int | None
    champion_before: int | None
    decided_at: str | None = None
    remark: str | None
    approval: Approval | None
    override: Override | None = None
    selection: Selection | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_first_release(cls, content: Any) -> Any:
        """Complete a file of the first release, which holds the rule's verdict alone."""
        if not isinstance(content, dict):
            return content
        absent = dict.fromkeys(("version", "champion_before", "remark", "approval"))
        state = "promoted" if content.get("promote") else "refused"
        return {**absent, **content, "state": content.get("state") or state}

    @property
    def remarks(self) -> list[str]:
        """What must be said about the decision beside the rule's reasons: who requested, overrode or answered it."""
        people = (self.override, self.approval)
        return [text for text in (self.remark, *(each and each.text for each in people)) if text]

    @property
    def person(self) -> str | None:
        """Name of the person who overrode the rule or answered; None if the rule alone decided."""
        named = self.override or self.approval
        return named.name if named else None

    @property
    def candidate(self) -> int:
        """Version of the registered candidate.

        Raises:
            ValueError: the candidate is not registered: the decision is simulated.
        """
        if self.version is None:
            raise ValueError("expected the decision about a registered candidate, found a simulated one")
        return self.version

    def replaced(self, **fields: Any) -> Self:
        """Return the decision with other values of some fields."""
        return self.model_copy(update=fields)
