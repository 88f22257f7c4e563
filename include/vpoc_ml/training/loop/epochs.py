"""The training loop: epochs of windows of steps, monitored, validated and stored."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vpoc_ml.artifacts.training_progress import EpochRecord, OnProgress
from vpoc_ml.errors import NoFiniteValidationLossError
from vpoc_ml.training.engines.eager import AVERAGE, Engine, Window
from vpoc_ml.training.loop.checkpoint import Checkpoint, write_checkpoint
from vpoc_ml.training.loop.data import Rows, TrainingData, epoch_order
from vpoc_ml.training.loop.monitor import EarlyStoppingState, Monitor, Progress, is_dead, window_record
from vpoc_ml.training.loop.schedule import LearningRateSchedule, StepSchedule
from vpoc_ml.training.loop.stop import StopRequest

EVALUATED_ROWS = 65_536
log = logging.getLogger(__name__)


@dataclass
class Trainer:
    """One run. ``fit`` continues from ``progress``; ``folder`` receives the checkpoints.

    ``stop_epochs`` ends the training after that many epochs of the schedule, 0.125 being an eighth of one, and takes
    the last weights whatever the validation loss is; None: early stopping. A request to ``stop`` is granted after the
    next checkpoint, which is written at the end of the current window.
    """

    engine: Engine
    data: TrainingData
    folder: Path
    resume_key: str
    report: OnProgress
    checkpoint_seconds: float = 30.0
    stop_epochs: float | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.config, self.objective, self.count = self.engine.config, self.engine.objective, self.engine.members.count
        rows = len(self.data.train) // self.config.stride
        self.batch = step_rows(self.config.batch_size * self.config.accumulation, rows)
        self.steps_per_epoch = rows // self.batch  # the last, partial batch is dropped
        parts = min(self.config.validations_per_epoch, self.steps_per_epoch)
        self.validated = [self.steps_per_epoch * part // parts for part in range(1, parts + 1)]
        wanted = self.config.epochs if self.stop_epochs is None else min(self.stop_epochs, self.config.epochs)
        self.last_step = round(wanted * self.steps_per_epoch)
        self.schedule = LearningRateSchedule.of(self.config, self.steps_per_epoch * self.config.epochs)
        self.good = self.engine.snapshot()
        self.best = self.engine.state[AVERAGE].clone()
        self.constant = self.objective.constant(self.data.validation.target, self.data.validation.weight)
        self.progress.early_stopping = self.progress.early_stopping or [EarlyStoppingState() for _ in range(self.count)]
        start = self.data.train[slice(0, EVALUATED_ROWS)]
        initial = self._mean_losses(self.predict(start), start)
        self.monitors = [Monitor([loss if math.isfinite(loss) else self.constant]) for loss in initial]
        self.saved = self.opened = time.monotonic()

    def fit(self) -> None:
        """Train until the last epoch or until validation stops improving.

        Raises:
            TooManyRollbacksError: more rollbacks than ``max_rollbacks``.
            NoFiniteValidationLossError: no epoch with a finite loss.
            TrainingStoppedError: a stop was requested; a checkpoint of the last window is stored.
        """
        if self.progress.step == 0 and (self.config.keep_start or self.last_step == 0):
            self._validate(0)
        while self.progress.step < self.last_step and (
            self.stop_epochs is not None
            or not all(stopping.finished(self.config.patience) for stopping in self.progress.early_stopping)
        ):
            epoch, offset = divmod(self.progress.step, self.steps_per_epoch)
            self._run_epoch(epoch, offset)
        if self.last_step and not all(stopping.finite for stopping in self.progress.early_stopping):
            raise NoFiniteValidationLossError(self.config.epochs)

    def predict(self, rows: Rows) -> Tensor:
        """Return the averaged weights' predictions [members, rows(, outputs)], float64."""
        with self.engine.using(self.engine.state[AVERAGE].clone()) as net, torch.no_grad():
            parts = [
                self.engine.forward(net, rows.inputs[at : at + EVALUATED_ROWS])
                for at in range(0, len(rows), EVALUATED_ROWS)
            ]
        return torch.cat(parts, dim=1).double()

    def _mean_losses(self, predicted: Tensor, rows: Rows) -> list[float]:
        losses: list[float] = self.objective.mean_loss(predicted, rows.target, rows.weight).tolist()
        return losses

    def _run_epoch(self, epoch: int, offset: int) -> None:
        started, begun = time.monotonic(), offset
        train = self.data.train
        order = epoch_order(len(train), self.config.seed, epoch, self.config.stride).to(train.inputs.device)
        end = min(self.steps_per_epoch, self.last_step - epoch * self.steps_per_epoch)
        while offset < end:
            following = min(end, next(step for step in self.validated if step > offset))
            count = min(self.config.monitor_steps, following - offset)
            step_schedule = StepSchedule.of(self.schedule, self.config.seed, self.progress.step, count, self.batch)
            rows = train[order[offset * self.batch : (offset + count) * self.batch]]  # a copy of all needs their memory
            self.engine.steps((rows.inputs, rows.target, rows.weight), 0, step_schedule)
            self.progress.step += count
            offset += count
            self._close_window(epoch)
            if offset == following < end:
                self._validate(epoch + 1)
            if offset < end and (self.stop.requested or time.monotonic() - self.saved >= self.checkpoint_seconds):
                self.save()
                self.stop.grant()
        # Of this process alone: a resumed epoch counts from its checkpoint on
        self._close_epoch(epoch, seconds=time.monotonic() - started, rows=(offset - begun) * self.batch)

    def _close_window(self, epoch: int) -> None:
        """Read the device once; each member keeps its state as the last good one or returns to that."""
        windows = self.engine.read_windows()
        try:
            bad = self._check_windows(windows)
        finally:  # the window that ends the training is reported too
            record = window_record(
                windows,
                self.monitors,
                step=self.progress.step,
                epoch=epoch + 1,
                steps_total=self.steps_per_epoch * self.config.epochs,
                rate=self.schedule.rate(self.progress.step - 1),
            )
            self.report(record)
        if bad:
            self.engine.restore(self.good, bad)
        self.good = self.engine.snapshot()

    def _check_windows(self, windows: Sequence[Window]) -> list[int]:
        """Return the members to roll back; their learning rates are halved."""
        bad: list[int] = []
        for member, (window, monitor) in enumerate(zip(windows, self.monitors, strict=True)):
            reason = monitor.defect(window, self.batch)
            if reason is None:
                monitor.accept(window)
                self.progress.epoch_loss += window.loss * window.accepted
                self.progress.epoch_steps += window.accepted
                continue
            bad.append(member)
            who = f"member {member}: " if self.count > 1 else ""
            log.warning("step %d: %s%s; rolling back, learning rate halved", self.progress.step, who, reason)
            monitor.roll_back(window, who + reason, self.progress.step, self.config.max_rollbacks)
            self.engine.factor[member] = monitor.rate_factor
        return bad

    def _validate(self, epoch: int) -> tuple[list[float], list[bool]]:
        """Validate and keep each member's best; return each member's loss and whether it is dead.

        ``epoch`` is the current one, from 1; 0 is the start.
        """
        progress = self.progress
        predicted = self.predict(self.data.validation)
        losses = self._mean_losses(predicted, self.data.validation)
        spreads = predicted.reshape(self.count, len(self.data.validation), -1).std(dim=1).amax(dim=1).tolist()
        warm = epoch == 0 or progress.step > self.schedule.warmup
        dead = [warm and is_dead(spread) for spread in spreads]
        trained = progress.step / self.steps_per_epoch
        best = [
            stopping.update(epoch, loss, end, self.config.patience, trained)
            if self.stop_epochs is None
            else stopping.take(epoch, loss, end, trained)
            for stopping, loss, end in zip(progress.early_stopping, losses, dead, strict=True)
        ]
        improved = self.engine.members.spread(torch.tensor(best, device=self.best.device))
        self.best = torch.where(improved, self.engine.state[AVERAGE], self.best)
        return losses, dead

    def _close_epoch(self, epoch: int, *, seconds: float, rows: int) -> None:
        """Validate and store everything. ``seconds`` and ``rows`` are those of this process."""
        progress = self.progress
        losses, dead = self._validate(epoch + 1)
        best = [stopping.close_epoch(epoch + 1, self.config.patience) for stopping in progress.early_stopping]
        if any(dead):
            who = f"member {dead.index(True)}" if self.count > 1 else "the net"
            log.warning("epoch %d: %s is dead: it predicts one number", epoch + 1, who)
        train_loss = progress.epoch_loss / progress.epoch_steps if progress.epoch_steps else None
        progress.epoch_loss, progress.epoch_steps = 0.0, 0
        loss = sum(losses) / len(losses)
        record = EpochRecord(
            epoch=epoch + 1,
            epochs_total=self.config.epochs,
            step=progress.step,
            lr=self.schedule.rate(progress.step - 1) * min(monitor.rate_factor for monitor in self.monitors),
            train_loss=train_loss,
            validation_loss=loss if math.isfinite(loss) else None,
            validation_constant=self.constant,
            best=any(best),
            dead=all(dead),
            seconds=seconds,
            rows=rows,
        )
        self.report(record)
        self.save()
        self.stop.grant()

    def save(self) -> None:
        """Write a checkpoint. Called between windows only, so there are no records to store."""
        self.saved = time.monotonic()
        self.progress.seconds += self.saved - self.opened
        self.opened = self.saved
        tensors = {
            "state": self.engine.state,
            "step_state": self.engine.step_state,
            "good_state": self.good[0],
            "good_step_state": self.good[1],
            "best": self.best,
        }
        progress = {"progress": self.progress.to_json(), "monitors": [asdict(each) for each in self.monitors]}
        progress["engine"] = self.engine.name
        write_checkpoint(self.folder, Checkpoint(self.progress.step, self.resume_key, tensors, progress))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take over everything a checkpoint of the same data and settings holds, whichever engine wrote it."""
        device = self.engine.state.device
        tensors = {name: tensor.to(device) for name, tensor in checkpoint.tensors.items()}
        self.engine.restore((tensors["state"], tensors["step_state"]))
        self.good = (tensors["good_state"], tensors["good_step_state"])
        self.best = tensors["best"]
        self.progress = Progress.from_json(checkpoint.progress["progress"])
        self.monitors = [Monitor(**stored) for stored in checkpoint.progress["monitors"]]
        self.engine.factor.copy_(torch.tensor([monitor.rate_factor for monitor in self.monitors]))
        if checkpoint.progress["engine"] != self.engine.name:
            log.warning(
                "the checkpoint was written by the %s engine, this is %s: from here the last digits differ",
                checkpoint.progress["engine"],
                self.engine.name,
            )


def step_rows(wanted: int, rows: int) -> int:
    """Return the rows of one step: the required number, or all rows if there are fewer."""
    return min(wanted, rows)
