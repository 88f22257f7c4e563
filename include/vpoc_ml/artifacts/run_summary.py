"""What a run leaves beside its artifacts: the records of failures, and the summary of all records."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.metrics import Metrics
from vpoc_ml.artifacts.sources import UnreadableFile
from vpoc_ml.artifacts.stage_results import (
    BarsGateResult,
    GateResult,
    LeakageGateResult,
    MonitoringResult,
    ScoreResult,
    StageResult,
)


class StageFailure(BaseModel):
    """Why a task of a stage failed: ``runs/<run>/failures/<stage>.json``, or ``<stage>.<label>.json``.

    Attributes:
        stage: name of the failed function of the pipeline.
        label: contract of a mapped task; "" for a stage that runs once.
        error: class of the error.
        message: text of the error.
        exit_code: exit code that belongs to the class.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str
    label: str = ""
    error: str
    message: str
    exit_code: int = 1


class FailedStage(StageResult):
    """Record of a stage that raised an error; a failed gate's verdict is among the other fields.

    Attributes:
        error: the message.
        error_type: class of the error.
        exit_code: exit code of the command line for it.
    """

    model_config = ConfigDict(extra="allow")

    error: str
    error_type: str
    exit_code: int


GateRecord = Annotated[
    FailedStage | BarsGateResult | LeakageGateResult | MonitoringResult | GateResult, Field(union_mode="left_to_right")
]
"""The record of a gate; each class has required fields that the ones after it lack."""


class StageRow(JsonArtifact):
    """One line of a run's summary; None where the stage's record does not say."""

    stage: str
    contract: str | None
    rows_in: int | None
    rows_out: int | None
    quarantined: int | None
    skipped: bool | None
    seconds: float | None
    error: str | None
    reason: str | None


class DataAge(JsonArtifact):
    """Age of a run's bars.

    Attributes:
        newest_bar: ISO timestamp of the newest bar (start of bar, UTC).
        age_sessions: sessions that ended after the newest bar's session, at the run's clock.
    """

    newest_bar: str
    age_sessions: int


class RunSummary(JsonArtifact):
    """Summary of a run, from the records of its stages.

    Attributes:
        run, preset, config_hash: the run and its configuration.
        stages: one row per record, in the order of the stages.
        gates: the records of the gates; of a failed one, its error and its verdict.
        data: age of the bars; None before the gate on bars passed.
        metrics: None before the evaluation.
        decision: None before the decision.
        scores: result of the scoring; None before it.
        unreadable: files that were not used.
        notes: sentences about files, contracts and sessions that were left out.
        lost: front sessions that no file holds, and rolls without a step.
        steps: steps at rolls that were stated or estimated.
        lost_rows: rows that warm-ups cost, if they are many: the share first, then each contract.
        reports: path of each report by its title.
    """

    run: str
    preset: str
    config_hash: str
    stages: tuple[StageRow, ...]
    gates: tuple[GateRecord, ...]
    data: DataAge | None
    metrics: Metrics | None
    decision: Decision | None
    scores: ScoreResult | None = None
    unreadable: tuple[UnreadableFile, ...]
    notes: tuple[str, ...]
    lost: tuple[str, ...]
    steps: tuple[str, ...] = ()
    lost_rows: tuple[str, ...] = ()
    reports: dict[str, str]

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON object; gates, metrics and decision as their own files have them."""
        return super().to_json() | {
            "gates": [gate.to_json() for gate in self.gates],
            "metrics": self.metrics.to_json() if self.metrics else None,
            "decision": self.decision.to_json() if self.decision else None,
        }
