"""The stored results of the gates, read through the lake's storage: nights, verdicts, history.

A page reads the files of the gate and of the nights that it shows, never all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl
from pydantic import ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import SEVERITIES, Severity, Verdict
from vpoc_ml.artifacts.schemas import FAILING_BARS, FAILING_ROWS, GATE_HISTORY, Schema
from vpoc_ml.lake.store import Lake
from vpoc_ml.quality.history import scan_tables

NIGHTS = 60
"""Nights that a page covers, unless it says otherwise."""
CheckKey = tuple[str, str, str]
"""(contract, column, check)"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GateNight:
    """A run with the gates that it has passed or failed.

    ``gates`` holds the time (UTC) at which each gate stored its result, in that order.
    """

    run: str
    gates: dict[str, datetime] = field(default_factory=dict)

    @property
    def written(self) -> datetime:
        """Time of the newest result, UTC."""
        return max(self.gates.values())


@dataclass(frozen=True, slots=True)
class Since:
    """Since when a check has failed: ``time`` (UTC) and ``run`` of the first night without a night that passed after
    it, ``nights`` in all. ``open``: the nights that were read all failed, so it may be older."""

    time: datetime
    run: str
    nights: int
    open: bool


def gate_nights(lake: Lake) -> list[GateNight]:
    """Return every run with stored gates, the newest result first."""
    found: dict[str, dict[str, datetime]] = {}
    for key, at in lake.storage.written(f"{layout.REPORTS}/{layout.HISTORY}").items():
        gate, _, run = key.rpartition("/")[2].removesuffix(".parquet").partition("__")
        found.setdefault(run, {})[gate] = at
    nights = [GateNight(run, dict(sorted(gates.items(), key=lambda each: each[1]))) for run, gates in found.items()]
    return sorted(nights, key=lambda night: (night.written, night.run), reverse=True)


def read_verdicts(lake: Lake, night: GateNight) -> list[Verdict]:
    """Return the verdicts of a night in the order in which its gates ran; damaged ones are left out."""
    keys = [f"{layout.REPORTS}/{layout.run_reports(night.run)}/{gate}.json" for gate in night.gates]
    verdicts = []
    for key, content in lake.read_many(keys).items():
        try:
            verdicts.append(Verdict.model_validate_json(content))
        except ValidationError as error:
            log.warning("%s is damaged: %s", lake.location(key), error)
    return verdicts


def scan_history(lake: Lake, gate: str, nights: Sequence[GateNight]) -> pl.LazyFrame:
    """Return the history (``schemas.GATE_HISTORY``) of a gate on these nights."""
    runs = [night.run for night in nights if gate in night.gates]
    keys = [f"{layout.REPORTS}/{layout.gate_table(layout.HISTORY, gate, run)}" for run in runs]
    return scan_tables(list(lake.read_many(keys).values()), GATE_HISTORY)


def failing_rows(lake: Lake, gate: str, run: str) -> pl.LazyFrame:
    """Return the rows in which checks of a gate failed (``schemas.FAILING_ROWS``); none where the gate kept none."""
    return _kept(lake, layout.FAILING_ROWS, gate, run, FAILING_ROWS)


def failing_bars(lake: Lake, gate: str, run: str) -> pl.LazyFrame:
    """Return the bars around those rows and around the causes (``schemas.FAILING_BARS``)."""
    return _kept(lake, layout.FAILING_BARS, gate, run, FAILING_BARS)


def _kept(lake: Lake, table: str, gate: str, run: str, schema: Schema) -> pl.LazyFrame:
    content = lake.storage.read(f"{layout.REPORTS}/{layout.gate_table(table, gate, run)}")
    return scan_tables([] if content is None else [content], schema)


def since(failed: pl.DataFrame, nights: Sequence[tuple[str, datetime]]) -> dict[CheckKey, Since]:
    """Return since when each check that failed on the newest of ``nights`` has failed without a break.

    Args:
        failed: Rows of the history that failed: run, contract, column, check.
        nights: Run and time of the gate's nights, newest first.
    """
    place = {run: at for at, (run, _) in enumerate(nights)}
    failing: dict[CheckKey, set[int]] = {}
    for run, *key in failed.select("run", "contract", "column", "check").iter_rows():
        if run in place:
            failing.setdefault((key[0], key[1], key[2]), set()).add(place[run])
    found = {}
    for check, places in failing.items():
        length = next(n for n in range(len(nights) + 1) if n not in places)
        if length:
            run, time = nights[length - 1]
            found[check] = Since(time, run, length, length == len(nights))
    return found


def worst(severities: Sequence[str | None]) -> Severity | None:
    """Return the worst of these severities; None: nothing failed."""
    return next((severity for severity in SEVERITIES if severity in severities), None)
