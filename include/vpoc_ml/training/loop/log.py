"""A run's own log: ``training_log.txt`` for people, ``progress.jsonl`` for programs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vpoc_ml.artifacts.training_progress import EpochRecord, OnProgress, ProgressRecord
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
def progress_lines(path: Path, kept_step: int, on_progress: OnProgress) -> Iterator[OnProgress]:
    """Yield a function that appends a record to ``path`` and forwards it.

    Lines beyond ``kept_step``, where the run resumes, are dropped first: those steps are taken again.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if kept_step and path.is_file() else []
    whole = (line for line in lines if line.endswith("\n"))
    write_text(path, "".join(line for line in whole if json.loads(line)["step"] <= kept_step))
    with path.open("a", encoding="utf-8") as stream:

        def report(record: ProgressRecord) -> None:
            with writing_to(path):
                stream.write(json.dumps(record.to_json(), allow_nan=False) + "\n")
                stream.flush()
            LAYER.info("%s", _sentence(record))
            on_progress(record)

        yield report


def _sentence(record: ProgressRecord) -> str:
    if isinstance(record, EpochRecord):
        return record.to_sentence()
    fields = record.to_json()
    kind = fields.pop("kind")
    shown = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in fields.items()}
    return f"{kind}: " + ", ".join(f"{key} {value}" for key, value in shown.items())
