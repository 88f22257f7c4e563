"""One run: its folder, its stored configuration, and the record of every stage.

A stage is a function of an opened run. Called from outside it takes the lake and the run's name, so
that a DAG task, the command line and a test all say ``ingest_contract("data", "2025-02-27", "ESH25")``.

Every stage leaves its result or its typed error in ``stages/``. Airflow's tasks also record each exception as a
``StageFailure``, which the pages of a run and the backfill read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from pydantic import JsonValue, ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.run_summary import FailedStage, RunSummary, StageFailure, StageRow
from vpoc_ml.artifacts.stage_results import UNCHANGED, Plan, StageResult, WorkResult
from vpoc_ml.config import RunConfig
from vpoc_ml.config.overrides import load_stored
from vpoc_ml.errors import ArtifactError, GateFailedError, LockLostError, VpocError
from vpoc_ml.ingest.vix.covariates import covariates
from vpoc_ml.lake.locks import Confirm
from vpoc_ml.lake.store import Lake, Manifest
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.pipeline.active_plugins import require_same_plugins, use_plugins
from vpoc_ml.pipeline.stages import GATES, STAGE_NAMES, STAGES, stage_of_function
from vpoc_ml.plugins.registered import current
from vpoc_ml.registry.model_key import ModelKey

P = ParamSpec("P")
A = TypeVar("A", bound=JsonArtifact)
R = TypeVar("R", bound=StageResult)
W = TypeVar("W", bound=WorkResult)
_load_config = lru_cache(maxsize=16)(load_stored)
"""Reads a configuration, which is frozen; a process that runs many stages reads it once."""


@dataclass(frozen=True)
class Run:
    """An opened run.

    ``inputs`` holds ``raw`` and ``vix``, the places of the input, and the ISO timestamps ``started`` and ``as_of``.
    ``push`` sends the files a stage has made so far to a lake in an object store; a local lake needs none of it. In a
    stage that runs alone, ``confirm`` raises LockLostError when another process has taken its place; ``push`` does too.
    """

    lake: Lake
    name: str
    config: RunConfig
    inputs: dict[str, str | None]
    push: Callable[[], None] = lambda: None
    confirm: Confirm = lambda: None

    @property
    def folder(self) -> Path:
        """Local folder of this run's own artifacts; of a remote lake, its mirror on this machine."""
        return self.lake.folder(layout.run_folder(self.name))

    @property
    def raw(self) -> Path:
        """Local folder of the vendor files: the one that was named, else ``raw/`` of the lake."""
        return Path(self.inputs["raw"] or self.lake.folder(layout.RAW))

    def mirrors(self, files: tuple[str, ...], fold: str = "") -> list[str]:
        """Return the folders of the lake that a stage which works on ``files`` needs as plain files."""
        known = {
            "run": layout.run_folder(self.name),
            "fold": layout.fold_folder(self.name, fold),
            "raw": None if self.inputs["raw"] else layout.RAW,
        }
        return [prefix for each in files if (prefix := known.get(each, each)) is not None]

    @property
    def instrument(self) -> Instrument:
        """The futures this run is about."""
        return instrument(self.config.data.instrument)

    @property
    def model_key(self) -> ModelKey:
        """What the run's model is compared within: instrument, horizon and target."""
        return ModelKey.of(self.config)

    @property
    def uses_vix(self) -> bool:
        """Whether bars and features have the VIX: as ``data.vix`` says, else as the instrument's entry."""
        setting = self.config.data.vix
        return self.instrument.vix if setting == "instrument" else setting == "required"

    @property
    def covariates(self) -> tuple[str, ...]:
        """The bars' columns of further indices."""
        return tuple(each.column for each in covariates(self.config.ingest))

    @property
    def reports(self) -> Path:
        """Local folder of the reports of all runs."""
        return self.lake.folder(layout.REPORTS)

    @property
    def as_of(self) -> datetime | None:
        """The moment whose knowledge the run is limited to, UTC; None for a live night.

        A bar is known at ts + 60 s, a VIX close at its publication.
        """
        stored = self.inputs.get("as_of")  # absent in runs of the first release
        return datetime.fromisoformat(stored) if stored else None

    @property
    def started(self) -> datetime:
        """The run's clock, the same for every stage and every retry: ``as_of``, else when the run was started."""
        return self.as_of or datetime.fromisoformat(str(self.inputs["started"]))

    def key(self, kind: str, contract: str, symbol: str | None = None) -> str:
        """Return the lake key of a contract's artifact, such as ``bars/ES/ESH25.parquet`` of a live run.

        ``symbol`` names the instrument, the run's own when None.
        """
        return self.shared_key(layout.contract_key(kind, symbol or self.config.data.instrument, contract))

    def roll_key(self, symbol: str | None = None) -> str:
        """Return the lake key of the roll table of an instrument, the run's own when None."""
        return self.shared_key(layout.roll_key(symbol or self.config.data.instrument))

    def shared_key(self, key: str) -> str:
        """Return where an artifact that runs share is: runs of one past night share a folder of their own.

        ``roll/ES.parquet`` of a live run is ``nights/2026-05-14T223000Z/roll/ES.parquet`` of that night.
        """
        return key if self.as_of is None else f"{layout.night_folder(self.as_of)}/{key}"

    def plan(self) -> Plan:
        """Return what ``plan_contracts`` found.

        Raises:
            ArtifactError: the run has no plan yet, or it is damaged.
        """
        return self.result("plan", Plan)

    def result(self, stage: str, kind: type[R], contract: str | None = None) -> R:
        """Return the recorded result of a stage as a model of class ``kind``.

        Raises:
            ArtifactError: the stage left no record, failed, or its record is damaged.
        """
        key = layout.stage_key(self.name, stage, contract)
        stored = self.lake.storage.read(key)
        if stored is None:
            raise ArtifactError(self.lake.location(key), f"the record of stage {stage!r}", "none")
        try:
            found = _parsed(stored, kind)
        except ValidationError as error:
            expected = f"the record of a finished stage {stage!r}"
            raise ArtifactError(self.lake.path(key), expected, _first_problem(error)) from error
        assert isinstance(found, kind)
        return found

    def has_result(self, stage: str) -> bool:
        """Return whether the stage has left a record."""
        return self.lake.exists(layout.stage_key(self.name, stage))

    def record(self, result: StageResult) -> None:
        """Store a stage's result."""
        self.lake.write_json(layout.stage_key(self.name, result.stage, result.contract), result.to_json())

    def uri(self, name: str) -> str:
        """Return the URI of a file of the run's folder in the lake."""
        return str(self.lake.location(layout.run_file(self.name, name)))


