"""The bar of the command line: in a terminal only, and gone when training ends."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vpoc_ml.cli_output import TrainingProgress

WINDOW = {"kind": "window", "step": 50, "steps_total": 200, "epoch": 1, "loss": 0.02, "lr": 1e-3}
WINDOW |= {"skipped": 3, "rollbacks": 0}
EPOCH = {"kind": "epoch", "epoch": 1, "validation_loss": 0.0201, "validation_constant": 0.0203}


@pytest.mark.parametrize("terminal", [True, False])
def test_windows_move_a_bar_in_a_terminal_only(terminal):
    text = io.StringIO()
    show = TrainingProgress(Console(file=text, force_terminal=terminal, width=120))
    show(WINDOW)
    show(EPOCH)
    show(WINDOW | {"step": 200, "loss": None})
    assert (show.bar is not None) == terminal
    if terminal:
        task = show.bar.tasks[0]
        assert (task.completed, task.total) == (200, 200)
        assert task.description == "epoch 1, loss -, 3 skipped"
    show.stop()
    assert show.bar is None
    assert "epoch 1: validation loss 0.020100 (constant 0.020300)" in text.getvalue()
    assert ("3 skipped" in text.getvalue()) == terminal


def test_an_epoch_without_a_finite_loss_is_shown():
    text = io.StringIO()
    TrainingProgress(Console(file=text, width=120))(EPOCH | {"validation_loss": None})
    assert "validation loss not finite" in text.getvalue()
