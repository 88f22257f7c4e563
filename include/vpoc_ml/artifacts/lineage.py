"""``lineage.json`` of a run and of its registered version: what the model was made from, back to delivered files."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue

from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.feature_statistics import SplitSpan
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.metrics import Interval
from vpoc_ml.artifacts.model_card import ModelSummary, StoredModelCard
from vpoc_ml.artifacts.sources import DeliveredFile
from vpoc_ml.artifacts.track_record import Fold


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class BuiltArtifact(_Part):
    """An artifact and its build key.

    Attributes:
        key: its key in the lake, or its file in the run's folder.
        sha256: hash of its content.
        rows: number of rows.
        first_ts, last_ts: timestamps of the first and last row, ISO 8601, UTC; None without any.
        inputs: hash of each input by name.
        config: hash of the settings that it depends on.
        code: hash of the code and library versions that computed it.
    """

    key: str
    sha256: str
    rows: int
    first_ts: str | None
    last_ts: str | None
    inputs: dict[str, str]
    config: str
    code: str


class GateOutcome(_Part):
    """A gate of the run: whether it passed, and how many checks it made."""

    gate: str
    passed: bool
    checks: int


class Lineage(JsonArtifact):
    """What a model was made from. It is written once, with the evaluation, and registered with the model.

    Settings are in ``config.json`` beside it. What happened to the version later is in the ledger.

    Attributes:
        run: the run of the candidate.
        trained_in: the run that trained the model; another one where an equal training was reused.
        preset: name of the preset.
        config_hash: hash of all settings.
        preset_key: identity of settings and code of the folds; None for one split.
        fingerprint: identity of training data, settings and code.
        weights_sha256: hash of the weights.
        periods: period of each split of the training set.
        files: every delivered file: vendor files, VIX and further indices.
        indices: the VIX and further indices as read from them.
        roll: the roll table.
        contracts: by contract its artifacts: bars, sessions, developing levels, features.
        training_set: the run's training set.
        folds: the walk-forward folds.
        gates: every gate of the run.
        sessions: evaluated sessions.
        rank_ic: rank IC on their rows; None if it could not be measured.
        net: result after costs, dollars.
        libraries: version of each library that computed any of this, and of Python.
    """

    run: str
    trained_in: str
    preset: str
    config_hash: str
    preset_key: str | None
    fingerprint: str
    weights_sha256: str
    periods: dict[str, SplitSpan]
    files: tuple[DeliveredFile, ...]
    indices: tuple[BuiltArtifact, ...]
    roll: BuiltArtifact
    contracts: dict[str, tuple[BuiltArtifact, ...]]
    training_set: BuiltArtifact
    folds: tuple[Fold, ...]
    gates: tuple[GateOutcome, ...]
    sessions: int
    rank_ic: Interval | None
    net: float
    libraries: dict[str, str]


class LedgerLine(_Part):
    """An entry of the ledger about a version; ``time`` is ISO 8601, UTC."""

    seq: int
    time: str
    action: str
    actor: str | None
    reasons: tuple[str, ...]


class ModelRecord(JsonArtifact):
    """A registered version with all that is known about it.

    Attributes:
        summary: version, key, run, metrics.
        description: the model card.
        settings: the settings of its run.
        lineage: None for a version of an earlier release.
        decision: the newest decision about it; None if its run's folder is gone.
        ledger: the ledger's entries about it, oldest first.
    """

    summary: ModelSummary
    description: StoredModelCard
    settings: dict[str, JsonValue]
    lineage: Lineage | None
    decision: Decision | None
    ledger: tuple[LedgerLine, ...]
