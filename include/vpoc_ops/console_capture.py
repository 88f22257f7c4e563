"""Progress for people, logs for files: keeps Airflow's log lines off the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console


@contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Send stdout and stderr, those of child processes too, to ``log_file``; yield a console on the real stdout."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log_file.open("a") as log, os.fdopen(os.dup(1), "w") as terminal:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield Console(file=terminal, force_terminal=os.isatty(saved[0]) or None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


class Progress:
    """Prints one line when a task starts and one when it ends, and one per training epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: dict[str, Any]) -> None:
        """Print ``event`` of ``vpoc_airflow.stage_tasks``."""
        name = f"{event['stage']} {event['label']}".strip()
        if event["kind"] == "progress":
            text = _epoch(event["event"])
        elif event["kind"] == "started":
            text = f"[dim]  . {name}[/]"
        else:
            colour = {"finished": "green", "skipped": "yellow"}.get(event["kind"], "bold red")
            text = f"[{colour}]{event['kind']:>9}[/] {name} [dim]{event['seconds']:.1f} s[/]"
        if text:
            self.console.print(text, highlight=False)
            self.console.file.flush()


def _epoch(event: dict[str, Any]) -> str:
    if event.get("kind") != "epoch":
        return ""
    losses = f"train {event['train_loss']:.5f} validation {event['validation_loss']:.5f}"
    return f"[dim]    epoch {event['epoch']} {losses}{' best' if event.get('best') else ''}[/]"
