"""Plant faults into a synthetic vendor file and list them: line, kind, and the expected result of ingestion.

Each fault is in a separate session, so that faults do not interact. A fault that does not fit into the file (a weekend
bar in a file without a weekend) is neither planted nor listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from vpoc_ml.artifacts import schemas
from vpoc_ml.errors import InvalidValueError

Effect = Literal["quarantine", "sorted", "hole", "file"]
_PER_FILE = 3
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class PlantedFault:
    """One planted fault. ``line`` is the 1-based line of the faulty row; for a hole, of the first row after it.

    ``effect``: ingestion quarantines the row for ``reason``; or sorts it; or ``bars`` rows of ``first``..``last``
    (START of bar) are absent; or the file is refused.
    """

    file: str
    contract: str
    kind: str
    effect: Effect
    line: int
    reason: str | None = None
    bars: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def to_json(self) -> dict[str, str | int]:
        """Return the fault with ISO timestamps and without empty fields."""
        values = {name: value for name, value in asdict(self).items() if value not in (None, 0)}
        return {name: v.isoformat() if isinstance(v, datetime) else v for name, v in values.items()}


@dataclass(frozen=True)
class _Edit:
    """Replace the rows [start, stop) by ``lines``; ``faulty`` is the index of the faulty one."""

    start: int
    stop: int
    lines: tuple[str, ...]
    faulty: int = 0


@dataclass(frozen=True)
class _File:
    """A file without faults: one line and one START timestamp per row, and the row at which each session starts."""

    lines: list[str]
    timestamps: pl.Series
    edges: np.ndarray


def _changed(column: int, change: Callable[[list[str]], str]) -> Callable[[list[str]], str]:
    def rewrite(fields: list[str]) -> str:
        return ";".join([*fields[:column], change(fields), *fields[column + 1 :]])

    return rewrite


_REWRITTEN: dict[str, tuple[str, Callable[[list[str]], str]]] = {
    "off-tick": (schemas.OFF_TICK, _changed(_OPEN, lambda f: f"{float(f[_OPEN]) + 0.1:.2f}")),
    "ohlc": (schemas.OHLC, _changed(_HIGH, lambda f: f"{float(f[_LOW]) - 0.25:g}")),
    "zero-price": (schemas.BELOW_MIN_PRICE, _changed(_LOW, lambda f: "0")),
    "negative-volume": (schemas.NEGATIVE_VOLUME, _changed(_VOLUME, lambda f: f"-{f[_VOLUME]}")),
    "nan": (schemas.UNPARSABLE, _changed(_CLOSE, lambda f: "NaN")),
    "missing-field": (schemas.UNPARSABLE, lambda f: ";".join(f[:_CLOSE])),
    "unparsable": (schemas.UNPARSABLE, lambda f: "*** connection to data feed lost ***"),
}
_REPEATED: dict[str, tuple[str, Callable[[list[str]], str]]] = {
    "duplicate": (schemas.DUPLICATE, lambda f: ";".join(f)),
    "conflicting-duplicate": (schemas.CONFLICTING, _changed(_VOLUME, lambda f: str(int(f[_VOLUME]) + 1))),
}
_STRAY = ("weekend-bar", "maintenance-bar")
_HOLES = ("missing-hour", "missing-session")
TRUNCATED = "truncated"
FAULT_KINDS = (*_REWRITTEN, *_REPEATED, *_STRAY, "out-of-order", *_HOLES, TRUNCATED)
_REASONS = {kind: reason for kind, (reason, _) in {**_REWRITTEN, **_REPEATED}.items()} | dict.fromkeys(
    _STRAY, schemas.OUTSIDE_HOURS
)


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds without repeats, in the order of ``KINDS``.

    Raises:
        InvalidValueError: a kind that is not one of ``KINDS``.
    """
    wanted = set(kinds)
    for kind in sorted(wanted - set(FAULT_KINDS)):
        raise InvalidValueError("faults", kind, f"one of {', '.join(FAULT_KINDS)}")
    return tuple(kind for kind in FAULT_KINDS if kind in wanted)


