"""What each stage of a run returns and records. ``to_json`` gives the JSON of the record, of XCom and of ``--json``."""

from __future__ import annotations

from typing import Self

from pydantic import AliasChoices, ConfigDict, Field, JsonValue, computed_field

from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.gate_report import Verdict
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.sources import DeliveredFile, Source, UnreadableFile
from vpoc_ml.artifacts.studies import SeedComparison
from vpoc_ml.config import RunConfig

UNCHANGED = "unchanged"
LOST_ROWS_WARN = 0.05
"""Share of the front periods' rows lost to warm-ups from which on a run says so."""


class StartedRun(JsonArtifact):
    """A started run and its resolved configuration."""

    run: str
    preset: str
    config_hash: str
    config_uri: str
    config: RunConfig


class RecalledInputs(JsonArtifact):
    """The input of a new run: what the command line names, and what earlier runs of the lake named.

    Attributes:
        raw: folder of vendor files; None: ``raw/`` of the lake.
        vix: VIX file; None: the one in the raw folder.
        notes: what was recalled, from which run.
    """

    raw: str | None
    vix: str | None
    notes: tuple[str, ...]


class StageResult(JsonArtifact):
    """Base of all stage results.

    Attributes:
        stage: name of the stage.
        contract: code of the contract; None for a stage of the whole run.
        seconds: wall-clock time.
    """

    stage: str = ""
    contract: str | None = None
    seconds: float | None = None


class WorkResult(StageResult):
    """Result of a stage that turns rows into rows.

    Attributes:
        rows_in: rows read.
        rows_out: rows written.
        quarantined: rows left out as defective.
        skipped: the stored artifact was up to date, so nothing was computed.
        reason: why the artifact was built, such as ``new`` or ``inputs changed: raw``; ``unchanged`` if skipped.
    """

    rows_in: int
    rows_out: int
    quarantined: int = 0
    skipped: bool
    reason: str | None = Field(default=None, validation_alias=AliasChoices("reason", "why"))


class Plan(StageResult):
    """Result of the stage ``plan``.

    Attributes:
        contracts: codes of the contracts to build, in order of expiry.
        sources: the delivered sources of each contract.
        unreadable: files that no reader knows or that are damaged.
        notes: one sentence for each file or contract that is left out.
        raw: folder of the vendor files.
        vix: the VIX file; None in a run without the VIX.
        covariates: the file of each further index, by its column among the bars.
    """

    contracts: tuple[str, ...]
    sources: dict[str, tuple[Source, ...]]
    unreadable: tuple[UnreadableFile, ...] = ()
    notes: tuple[str, ...] = ()
    raw: str
    vix: str | None
    covariates: dict[str, str] = Field(default_factory=dict)


class IngestResult(WorkResult):
    """Result of ``ingest``.

    Attributes:
        reasons: quarantined rows by reason.
        notes: remarks about the files.
        left_out: sentence about rows of sessions whose hours are not reviewed; None without such rows.
        sessions: number of sessions with bars.
        files: the vendor files that hold the contract.
    """

    reasons: dict[str, int]
    notes: tuple[str, ...]
    left_out: str | None
    sessions: int
    files: tuple[DeliveredFile, ...] = ()


class RollsResult(WorkResult):
    """Result of ``rolls``.

    Attributes:
        lost: a sentence for each front session that no file holds and for each roll without a step.
        steps: a sentence for each step that was stated or estimated.
    """

    lost: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


class SuccessorResult(StageResult):
    """Result of ``features-successor``.

    Attributes:
        successor: the contract after this one; None at the end of the roll table.
        rebuilt: contracts whose features were built again.
        skipped: nothing was built.
    """

    successor: str | None
    rebuilt: tuple[str, ...]
    skipped: bool
    rows_in: int | None = None
    rows_out: int | None = None
    quarantined: int | None = None
    reason: str | None = None


class GateResult(StageResult, Verdict):
    """Result of a gate: its verdict."""

    @classmethod
    def of(cls, verdict: Verdict, **fields: JsonValue) -> Self:
        """Return the result of a gate with this verdict."""
        return cls.model_validate({**verdict.to_json(), **fields})


