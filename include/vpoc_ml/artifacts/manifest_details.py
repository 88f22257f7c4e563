"""The details in an artifact's manifest: the small result of the stage that built it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from vpoc_ml.artifacts.json_artifact import JsonArtifact


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class WholeFile(_Part):
    """The only file that bars were built from: size in bytes and identity of the source. Appended lines extend it."""

    size: int
    source: str


class BarsDetails(JsonArtifact):
    """Details of ``bars/``. Manifests of earlier releases lack the fields with a default.

    Attributes:
        rows_in: rows of the vendor files.
        quarantined: rows of the quarantine.
        reasons: number of quarantined rows by reason.
        notes: remarks about the files.
        left_out: sentence on rows that are neither bars nor quarantined; empty without any.
        sessions: number of sessions.
        file: the file, where there is only one and nothing was written to it meanwhile.
    """

    rows_in: int
    quarantined: int
    reasons: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: str = ""
    sessions: int = 0
    file: WholeFile | None = None


class FeaturesHistory(_Part):
    """The predecessors that features may have read.

    Attributes:
        links: identity of each predecessor, nearest first, as texts.
        complete: whether they hold all sessions that were wanted.
        sessions: sessions that were wanted.
    """

    links: tuple[tuple[str, ...], ...]
    complete: bool
    sessions: int


class FeaturesDetails(JsonArtifact):
    """Details of ``features/``.

    Attributes:
        history_sessions: sessions of predecessors that the features read.
        predecessors: contracts of these sessions, nearest first.
        spliced_from: first session of the predecessors, ISO date; None without any.
        history: what is needed to see whether the predecessors have changed.
    """

    history_sessions: int
    predecessors: tuple[str, ...]
    spliced_from: str | None
    history: FeaturesHistory


class RollDetails(JsonArtifact):
    """Details of ``roll/``.

    Attributes:
        rows_in: rows of the daily figures.
        quarantined: always 0.
        lost: a sentence for each front session that no file holds and for each roll without a step.
        steps: a sentence for each step that was stated or estimated.
    """

    rows_in: int
    quarantined: int
    lost: tuple[str, ...]
    steps: tuple[str, ...] = ()


class ScoresDetails(JsonArtifact):
    """Details of ``predictions/``.

    Attributes:
        rows_in: bars of the contract after the champion's training.
        quarantined: those of them without a prediction.
        abstained: predictions without a direction.
    """

    rows_in: int
    quarantined: int
    abstained: int = 0
