"""One run: its folder, its stored configuration, and the record of every stage.

A stage is a function of an opened run. Called from outside it takes the lake and the run's name, so
that a DAG task, the command line and a test all say ``ingest_contract("data", "2025-02-27", "ESH25")``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from vpoc_ml import config as configuration
from vpoc_ml.config import RunConfig
from vpoc_ml.errors import ArtifactError, GateFailedError, VpocError
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.instruments import Instrument, instrument

Result = dict[str, Any]
P = ParamSpec("P")


@dataclass(frozen=True)
class Run:
    """An opened run. ``inputs`` holds ``raw`` and ``vix``, the places of the input, and ``started``, an ISO stamp."""

    lake: Lake
    name: str
    config: RunConfig
    inputs: dict[str, str | None]

    @property
    def folder(self) -> Path:
        """Folder of this run's own artifacts."""
        return run_folder(self.lake, self.name)

    @property
    def instrument(self) -> Instrument:
        """The futures this run is about."""
        return instrument(self.config.data.instrument)

    @property
    def reports(self) -> Path:
        """Folder of the reports of all runs."""
        return self.lake.root / "reports"

    @property
    def started(self) -> datetime:
        """The moment the run was started: the run's clock, the same for every stage and every retry."""
        return datetime.fromisoformat(str(self.inputs["started"]))

    def key(self, kind: str, contract: str) -> str:
        """Return the lake key of a contract's artifact, such as ``bars/ES/ESH25.parquet``."""
        return f"{kind}/{self.config.data.instrument}/{contract}.parquet"

    def plan(self) -> Result:
        """Return what ``plan_contracts`` found.

        Raises:
            ArtifactError: the run has no plan yet.
        """
        return self.result("plan")

    def result(self, stage: str, contract: str | None = None) -> Result:
        """Return the recorded result of a stage.

        Raises:
            ArtifactError: the stage has not been recorded.
        """
        path = self._record_path(stage, contract)
        if not path.is_file():
            raise ArtifactError(path, f"the record of stage {stage!r}", "none")
        found: Result = json.loads(path.read_text())
        return found

    def has_result(self, stage: str) -> bool:
        """Return whether the stage has left a record."""
        return self._record_path(stage, None).is_file()

    def record(self, stage: str, contract: str | None, result: Result) -> None:
        """Store a stage's result for the summary."""
        write_json(self._record_path(stage, contract), result)

    def _record_path(self, stage: str, contract: str | None) -> Path:
        name = f"{stage}.{contract}.json" if contract else f"{stage}.json"
        return self.folder / "stages" / name


def because(why: str | None) -> Result:
    """Return the fields of a stage's result that tell whether it worked and why; None: all was fresh."""
    return {"skipped": why is None, "why": why or "unchanged"}


def run_folder(lake: Lake, name: str) -> Path:
    """Return the folder of the run called ``name``."""
    return lake.root / "runs" / name


def run_name(text: str) -> str:
    """Return ``text`` as a run name: only letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")


def open_run(lake: str, name: str) -> Run:
    """Return the run called ``name`` with the configuration its first stage stored.

    Raises:
        ArtifactError: no such run was started in this lake.
    """
    opened = Lake(lake)
    folder = run_folder(opened, name)
    if not (folder / "config.json").is_file():
        raise ArtifactError(folder, "a started run with its config.json", "none")
    run_config = configuration.load((folder / "config.json").read_text())
    return Run(opened, name, run_config, json.loads((folder / "inputs.json").read_text()))


def stage(name: str) -> Callable[[Callable[Concatenate[Run, P], Result]], Callable[Concatenate[str, str, P], Result]]:
    """Make a stage of a function over an opened run: open, time, record the result or the error.

    The record carries ``stage``, ``contract`` (when the first argument names one) and ``seconds``.
    """

    def decorate(work: Callable[Concatenate[Run, P], Result]) -> Callable[Concatenate[str, str, P], Result]:
        @wraps(work)
        def call(lake: str, run: str, /, *args: P.args, **kwargs: P.kwargs) -> Result:
            opened = open_run(lake, run)
            contract = args[0] if args and isinstance(args[0], str) else None
            begun = time.perf_counter()
            head: Result = {"stage": name, **({"contract": contract} if contract else {})}
            try:
                result = {**head, **work(opened, *args, **kwargs)}
            except VpocError as error:
                verdict = error.verdict if isinstance(error, GateFailedError) else {}
                failed = {**head, **verdict, "error": str(error), "error_type": type(error).__name__}
                opened.record(name, contract, failed)
                raise
            result["seconds"] = round(time.perf_counter() - begun, 3)
            opened.record(name, contract, result)
            return result

        return call

    return decorate
