"""What the registry reports about a registered model version."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class VersionDecision(BaseModel):
    """The newest ledger entry about a version: action, time (UTC, ISO 8601) and reasons."""

    model_config = ConfigDict(frozen=True)

    action: str
    time: str
    reasons: tuple[str, ...]


class ModelSummary(BaseModel):
    """A registered version.

    Attributes:
        version: number of the version.
        key: text of its ``ModelKey``, such as ``ES-1m-rank``.
        run: the run that trained it.
        fingerprint: identity of the training data, settings and code.
        registered: time of registration (UTC, ISO 8601).
        champion: it is the current champion of its key.
        metrics: point estimates by name.
        decision: the newest decision about it; None if there is none.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    key: str
    run: str
    fingerprint: str
    registered: str
    champion: bool
    metrics: dict[str, float]
    decision: VersionDecision | None