class BarsGateResult(GateResult):
    """Result of the gate on bars.

    Attributes:
        newest_bar: ISO timestamp of the newest bar (start of bar, UTC).
        age_sessions: sessions that ended after the newest bar's session, at the run's clock.
    """

    newest_bar: str
    age_sessions: int


class LeakageGateResult(GateResult):
    """Result of the gate against look-ahead.

    Attributes:
        largest_t: the largest t statistic of the placebo, with its feature.
        proof: why the proof was made again; ``unchanged`` if the stored one holds.
    """

    largest_t: JsonValue
    proof: str


class MonitoringResult(GateResult):
    """Result of the gate ``monitoring``.

    Attributes:
        version: the champion's version; None without a champion.
        sessions: the newest sessions that were compared with its training rows; empty without a reference.
        columns: number of features that were compared.
        note: what was not checked, and the reason; None if all was.
    """

    version: int | None
    sessions: tuple[str, ...]
    columns: int
    note: str | None = None


class RowLoss(JsonArtifact):
    """Rows of one contract's front period that lack the history of their features.

    Attributes:
        contract: code of the contract.
        rows: rows of the front period.
        lost: rows of it that are not in the training set.
        reason: why; empty if none is lost.
    """

    contract: str
    rows: int
    lost: int
    reason: str

    @property
    def text(self) -> str:
        """The loss in words, such as ``ESH24: 19,320 of 60,720, warm-up of the first contract``."""
        return f"{self.contract}: {self.lost:,} of {self.rows:,}, {self.reason}"