def open_run(lake: str, name: str) -> Run:
    """Return the run called ``name`` with the configuration its first stage stored; make its lake's plugins active.

    Raises:
        ArtifactError: no such run was started in this lake.
        PluginError: a plugin cannot be used.
        UnreadableFileError: its configuration is damaged.
    """
    opened = Lake(lake)
    use_plugins(lake)
    key = layout.run_file(name, layout.CONFIG)
    stored, inputs = opened.storage.read(key), opened.read_json(layout.run_file(name, layout.INPUTS))
    if stored is None or inputs is None:
        raise ArtifactError(opened.location(layout.run_folder(name)), "a started run with its config.json", "none")
    return Run(opened, name, _load_config(stored, str(opened.location(key))), inputs)


def read_artifact(lake: Lake, key: str, kind: type[A], what: str) -> A | None:
    """Return an artifact of the lake as a model; None where there is none.

    Args:
        lake: the lake.
        key: the artifact's key.
        kind: class of the model.
        what: name of the artifact, for the error.

    Raises:
        ArtifactError: the file holds something else.
    """
    stored = lake.read_json(key)
    try:
        return None if stored is None else kind.model_validate(stored)
    except ValidationError as error:
        raise ArtifactError(lake.location(key), what, _first_problem(error)) from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"


@lru_cache(maxsize=16)
def _parsed(stored: bytes, kind: type[StageResult]) -> StageResult:
    """Return the record that bytes hold; a process that runs many stages reads it once."""
    return kind.model_validate_json(stored)


def result_of_manifest(kind: type[W], manifest: Manifest, reason: str | None) -> W:
    """Return the result of a stage from its artifact's manifest; ``reason`` says why it was built, None: it was not."""
    own = {"rows_out": manifest.rows, "skipped": reason is None, "reason": reason or UNCHANGED}
    return kind.model_validate(manifest.details | own)


def stage(work: Callable[Concatenate[Run, P], R]) -> Callable[Concatenate[str, str, P], R]:
    """Make a stage of a function over an opened run: open, time, record the result or the error.

    The function's row of ``stages.py`` gives the stage's name and its ``files``: from a lake in an object store they
    are fetched before and put back after the work, also when it fails. A stage that runs ``alone`` waits up to ten
    minutes for another process in it. The record carries ``stage``, ``contract``
    (when the first argument names one) and ``seconds``.
    """
    row = stage_of_function(work.__name__)

    @wraps(work)
    def call(lake: str, run: str, /, *args: P.args, **kwargs: P.kwargs) -> R:
        opened = open_run(lake, run)
        contract = args[0] if args and isinstance(args[0], str) else None
        begun = time.perf_counter()
        try:
            if row in STAGES:  # what a person asks of an old run must not fail because a plugin has changed since
                require_same_plugins(run, opened.inputs.get("plugins"), current().fingerprint)
            lock = "-".join(filter(None, (row.name, run, contract)))
            with (
                opened.lake.writing(lock) if row.alone else nullcontext(opened.confirm) as confirm,
                opened.lake.mirrored(*opened.mirrors(row.files, contract or ""), confirm=confirm) as push,
            ):
                result = work(replace(opened, push=push, confirm=confirm), *args, **kwargs)
        except LockLostError:  # the records are those of the process that has the lock
            raise
        except VpocError as error:
            verdict = error.verdict if isinstance(error, GateFailedError) else {}
            kind, code = type(error).__name__, error.exit_code
            own = {"stage": row.name, "contract": contract, "error": str(error), "error_type": kind, "exit_code": code}
            opened.record(FailedStage.model_validate(verdict | own))
            raise
        seconds = round(time.perf_counter() - begun, 3)
        result = result.model_copy(update={"stage": row.name, "contract": contract, "seconds": seconds})
        opened.record(result)
        return result

    return call


