"""One line for each run, in ``index/nights.jsonl``: pages of many runs read one file instead of every run's folder.

Stage ``publish-reports`` writes the line of its run, and a decision after it writes it again. A run without a line (it
is in progress, or it was killed, or the table is damaged or lost) is read from its folder: by the page for the newest
few, and for good by the next run that publishes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Decision, DecisionState
from vpoc_ml.artifacts.gate_report import SEVERITIES, Verdict
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.metrics import Metrics
from vpoc_ml.artifacts.night import Night, NightDecision, NightFailure, NightGate
from vpoc_ml.artifacts.stage_results import LiveResult
from vpoc_ml.reports.run_state import failures, run_pages
from vpoc_ml.reports.sentences import after_costs

if TYPE_CHECKING:
    from vpoc_ml.lake.store import Lake

READ_ON_REQUEST = 20
"""Runs without a line that a page reads from their folders, at most."""
SETTLED_AFTER = timedelta(days=1)
"""A run that has written nothing for this long gets its line from another run."""
LOCK = "nights"
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T[\d-]+)?")

_EPOCH = datetime.fromtimestamp(0, UTC)

A = TypeVar("A", bound=JsonArtifact)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NightTable:
    """The lines of a lake, newest first; ``unread`` counts the runs without a line that were not read."""

    nights: tuple[Night, ...]
    unread: int = 0


def all_nights(
    lake: Lake, limit: int = READ_ON_REQUEST, wanted: Callable[[str], bool] = lambda run: True
) -> NightTable:
    """Return the runs of the lake, those without a line among them as far as ``limit`` permits.

    Args:
        lake: the lake.
        limit: runs without a line that are read from their folders, at most.
        wanted: whether a run of this name is to be returned.
    """
    known = {run: night for run, night in read_nights(lake).items() if wanted(run)}
    absent = (run for run in lake.storage.folders(layout.RUNS) if run not in known and wanted(run))
    missing = sorted(absent, key=_date, reverse=True)
    with ThreadPoolExecutor(8 if lake.remote else 1) as pool:
        found = list(pool.map(lambda run: night_of(lake, run), missing[:limit]))
    return NightTable(newest_first([*known.values(), *found]), len(missing[limit:]))


def newest_first(nights: Iterable[Night]) -> tuple[Night, ...]:
    """Return runs by their start, the newest first."""
    return tuple(sorted(nights, key=lambda night: (night.started, night.run), reverse=True))


def read_nights(lake: Lake) -> dict[str, Night]:
    """Return the stored lines by run. A damaged table is empty: its lines are made again."""
    text = lake.storage.read(layout.NIGHTS) or b""
    try:
        found = [Night.model_validate_json(line) for line in text.splitlines()]
    except ValidationError as error:
        log.warning("%s is damaged and is made again: %s", lake.location(layout.NIGHTS), error)
        return {}
    return {night.run: night for night in found}


def record_night(lake: Lake, run: str, now: datetime) -> Night:
    """Write the line of ``run``, and of settled runs that have none, by one atomic write; return the line of ``run``.

    Args:
        lake: the lake.
        run: name of the run.
        now: the time, aware.
    """
    with lake.writing(LOCK):
        known = read_nights(lake)
        missing = set(lake.storage.folders(layout.RUNS)) - set(known) - {run}
        others = (night_of(lake, each) for each in sorted(missing))
        known |= {night.run: night for night in others if now - night.written > SETTLED_AFTER}
        known[run] = night_of(lake, run)
        lines = (night.model_dump_json() for night in newest_first(known.values()))
        lake.write_text(layout.NIGHTS, "".join(f"{line}\n" for line in lines))
    return known[run]


def night_of(lake: Lake, run: str) -> Night:
    """Return the line of a run from the files in its folder; what is absent or damaged is left out."""
    files = lake.storage.written(layout.run_folder(run))
    files |= lake.storage.written(f"{layout.REPORTS}/{layout.run_reports(run)}")
    gate = f"{layout.stages_folder(run)}/gate-"
    gates = sorted((key for key in files if key.startswith(gate)), key=lambda key: (files[key], key))
    single = [layout.run_file(run, name) for name in (layout.CONFIG, layout.INPUTS, layout.DECISION, layout.METRICS)]
    contents = lake.read_many([*single, layout.stage_key(run, "live-record"), *gates])
    config, inputs, decision, metrics = (_json(contents.get(key)) for key in single)
    verdicts = [found for key in gates if (found := _valid(Verdict, _json(contents.get(key))))]
    bars = _json(contents.get(f"{gate}bars.json"))
    live = _valid(LiveResult, _json(contents.get(layout.stage_key(run, "live-record"))))
    written = max(files.values(), default=_EPOCH)
    return Night(
        run=run,
        preset=config.get("preset"),
        started=inputs.get("started") or min(files.values(), default=_EPOCH),
        written=written,
        as_of=inputs.get("as_of"),
        contracts=max((len(verdict.contracts) for verdict in verdicts), default=0),
        newest_bar=bars.get("newest_bar"),
        age_sessions=bars.get("age_sessions"),
        gates=tuple(_gate(verdict) for verdict in verdicts),
        failure=_failure(lake, run, files),
        decision=_decision(_valid(Decision, decision), _valid(Metrics, metrics)),
        live=next((record for record in live.records if record.champion), None) if live else None,
        pages=tuple(run_pages(run, files)),
    )


def _gate(verdict: Verdict) -> NightGate:
    worst: dict[str, Any] = {}
    for failure in verdict.failures:
        worst[failure.contract] = min(worst.get(failure.contract, "info"), failure.severity, key=SEVERITIES.index)
    return NightGate(
        gate=verdict.gate,
        passed=verdict.passed,
        checks=verdict.checks,
        critical=verdict.critical,
        warning=verdict.warning,
        worst=worst,
    )


def _failure(lake: Lake, run: str, files: Mapping[str, datetime]) -> NightFailure | None:
    found = failures(lake, run, files)
    return NightFailure(**found[0].model_dump(), more=len(found) - 1) if found else None


def _decision(decision: Decision | None, metrics: Metrics | None) -> NightDecision | None:
    if decision is None:
        return None
    against = [check.text for check in decision.checks if not check.passed]
    if not against and decision.state == DecisionState.REFUSED:  # of a version whose decisions had no checks
        against = list(decision.reasons[:1])
    return NightDecision(
        key=decision.key,
        state=decision.state,
        simulated=decision.simulated,
        override=decision.override is not None,
        net=decision.net,
        version=decision.version,
        champion_before=decision.champion_before,
        decided_at=decision.decided_at,
        person=decision.person,
        reason=against[0] if against else "",
        result=after_costs(metrics.backtest, metrics.candidate.rank_ic) if metrics else "",
    )


def _valid(kind: type[A], content: dict[str, Any]) -> A | None:
    """Return an artifact from its JSON; None if it is absent, damaged or the record of an error."""
    try:
        return kind.model_validate(content) if content else None
    except ValidationError:
        return None


def _json(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content) if content else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _date(run: str) -> tuple[str, str]:
    found = _DATE.search(run)
    return (found.group() if found else "", run)
