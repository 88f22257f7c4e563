"""A run's own log: ``training_log.txt`` for people, ``progress.jsonl`` for programs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vpoc_ml.lake.atomic import write_text, writing_to

LAYER = logging.getLogger("vpoc_ml.training")


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append the training layer's log records to ``path``, with timestamps in UTC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    level = LAYER.level
    LAYER.setLevel(min(level or logging.INFO, logging.INFO))
    LAYER.addHandler(handler)
    try:
        yield
    finally:
        LAYER.removeHandler(handler)
        LAYER.setLevel(level)
        handler.close()


@contextmanager
def progress_lines(path: Path, kept_step: int, on_progress: Callable[[dict[str, Any]], None]) -> Iterator[Any]:
    """Yield a function that appends a line to ``path`` and passes it on.

    Lines beyond ``kept_step``, where the run resumes, are dropped first: those steps are taken again.
    """
    write_text(path, "".join(_kept(path, kept_step)))
    with path.open("a", encoding="utf-8") as stream:

        def report(line: dict[str, Any]) -> None:
            with writing_to(path):
                stream.write(json.dumps(line, allow_nan=False) + "\n")
                stream.flush()
            LAYER.info("%s", _sentence(line))
            on_progress(line)

        yield report


def read_progress(run_dir: Path) -> list[dict[str, Any]]:
    """Return the lines of ``progress.jsonl``; a run without it has none, a torn last line is left out."""
    path = run_dir / "progress.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    return [json.loads(line) for line in lines if line]


def epoch_sentence(line: Mapping[str, Any]) -> str:
    """Return an epoch's line of ``progress.jsonl`` as one line of text.

    The time left is that of all epochs that remain; early stopping may end the training before.
    """
    losses = [f"{words} {_loss(line.get(key))}" for words, key in _LOSSES]
    parts = [f"epoch {line['epoch']}{_of(line.get('epochs_total'))}: {losses[0]}", *losses[1:]]
    if line.get("best"):
        parts.append("best so far")
    if line.get("dead"):
        parts.append("the net predicts one number")
    if line.get("lr") is not None:
        parts.append(f"learning rate {line['lr']:.3g}")
    if seconds := line.get("seconds"):
        parts += [f"{line['rows'] / seconds:,.0f} rows/s"] if line.get("rows") else []
        parts.append(f"{seconds:.1f} s")
        if (left := line.get("epochs_total", 0) - line["epoch"]) > 0:
            parts.append(f"at most {_duration(left * seconds)} left")
    return ", ".join(parts)


_LOSSES = (
    ("training loss", "train_loss"),
    ("validation loss", "validation_loss"),
    ("constant", "validation_constant"),
)


def _loss(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6f}"


def _of(total: int | None) -> str:
    return f" of {total}" if total else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _kept(path: Path, step: int) -> Iterator[str]:
    if step and path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                yield line


def _sentence(line: dict[str, Any]) -> str:
    if line["kind"] == "epoch":
        return epoch_sentence(line)
    shown = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in line.items() if key != "kind"}
    return f"{line['kind']}: " + ", ".join(f"{key} {value}" for key, value in shown.items())