class TrainingSetResult(WorkResult):
    """Result of ``training-set``.

    Attributes:
        splits: rows by split.
        features: feature columns in model order.
        sha256: content hash of the file.
        losses: rows that warm-ups cost, by contract in order of time; empty in older records.
    """

    splits: dict[str, int]
    features: tuple[str, ...]
    sha256: str
    losses: tuple[RowLoss, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def lost_rows(self) -> tuple[str, ...]:
        """Sentences on the rows that warm-ups cost; none where it is no more than ``LOST_ROWS_WARN``."""
        lost, rows = sum(each.lost for each in self.losses), sum(each.rows for each in self.losses)
        if lost <= LOST_ROWS_WARN * rows:
            return ()
        total = f"{lost:,} of {rows:,} rows of the front periods ({lost / rows:.1%}) lack the history of their features"
        return (total, *(each.text for each in self.losses if each.lost))


class FoldsResult(StageResult):
    """Result of ``plan-folds``: the names of the folds, oldest first; empty for one split of the sessions."""

    folds: tuple[str, ...]


class FoldResult(WorkResult):
    """Result of ``train-fold``: key and best epoch of the fold's model; ``rows_out`` are the predicted rows."""

    key: str
    best_epoch: int


class TrackRecordResult(WorkResult):
    """Result of ``track-record``: number of folds and of predicted sessions."""

    folds: int
    sessions: int = 0


class TrainResult(WorkResult):
    """Result of ``train``: the content of ``training_result.json`` and where it was trained.

    Attributes:
        fingerprint: identity of training data, settings and code, 16 hex digits.
        trained_in: the run that trained the model; another one where the model was reused.
        device: device of the training.
        parameters: number of trained values.
    """

    model_config = ConfigDict(extra="allow")

    fingerprint: str
    trained_in: str
    device: str = ""
    parameters: int = 0


class EvaluateResult(WorkResult):
    """Result of ``evaluate``: version of the compared champion (None without one), URIs of metrics and report."""

    champion: int | None
    metrics: str
    report: str


class LiveRecord(JsonArtifact):
    """What the live record of one preset says: sessions after its models were fixed.

    Attributes:
        preset: identity of settings and code.
        version: newest version of the preset.
        champion: the champion is of this preset.
        sessions: sessions with a rank IC.
        since: first session, ISO date; None without one.
        rank_ic: mean rank IC of a session; None without one.
        track_rank_ic: the same on the track record.
        log_for: log of the e-process that the rank IC is above zero.
        log_against: log of the e-process that it is below zero.
        log_fading: log of the e-detector that it has fallen below half of the track record's; None without a positive
            one. While it has not, it reaches log(250) in 250 sessions or later, on average.
    """

    preset: str
    version: int
    champion: bool
    sessions: int
    since: str | None
    rank_ic: float | None
    track_rank_ic: float | None
    log_for: float
    log_against: float
    log_fading: float | None


class LiveResult(WorkResult):
    """Result of ``live-record``: the records of champion and challengers, the champion's first."""

    records: tuple[LiveRecord, ...] = ()


class DecisionResult(StageResult, Decision):
    """Result of the stages that decide: the decision.

    Attributes:
        evidence: Markdown for the person who approves; None unless the candidate waits.
        note: remark for the caller that is not part of the decision; None without one.
    """

    evidence: str | None = None
    note: str | None = None


class Coverage(JsonArtifact):
    """Share of the known returns that lie in the intervals of their predictions.

    ``rows`` and ``sessions`` are what it is of; ``track_sessions`` of them lie in the champion's track record.
    """

    share: float
    rows: int
    sessions: int
    track_sessions: int = 0


class ScoreResult(WorkResult):
    """Result of ``score``. ``quarantined`` counts the bars that lack a feature.

    Attributes:
        note: why nothing was scored; None if something was.
        refused: nothing was scored because bars, VIX or features are too old.
        added: new scores of this call.
        abstained: scores without a direction, because their rows are unlike the training rows.
        coverage: of the newest sessions; None while no return of a score is known.
        stated_coverage: ``scoring.coverage``; None for a champion without intervals.
        key: key of the champion's model.
        version: the champion's version.
        scored_at: ISO timestamp.
        newest_bar, age_sessions: as in the result of the gate on bars.
    """

    note: str | None = None
    refused: bool = False
    added: int = 0
    abstained: int = 0
    coverage: Coverage | None = None
    stated_coverage: float | None = None
    key: str | None = None
    version: int | None = None
    scored_at: str | None = None
    newest_bar: str | None = None
    age_sessions: int | None = None


class ReportsResult(StageResult):
    """Result of ``publish-reports``: URI of each report by its title, and the time."""

    published: dict[str, str]
    at: str


class AnalysisResult(WorkResult):
    """Result of ``analyze-features``: number of features and URI of the page."""

    features: int
    report: str


class SeedsResult(SeedComparison, StageResult):
    """Result of ``seeds``: the content of ``seeds.json``."""


class ReproduceResult(WorkResult):
    """Result of ``reproduce``.

    Attributes:
        version: the registered version.
        equal: weights and model card are the same to the bit.
        registered_weights, reproduced_weights: SHA-256 of both files.
        first_difference: file, place and both values of the first difference; None if there is none.
        differences: what differs between the records of both trainings, such as the version of PyTorch.
    """

    version: int
    equal: bool
    registered_weights: str
    reproduced_weights: str
    differences: tuple[str, ...]
    first_difference: str | None = None


class SearchResult(StageResult):
    """Result of ``search``.

    Attributes:
        finished, unstable, impossible: number of trials.
        space: the searched dimensions as text.
        seed: seed of the suggestions.
        best: overrides of the best trial; None without one.
        value: its rank IC on validation rows.
        own_value: that of the run's own settings; None if they were not tried.
        search, returns: URIs of the trials' records and of their returns per session.
        overfitting: probability that the trial with the best Sharpe ratio is below the median of the trials on other
            sessions; None with fewer than two trials or 20 validation sessions.
        deflated_sharpe: probability that the best trial's true Sharpe ratio exceeds what the best of so many trials
            reaches by chance; None where it is not known.
    """

    finished: int
    unstable: int
    impossible: int
    space: tuple[str, ...]
    seed: int
    best: tuple[str, ...] | None
    value: float | None
    own_value: float | None
    search: str
    returns: str
    overfitting: float | None = None
    deflated_sharpe: float | None = None


class RollbackResult(JsonArtifact):
    """A rollback: key of the model, version and run of the restored champion, and the reason given."""

    key: str
    champion: int
    run: str
    reason: str
