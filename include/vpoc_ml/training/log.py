"""A run's own log: ``training_log.txt`` for people, ``progress.jsonl`` for programs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vpoc_ml.lake.atomic import write_text

LAYER = logging.getLogger("vpoc_ml.training")


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append the training layer's log records to ``path``, stamped in UTC."""
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
            stream.write(json.dumps(line, allow_nan=False) + "\n")
            stream.flush()
            LAYER.info("%s", _sentence(line))
            on_progress(line)

        yield report


def _kept(path: Path, step: int) -> Iterator[str]:
    if step and path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                yield line


def _sentence(line: dict[str, Any]) -> str:
    shown = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in line.items() if key != "kind"}
    return f"{line['kind']}: " + ", ".join(f"{key} {value}" for key, value in shown.items())
