"""``progress.jsonl``: one record per window of steps and per epoch while a run trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from vpoc_ml.artifacts.training_files import PROGRESS


class WindowRecord(BaseModel):
    """The steps since the monitor's last read. Losses and shares are means over the members, norms are extremes.

    Attributes:
        step: optimizer steps so far.
        epoch: current epoch, from 1.
        steps_total: steps of all epochs.
        loss: mean training loss; None if no step was finite.
        grad_norm_max, grad_norm_mean: norms of the gradient before clipping; None if not finite.
        lr: learning rate of the last step, after rollbacks.
        skipped: steps that were discarded because loss or gradient were not finite.
        clip_share: share of steps whose gradient was clipped.
        clip_limit: largest norm allowed; None without a limit yet.
        update_ratio_max: largest norm of an update relative to the norm of the weights; None if not finite.
        rollbacks: windows that were undone so far.
        loss_scale: factor of the loss in fp16.
        delta: delta of the Huber loss.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["window"] = "window"
    step: int = 0
    epoch: int = 0
    steps_total: int = 0
    loss: float | None = None
    grad_norm_max: float | None = None
    grad_norm_mean: float | None = None
    lr: float | None = None
    skipped: int = 0
    clip_share: float | None = None
    clip_limit: float | None = None
    update_ratio_max: float | None = None
    rollbacks: int = 0
    loss_scale: float | None = None
    delta: float | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON object of one line."""
        return self.model_dump(mode="json")


class EpochRecord(BaseModel):
    """One epoch. ``rows`` and ``seconds`` are those of this process, which may have resumed within the epoch.

    Attributes:
        step: optimizer steps so far.
        epoch: the epoch, from 1.
        epochs_total: largest number of epochs.
        lr: learning rate of the last step, after rollbacks.
        train_loss: mean loss of the epoch's finite steps; None if there was none.
        validation_loss: mean over the members; None if not finite.
        validation_constant: validation loss of the best constant prediction.
        best: a member's validation loss was its lowest so far.
        dead: the predictions do not vary.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["epoch"] = "epoch"
    epoch: int = 0
    epochs_total: int | None = None
    step: int = 0
    lr: float | None = None
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_constant: float | None = None
    best: bool = False
    dead: bool = False
    seconds: float = 0.0
    rows: int = 0

    def to_json(self) -> dict[str, JsonValue]:
        """Return the JSON object of one line."""
        return self.model_dump(mode="json")

    def to_sentence(self) -> str:
        """Return the epoch as one line of text.

        The time left is that of all epochs that remain; early stopping may end the training before.
        """
        total = f" of {self.epochs_total}" if self.epochs_total else ""
        parts = [
            f"epoch {self.epoch}{total}: training loss {_loss(self.train_loss)}",
            f"validation loss {_loss(self.validation_loss)}",
            f"constant {_loss(self.validation_constant)}",
        ]
        parts += ["best so far"] if self.best else []
        parts += ["the net predicts one number"] if self.dead else []
        parts += [f"learning rate {self.lr:.3g}"] if self.lr is not None else []
        if self.seconds:
            parts += [f"{self.rows / self.seconds:,.0f} rows/s"] if self.rows else []
            parts.append(f"{self.seconds:.1f} s")
            if (left := (self.epochs_total or 0) - self.epoch) > 0:
                parts.append(f"at most {_duration(left * self.seconds)} left")
        return ", ".join(parts)


ProgressRecord = WindowRecord | EpochRecord
OnProgress = Callable[[ProgressRecord], None]
"""Receives each progress record when it is written."""
_ADAPTER: TypeAdapter[ProgressRecord] = TypeAdapter(Annotated[ProgressRecord, Field(discriminator="kind")])


def parse_progress(line: object) -> ProgressRecord:
    """Return the record that ``to_json`` described.

    Raises:
        pydantic.ValidationError: the object describes no progress record.
    """
    return _ADAPTER.validate_python(line)


def read_progress(run_dir: Path) -> list[ProgressRecord]:
    """Return the records of ``progress.jsonl``, none without the file. An incomplete last line is left out."""
    path = run_dir / PROGRESS
    return progress_records(path.read_text(encoding="utf-8") if path.is_file() else "")


def progress_records(text: str) -> list[ProgressRecord]:
    """Return the records in the content of ``progress.jsonl``. An incomplete last line is left out."""
    lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    return [_ADAPTER.validate_json(line) for line in lines if line]


def split_records(records: Sequence[ProgressRecord]) -> tuple[list[WindowRecord], list[EpochRecord]]:
    """Return the windows and the epochs of progress records."""
    windows = [record for record in records if isinstance(record, WindowRecord)]
    return windows, [record for record in records if isinstance(record, EpochRecord)]


def _loss(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