def plant_faults(
    lines: list[str], rows: pl.DataFrame, kinds: Sequence[str], name: str, contract: str, rng: np.random.Generator
) -> tuple[list[str], list[PlantedFault]]:
    """Plant each of ``kinds`` into a file, rows and strays three times, holes once; return its lines and the faults.

    ``rows`` has ts (START) and session of each line. ``TRUNCATED`` cuts the last line in the middle; the caller must
    write it without a line break.
    """
    starts = np.flatnonzero(rows.select(pl.col("session") != pl.col("session").shift()).to_series().fill_null(True))
    file = _File(lines, rows["ts"], np.append(starts, rows.height))
    free = [int(day) + 1 for day in rng.permutation(len(file.edges) - 4)]
    edits: list[tuple[_Edit, str]] = []
    for kind in (kind for kind in kinds if kind != TRUNCATED):
        for _ in range(1 if kind in _HOLES else _PER_FILE):
            found = next(((day, each) for day in free if (each := _edit(file, kind, day, rng))), None)
            if found:
                free.remove(found[0])
                edits.append((found[1], kind))
    written: list[str] = []
    answers = []
    done = 0
    for edit, kind in sorted(edits, key=lambda pair: pair[0].start):
        written += lines[done : edit.start]
        line = len(written) + edit.faulty + 1
        written += edit.lines
        done = edit.stop
        if kind in _HOLES:
            first, last = file.timestamps[edit.start], file.timestamps[edit.stop - 1]
            answers.append(PlantedFault(name, contract, kind, "hole", line, None, edit.stop - edit.start, first, last))
        else:
            effect: Effect = "quarantine" if kind in _REASONS else "sorted"
            answers.append(PlantedFault(name, contract, kind, effect, line, _REASONS.get(kind)))
    written += lines[done:]
    if TRUNCATED in kinds:
        written[-1] = written[-1].rsplit(";", 2)[0]
        answers.append(PlantedFault(name, contract, TRUNCATED, "file", len(written)))
    return written, answers


def _edit(file: _File, kind: str, day: int, rng: np.random.Generator) -> _Edit | None:
    start, stop = int(file.edges[day]), int(file.edges[day + 1])
    if kind in _STRAY:
        return _stray(file, kind, stop - 1)
    if kind == "missing-session":
        return _Edit(start, stop, ())
    if kind == "missing-hour":
        # 15:00-16:00 UTC is an hour of RTH in winter and summer; most of its minutes must have traded
        rows = start + np.flatnonzero(file.timestamps[start:stop].dt.hour().to_numpy() == 15)
        return _Edit(int(rows[0]), int(rows[-1]) + 1, ()) if len(rows) > 50 else None
    if stop - start < 10:
        return None
    row = int(rng.integers(start + 1, stop - 2))
    line = file.lines[row]
    if kind == "out-of-order":
        return _Edit(row, row + 2, (file.lines[row + 1], line), faulty=1)
    if kind in _REPEATED:
        return _Edit(row, row + 1, (line, _REPEATED[kind][1](line.split(";"))), faulty=1)
    return _Edit(row, row + 1, (_REWRITTEN[kind][1](line.split(";")),))


def _stray(file: _File, kind: str, row: int) -> _Edit | None:
    """Return the insertion of a bar on the Saturday, or in the maintenance hour, after ``row``."""
    ends, opens = file.timestamps[row] + timedelta(minutes=1), file.timestamps[row + 1]
    if kind == "weekend-bar":
        timestamp = (ends + timedelta(days=5 - ends.weekday())).replace(hour=16, minute=1)
    else:
        timestamp = ends + timedelta(minutes=30)
        if opens - ends != timedelta(hours=1):
            return None
    if not ends < timestamp < opens:
        return None
    price = file.lines[row].split(";")[_CLOSE]
    return _Edit(row, row + 1, (file.lines[row], ";".join([f"{timestamp:%Y%m%d %H%M%S}", *[price] * 4, "3"])), faulty=1)