def record_failure(lake: Lake, run: str, stage: str, label: str, error: BaseException) -> None:
    """Write the record of ``error``; exit code 1 unless the error is the project's own."""
    code = error.exit_code if isinstance(error, VpocError) else 1
    failure = StageFailure(stage=stage, label=label, error=type(error).__name__, message=str(error), exit_code=code)
    lake.write_json(layout.failure_key(run, stage, label), failure.model_dump())


def remove_failure(lake: Lake, run: str, stage: str, label: str) -> None:
    """Delete the record of an earlier failure of a stage; without one nothing happens."""
    lake.storage.delete(layout.failure_key(run, stage, label))


def read_failures(lake: Lake, run: str) -> list[StageFailure]:
    """Return the records of a run, in the order of their files' names."""
    keys = sorted(lake.storage.version_tokens(layout.failures_folder(run)))
    return [StageFailure.model_validate(lake.read_json(key)) for key in keys]


Record = dict[str, JsonValue]


def summarize(lake: str, run: str) -> RunSummary:
    """Return the summary of a run, also of a failed one.

    Raises:
        ArtifactError: no such run was started in this lake, or a record of it is damaged.
    """
    opened, key = Lake(lake), layout.run_file(run, layout.CONFIG)
    stored = opened.storage.read(key)
    if stored is None:
        raise ArtifactError(opened.location(layout.run_folder(run)), "a started run with its config.json", "none")
    config = load_stored(stored, opened.location(key))
    records = [opened.read_json(each) for each in opened.names(layout.stages_folder(run), ".json")]
    position = {name: index for index, name in enumerate(STAGE_NAMES)}
    records.sort(key=lambda record: (position.get(record["stage"], len(position)), record.get("contract", "")))
    by_stage = {record["stage"]: record for record in records if "contract" not in record}
    plan, bars = by_stage.get("plan", {}), by_stage.get("gate-bars", {})
    unreviewed = [f"{record['contract']}: {record['left_out']}" for record in records if record.get("left_out")]
    reports = {
        "evaluation": layout.run_file(run, layout.REPORT),
        "gates": layout.gates_page(run),
        "data docs": layout.DATA_DOCS_PAGE,
    }
    content = {
        "run": run,
        "preset": config.preset,
        "config_hash": config.digest(),
        "stages": [_row(record) for record in records if "rows_in" in record or "error" in record],
        "gates": [by_stage[f"gate-{gate}"] for gate in GATES if f"gate-{gate}" in by_stage],
        "data": bars if "age_sessions" in bars else None,
        "metrics": opened.read_json(layout.run_file(run, layout.METRICS)),
        "decision": opened.read_json(layout.run_file(run, layout.DECISION)),
        "scores": by_stage["score"] if "rows_in" in by_stage.get("score", {}) else None,
        "unreadable": plan.get("unreadable", ()),
        "notes": (*plan.get("notes", ()), *unreviewed),
        "lost": by_stage.get("rolls", {}).get("lost", ()),
        "steps": by_stage.get("rolls", {}).get("steps", ()),
        "lost_rows": by_stage.get("training-set", {}).get("lost_rows", ()),
        "reports": {title: str(opened.location(key)) for title, key in reports.items() if opened.exists(key)},
    }
    try:
        return RunSummary.model_validate(content)
    except ValidationError as error:
        place = opened.location(layout.run_folder(run))
        raise ArtifactError(place, "the records of a run", _first_problem(error)) from error


def _row(record: Record) -> StageRow:
    """Return the row of a record; its reason says why the stage computed anything, did not, or failed."""
    reason = record.get("reason") or record.get("why")  # the former name
    if "error" in record:
        reason = f"failed: {record.get('error_type', 'error')}"
    elif not reason and record.get("skipped"):
        reason = UNCHANGED
    fields = dict.fromkeys(StageRow.model_fields) | record
    return StageRow.model_validate(fields | {"reason": reason})
