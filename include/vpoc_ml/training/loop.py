"""The training loop: epochs of windows of steps, judged, validated and stored."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpoc_ml.config import TrainingConfig
from vpoc_ml.errors import TrainingUnstableError
from vpoc_ml.training.checkpoint import Checkpoint, write_checkpoint
from vpoc_ml.training.data import Rows, TrainingData, shuffled
from vpoc_ml.training.engine import AVERAGE, Engine, Window
from vpoc_ml.training.loss import weighted_huber
from vpoc_ml.training.monitor import Monitor, is_dead
from vpoc_ml.training.schedule import Schedule, step_seed

EVALUATED_ROWS = 65_536
log = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]


@dataclass
class Progress:
    """Where a run stands, apart from its tensors; all of it goes into the checkpoint. Epochs count from 1."""

    step: int = 0
    epoch_loss: float = 0.0
    epoch_steps: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    best_dead: bool = False
    epochs_without_gain: int = 0
    stopped: bool = False
    seconds: float = 0.0


@dataclass
class Trainer:
    """One run. ``fit`` goes on from wherever ``progress`` stands; ``folder`` receives the checkpoints."""

    engine: Engine
    data: TrainingData
    folder: Path
    fingerprint: str
    report: Report
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.config = self.engine.config
        self.batch = min(self.config.batch_size, len(self.data.train))
        self.steps_per_epoch = len(self.data.train) // self.batch  # the last, partial batch is dropped
        self.schedule = Schedule.of(self.config, self.steps_per_epoch * self.config.epochs)
        self.good = self.engine.snapshot()
        self.best = self.engine.state[AVERAGE].clone()
        self.constant = _loss(torch.full_like(self.data.validation.target, 0.5), self.data.validation, self.config)
        start = self.data.train[slice(0, EVALUATED_ROWS)]
        initial = _loss(self.predict(start), start, self.config)
        self.monitor = Monitor([initial if math.isfinite(initial) else self.constant])
        self.saved = self.opened = time.monotonic()

    def fit(self) -> None:
        """Train until the last epoch or until validation stops getting better.

        Raises:
            TrainingUnstableError: more rollbacks than ``max_rollbacks``, or no epoch with a finite loss.
        """
        while not self.progress.stopped:
            epoch, offset = divmod(self.progress.step, self.steps_per_epoch)
            if epoch == self.config.epochs:
                break
            self._run_epoch(epoch, offset)
        if self.progress.best_epoch == 0:
            raise TrainingUnstableError("Expected a finite validation loss after some epoch; none was. Lower the rate.")

    def predict(self, rows: Rows) -> Tensor:
        """Return the averaged weights' predictions [rows], float64."""
        with self.engine.using(self.engine.state[AVERAGE].clone()) as net, torch.no_grad():
            parts = [net(rows.inputs[at : at + EVALUATED_ROWS]) for at in range(0, len(rows), EVALUATED_ROWS)]
        return torch.cat(parts).double()

    def _run_epoch(self, epoch: int, offset: int) -> None:
        started = time.monotonic()
        rows = shuffled(self.data.train, self.config.seed, epoch)
        for index in range(offset, self.steps_per_epoch):
            step = self.progress.step
            batch = rows[slice(index * self.batch, (index + 1) * self.batch)]
            self.engine.step(
                batch.inputs,
                batch.target,
                batch.weight,
                rate=self.schedule.rate(step) * self.monitor.rate_factor,
                decay=self.schedule.decay(step),
                seed=step_seed(self.config.seed, step),
            )
            self.progress.step += 1
            last = index + 1 == self.steps_per_epoch
            if last or self.engine.steps == self.config.monitor_steps:
                self._close_window(epoch)
                if not last and time.monotonic() - self.saved >= self.config.checkpoint_seconds:
                    self.save()
        self._close_epoch(epoch, time.monotonic() - started)

    def _close_window(self, epoch: int) -> None:
        """Read the device once; keep the state as the last good one, or go back to that."""
        window = self.engine.read_window()
        reason = self.monitor.complaint(window, self.batch)
        if reason is None:
            self.monitor.accept(window)
            self.good = self.engine.snapshot()
            self.progress.epoch_loss += window.loss * window.accepted
            self.progress.epoch_steps += window.accepted
        else:
            log.warning("step %d: %s; rolling back, learning rate halved", self.progress.step, reason)
            self.monitor.roll_back(window, reason, self.progress.step, self.config.max_rollbacks)
            self.engine.restore(self.good)
        self.report(self._window_line(window, epoch))

    def _window_line(self, window: Window, epoch: int) -> dict[str, Any]:
        return {
            "kind": "window",
            "step": self.progress.step,
            "epoch": epoch + 1,
            "loss": _finite(window.loss) if window.accepted else None,
            "grad_norm_max": _finite(window.norm_max),
            "grad_norm_mean": _finite(window.norm_mean),
            "lr": self.schedule.rate(self.progress.step - 1) * self.monitor.rate_factor,
            "skipped": window.steps - window.accepted,
            "clip_share": window.clip_share,
            "update_ratio_max": _finite(window.update_ratio_max),
            "rollbacks": self.monitor.rollbacks,
        }

    def _close_epoch(self, epoch: int, seconds: float) -> None:
        """Validate, keep the best, decide whether to stop, store everything."""
        progress = self.progress
        predicted = self.predict(self.data.validation)
        loss = _loss(predicted, self.data.validation, self.config)
        dead = progress.step > self.schedule.warmup and is_dead(float(predicted.std()), loss, self.constant)
        best = loss < progress.best_loss
        if best:
            self.best = self.engine.state[AVERAGE].clone()
            progress.best_loss, progress.best_epoch, progress.best_dead = loss, epoch + 1, dead
        progress.epochs_without_gain = 0 if best else progress.epochs_without_gain + 1
        progress.stopped = progress.epochs_without_gain >= self.config.patience
        if dead:
            log.warning("epoch %d: the net is dead: it predicts one number, no better than 0.5", epoch + 1)
        train_loss = progress.epoch_loss / progress.epoch_steps if progress.epoch_steps else None
        progress.epoch_loss, progress.epoch_steps = 0.0, 0
        self.report(
            {
                "kind": "epoch",
                "epoch": epoch + 1,
                "step": progress.step,
                "train_loss": train_loss,
                "validation_loss": _finite(loss),
                "validation_constant": self.constant,
                "best": best,
                "seconds": seconds,
                "dead": dead,
            }
        )
        self.save()

    def save(self) -> None:
        """Write a checkpoint. Called between windows only, so there are no records to store."""
        self.saved = time.monotonic()
        self.progress.seconds += self.saved - self.opened
        self.opened = self.saved
        tensors = {
            "state": self.engine.state,
            "updates": self.engine.updates,
            "good_state": self.good[0],
            "good_updates": self.good[1],
            "best": self.best,
        }
        progress = {"progress": asdict(self.progress), "monitor": asdict(self.monitor)}
        if self.progress.best_epoch == 0:
            progress["progress"]["best_loss"] = None
        write_checkpoint(self.folder, Checkpoint(self.progress.step, self.fingerprint, tensors, progress))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take over everything a checkpoint of the same data and settings holds."""
        device = self.engine.state.device
        tensors = {name: tensor.to(device) for name, tensor in checkpoint.tensors.items()}
        self.engine.restore((tensors["state"], tensors["updates"]))
        self.good = (tensors["good_state"], tensors["good_updates"])
        self.best = tensors["best"]
        stored = dict(checkpoint.progress["progress"])
        if stored["best_loss"] is None:
            stored["best_loss"] = float("inf")
        self.progress = Progress(**stored)
        self.monitor = Monitor(**checkpoint.progress["monitor"])


def _finite(value: float) -> float | None:
    """None for what JSON cannot say."""
    return value if math.isfinite(value) else None


def _loss(predicted: Tensor, rows: Rows, config: TrainingConfig) -> float:
    """Weighted Huber of predictions at the fixed delta, computed in float64."""
    return float(weighted_huber(predicted.double(), rows.target.double(), rows.weight.double(), config.huber_delta))
