"""The bar of the command line: in a terminal only, and gone when training ends."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from vpoc_ml import cli
from vpoc_ml.artifacts.training_progress import EpochRecord, WindowRecord
from vpoc_ml.cli.output import TrainingProgress
from vpoc_ml.errors import TrainingUnstableError

WINDOW = WindowRecord(step=50, steps_total=200, epoch=1, loss=0.02, lr=1e-3, skipped=3, rollbacks=0)
EPOCH = EpochRecord(epoch=1, train_loss=0.0202, validation_loss=0.0201, validation_constant=0.0203)


@pytest.mark.parametrize("terminal", [True, False])
def test_windows_move_a_bar_in_a_terminal_only(terminal):
    text = io.StringIO()
    show = TrainingProgress(Console(file=text, force_terminal=terminal, width=120))
    show(WINDOW)
    show(EPOCH)
    show(WINDOW.model_copy(update={"step": 200, "loss": None}))
    assert (show.bar is not None) == terminal
    if terminal:
        task = show.bar.tasks[0]
        assert (task.completed, task.total) == (200, 200)
        assert task.description == "epoch 1, loss -, 3 skipped"
    show.stop()
    assert show.bar is None
    assert "epoch 1: training loss 0.020200, validation loss 0.020100, constant 0.020300" in text.getvalue()
    assert ("3 skipped" in text.getvalue()) == terminal


def test_an_epoch_without_a_finite_loss_is_shown():
    text = io.StringIO()
    TrainingProgress(Console(file=text, width=120))(EPOCH.model_copy(update={"validation_loss": None}))
    assert "validation loss not finite" in text.getvalue()


@pytest.mark.parametrize(
    ("error", "code"),
    [(TrainingUnstableError("unstable with every preset"), 4), (RuntimeError("a bug"), None), (SystemExit(1), 1)],
)
def test_command_that_fails_gives_the_terminal_back(monkeypatch, error, code):
    text, streams = io.StringIO(), (sys.stdout, sys.stderr)
    monkeypatch.setattr(cli.output, "show_progress", TrainingProgress(Console(file=text, force_terminal=True)))

    def train():
        cli.output.show_progress(WINDOW)
        raise error

    monkeypatch.setattr(cli, "app", train)
    with pytest.raises(RuntimeError if code is None else SystemExit) as caught:
        cli.main()
    assert code is None or caught.value.code == code
    hidden, shown = text.getvalue().rfind("\x1b[?25l"), text.getvalue().rfind("\x1b[?25h")
    assert -1 < hidden < shown, "the cursor is shown again"
    assert (sys.stdout, sys.stderr) == streams
