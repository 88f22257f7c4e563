"""``training_result.json`` and ``training_config.json``: the result of training a run, and how it was trained."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue

from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.model_card import ModelPart
from vpoc_ml.artifacts.training_files import REFIT_CHOICES
from vpoc_ml.config import ModelConfig, TrainingConfig


class ColumnReport(BaseModel):
    """What preflight found in one column: share of non-finite values, and a sentence for each problem."""

    model_config = ConfigDict(frozen=True)

    nonfinite_share: float
    problems: tuple[str, ...]


class PreflightReport(BaseModel):
    """Defects of the training rows, found before the first step.

    Attributes:
        rows: training rows.
        nonfinite_rows: rows with at least one non-finite feature.
        nonfinite_row_share: their share.
        nonfinite_batch_share: expected share of batches that hold such a row.
        unlabelled_rows: rows without a finite target.
        columns: columns with a defect.
    """

    model_config = ConfigDict(frozen=True)

    rows: int = 0
    nonfinite_rows: int = 0
    nonfinite_row_share: float = 0.0
    nonfinite_batch_share: float = 0.0
    unlabelled_rows: int = 0
    columns: dict[str, ColumnReport] = Field(default_factory=dict)


class MemberResult(BaseModel):
    """Best epoch of one ensemble member. Epochs count from 1; 0: the start was better, which ``keep_start`` allows.

    Attributes:
        best_epoch: epoch with the lowest validation loss.
        best_loss: that loss.
        best_dead: the predictions of that epoch do not vary.
        trained_epochs: training behind its weights, 0.125 being an eighth of an epoch.
        epochs_without_gain: epochs since then.
    """

    model_config = ConfigDict(frozen=True)

    best_epoch: int = 0
    best_loss: float | None = None
    best_dead: bool = False
    trained_epochs: float = 0.0
    epochs_without_gain: int = 0


class FailedPreset(BaseModel):
    """A preset with which training was unstable. ``steps`` and ``rollbacks``: how far it came."""

    model_config = ConfigDict(frozen=True)

    preset: str = Field(validation_alias=AliasChoices("preset", "rung"))
    error: str
    steps: int
    rollbacks: int


class TrainedPointer(JsonArtifact):
    """``trained/<fingerprint>.json``: the run that trained this fingerprint, and the SHA-256 of its model files."""

    run: str
    files: dict[str, str]


class TrainingResult(JsonArtifact):
    """What came of training a run.

    Attributes:
        preset: preset that trained the model: the run's own, or a fallback preset.
        failed_presets: presets that were unstable before it.
        epochs, steps: completed ones, those of earlier processes included.
        seconds: wall time of training, that of earlier processes included.
        best_epoch: latest best epoch of any member, from 1; 0: the start.
        trained_epochs: training behind the best weights of that member, 0.125 being an eighth of an epoch.
        best_validation_loss: mean over the members of their lowest validation loss.
        validation_constant: validation loss of the best constant prediction.
        parameters: number of trained values.
        skipped: steps that were discarded because loss or gradient were not finite.
        rollbacks: windows of steps that were undone.
        resumed_from_step: step of the checkpoint that this process continued; 0 without one.
        engine, engine_reason: what computed the steps, and why.
        device: torch's name of the device.
        dead: the predictions of the best model do not vary.
        rows: training rows.
        nonfinite_rows: training rows with a non-finite feature.
        preflight: defects of the training rows.
        members: one entry per ensemble member.
        parts: parts of a blend with their weights; None for a single part.
        slope: calibration slope of a stack; None without one.
        trees: number of boosted trees in the blend; None without trees.
        ridge_penalty: penalty of the ridge part, a share of the training rows; None without one.
    """

    preset: str = Field(validation_alias=AliasChoices("preset", "rung"))
    failed_presets: tuple[FailedPreset, ...] = Field((), validation_alias=AliasChoices("failed_presets", "rungs"))
    epochs: int
    steps: int
    seconds: float
    best_epoch: int
    trained_epochs: float = 0.0
    best_validation_loss: float
    validation_constant: float
    parameters: int
    skipped: int
    rollbacks: int
    resumed_from_step: int
    engine: str
    engine_reason: str
    device: str
    dead: bool
    rows: int
    nonfinite_rows: int
    preflight: PreflightReport
    members: tuple[MemberResult, ...]
    parts: tuple[ModelPart, ...] | None = None
    slope: float | None = None
    trees: int | None = None
    ridge_penalty: float | None = None


class TrainingRecord(JsonArtifact):
    """``training_config.json``: the settings a model was trained with, and what its bits depend on.

    Attributes:
        model, training: settings of the preset that is trained.
        preset, failed_presets: see ``TrainingResult``.
        parameters: number of trained values.
        device: torch's name of the device.
        device_reason: why it was chosen.
        device_report: hardware, known issues and smoke test; empty where no GPU was considered.
        threads: threads of torch.
        torch: version of PyTorch.
        fingerprint: identity of the training data, settings and code.
        engine, engine_reason: what computes the steps, and why.
    """

    model: ModelConfig
    training: TrainingConfig
    preset: str = Field(validation_alias=AliasChoices("preset", "rung"))
    failed_presets: tuple[FailedPreset, ...] = Field((), validation_alias=AliasChoices("failed_presets", "rungs"))
    parameters: int
    device: str
    device_reason: str
    device_report: dict[str, JsonValue] = Field(default_factory=dict)
    threads: int
    torch: str
    fingerprint: str
    engine: str
    engine_reason: str


class GpuSummary(JsonArtifact):
    """A GPU that torch can use; memory in bytes."""

    name: str
    arch: str
    total_bytes: int
    free_bytes: int


class HardwareSummary(JsonArtifact):
    """A machine.

    Attributes:
        platform: ``rocm``, ``cuda`` or ``cpu``: what torch was built for.
        torch, hip, cuda: versions; None for what torch was not built with.
        blas: preferred GEMM library; None without a GPU.
        driver: version of the GPU's driver; None if the kernel does not report it.
        gpus: GPUs that torch can use.
        environment: variables that control torch, HIP and CUDA.
    """

    platform: str
    torch: str
    hip: str | None
    cuda: str | None
    blas: str | None
    driver: str | None
    gpus: tuple[GpuSummary, ...]
    environment: dict[str, str]


class RefitChoices(JsonArtifact):
    """``refit.json`` beside a training set without validation rows: what the folds chose for the shipped model.

    Attributes:
        epochs: epochs after which training ends, the median of what the folds' weights were trained for; 0.125 is an
            eighth of an epoch.
        weights: weight of each part; empty for a single part. Those of a stack are fitted on the newest
            predictions of the folds, those of a blend are the mean over the folds.
        slope: calibration slope of a stack, fitted likewise; None without one.
        trees: number of boosted trees, the median over the folds; None without trees.
        ridge_penalty: penalty of the ridge part, the median over the folds; None without one.
        folds: names of the folds.
    """

    epochs: float
    weights: dict[str, float]
    slope: float | None
    trees: int | None
    ridge_penalty: float | None
    folds: tuple[str, ...]


def read_refit_choices(folder: Path) -> RefitChoices | None:
    """Return the choices of a refit; None for a training set with validation rows.

    Raises:
        ArtifactError: the file holds something else.
    """
    path = folder / REFIT_CHOICES
    if not path.is_file():
        return None
    return RefitChoices.read(path, what="the choices of a refit", remedy="Prepare the refit again.")
