"""The one table of stages. Command line, run order, DAG tasks, list of gates and test doubles derive from it.

Standard library only, so DAG files may import it. Functions are imported when they are first used. To add a gate,
write its function, add a row here, and add tests and documentation. ``run_until`` runs the stages one after the
other for the command line; the DAGs run the same stages, contracts in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from multiprocessing import get_context
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vpoc_ml.artifacts.stage_results import StageResult
    from vpoc_ml.artifacts.training_progress import OnProgress

Scope = Literal["contract", "contracts", "fold", "run"]
"""How often a stage is called in a run: once per contract or fold, once with the list of contracts, or once without."""

GATE = "gate-"
GATE_HELP = (
    "\n\nThe stages before it run first, as far as they are not up to date. The exit code is 3 if the gate fails."
)
STAGE_HELP = (
    "\n\nThe stages before it run first, as far as they are not up to date. Without RUN the run is called manual."
)


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        name: name of its record, ``runs/<run>/stages/<name>.json``.
        target: ``module:function`` below ``vpoc_ml.pipeline``. The function's name is also the task's id in a DAG.
        scope: how often the stage is called in a run.
        needs: names of the stages that must have finished before.
        produces: the tables and results that it writes, as keys of the lake with placeholders: ``{symbol}``,
            ``{contract}``, ``{run}``, ``{fold}`` (its key), ``{model}`` and ``{version}``. Without the VIX there is no
            ``vix/VIX.parquet``, and without folds no artifact of a fold.
        takes_now: whether the function takes the current time as its last argument.
        files: folders of the lake that it needs as plain files: ``raw``, ``run`` (the run's folder), ``fold`` (in
            which the run trains a fold) or ``reports``.
        alone: whether only one process at a time may be in the stage, for a run and fold. A task that Airflow has given
            up may still run when its successor starts.
        command: the command that runs every stage up to this one; none by default.
        help: help text of that command.
    """

    name: str
    target: str
    scope: Scope
    needs: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    takes_now: bool = False
    files: tuple[str, ...] = ()
    alone: bool = False
    command: str | None = None
    help: str = ""

    @property
    def module(self) -> str:
        """Name of the module below ``vpoc_ml.pipeline``."""
        return self.target.split(":")[0]

    @property
    def function_name(self) -> str:
        """Name of the function in ``vpoc_ml.pipeline``, and of the task in a DAG."""
        return self.target.split(":")[1]

    @property
    def function(self) -> Callable[..., Any]:
        """The function ``(lake, run, *arguments) -> result``; its module is imported on first use."""
        found: Callable[..., Any] = getattr(import_module("vpoc_ml.pipeline"), self.function_name)
        return found

    @property
    def is_gate(self) -> bool:
        """Whether the stage validates data and can end the run."""
        return self.name.startswith(GATE)

    def arguments(self, contracts: Sequence[str], now: datetime, folds: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return the arguments after lake and run, one tuple per call of the stage."""
        clock = (now,) if self.takes_now else ()
        if self.scope in ("contract", "fold"):
            return [(name, *clock) for name in (contracts if self.scope == "contract" else folds)]
        return [(list(contracts), *clock)] if self.scope == "contracts" else [clock]


STAGES = (
    Stage(
        "plan",
        "plan_stage:plan_contracts",
        "run",
        produces=("runs/{run}/stages/plan.json", "vix/VIX.parquet"),
        files=("raw",),
    ),
    Stage(
        "ingest",
        "contract_stages:ingest_contract",
        "contract",
        needs=("plan",),
        produces=("bars/{symbol}/{contract}.parquet", "quarantine/{symbol}/{contract}.parquet"),
        files=("raw",),
        command="ingest",
        help="Read the vendor files into one-minute bars, one table per contract.\n\n"
        "Rows that cannot be right go to the quarantine, with their line and the reason." + STAGE_HELP,
    ),
    Stage(
        "gate-bars",
        "gate_stages:gate_bars",
        "contracts",
        needs=("ingest",),
        produces=("reports/runs/{run}/bars.json",),
        files=("reports",),
        command="gate-bars",
        help="Validate the bars: jumps, gaps, frozen prices, impossible volume, old data." + GATE_HELP,
    ),
    Stage(
        "rolls",
        "roll_stage:build_rolls",
        "contracts",
        needs=("gate-bars",),
        produces=("roll/{symbol}.parquet",),
    ),
    Stage(
        "profile",
        "contract_stages:profile_contract",
        "contract",
        needs=("rolls",),
        produces=("sessions/{symbol}/{contract}.parquet", "developing/{symbol}/{contract}.parquet"),
        command="profile",
        help="Compute the volume profile of every session, and the levels developing at every bar." + STAGE_HELP,
    ),
    Stage(
        "features",
        "contract_stages:features_contract",
        "contract",
        needs=("profile",),
        produces=("features/{symbol}/{contract}.parquet",),
        command="features",
        help="Compute the features of every bar." + STAGE_HELP,
    ),
    Stage(
        "gate-sessions",
        "gate_stages:gate_sessions",
        "contracts",
        needs=("features",),  # not only the profile: contracts need not wait for each other before their features
        produces=("reports/runs/{run}/sessions.json",),
        files=("reports",),
        command="gate-sessions",
        help="Validate the volume profiles." + GATE_HELP,
    ),
    Stage(
        "gate-features",
        "gate_stages:gate_features",
        "contracts",
        needs=("features", "gate-sessions"),
        produces=("reports/runs/{run}/features.json",),
        files=("reports",),
        command="gate-features",
        help="Validate the features: missing values, bounds, constant columns." + GATE_HELP,
    ),
    Stage(
        "gate-leakage",
        "gate_stages:gate_leakage",
        "contracts",
        needs=("gate-features",),
        produces=("reports/runs/{run}/leakage.json", "leakage/proof.json"),
        files=("reports",),
        command="gate-leakage",
        help="Validate that no feature of the bars depends on later data." + GATE_HELP,
    ),
    Stage(
        "training-set",
        "model_stages:build_training_set",
        "contracts",
        needs=("gate-leakage",),
        produces=(
            "runs/{run}/training_set.parquet",
            "runs/{run}/feature_statistics.json",
            "runs/{run}/sessions.json",
        ),
        files=("run",),
        command="training-set",
        help="Make the training set: rows, labels, weights, and the split by sessions." + STAGE_HELP,
    ),
    Stage(
        "gate-training-set",
        "gate_stages:gate_training_set",
        "run",
        needs=("training-set",),
        produces=("reports/runs/{run}/training-set.json",),
        files=("run", "reports"),
        command="gate-training-set",
        help="Validate the training set: finite values, separate splits, drift between them." + GATE_HELP,
    ),
    Stage(
        "plan-folds", "fold_stages:plan_folds", "run", needs=("gate-training-set",), produces=("runs/{run}/folds.json",)
    ),
    Stage(
        "train-fold",
        "fold_stages:train_fold",
        "fold",
        needs=("plan-folds",),
        produces=("track/{symbol}/{fold}/fold.json", "track/{symbol}/{fold}/predictions.parquet"),
        files=("fold",),
        alone=True,
    ),
    Stage(
        "track-record",
        "fold_stages:build_track_record",
        "run",
        needs=("train-fold",),
        produces=("runs/{run}/track_record.json", "runs/{run}/track_record_predictions.parquet"),
        files=("run",),
        command="walk-forward",
        help="Train one model per fold on the sessions before it, and make the track record of their predictions."
        + STAGE_HELP,
    ),
    Stage(
        "train",
        "model_stages:train",
        "run",
        needs=("track-record",),
        produces=("runs/{run}/best_model.safetensors", "runs/{run}/training_result.json"),
        files=("run",),
        alone=True,
    ),
    Stage(
        "evaluate",
        "model_stages:evaluate",
        "run",
        needs=("train",),
        produces=("runs/{run}/metrics.json", "runs/{run}/lineage.json", "runs/{run}/report.html"),
        files=("run",),
        command="evaluate",
        help="Evaluate the model on sessions that it has not seen: metrics.json and report.html." + STAGE_HELP,
    ),
    Stage(
        "gate-candidate",
        "model_gates:gate_candidate",
        "run",
        needs=("evaluate",),
        produces=("reports/runs/{run}/candidate.json",),
        files=("run", "reports"),
        command="gate-candidate",
        help="Validate the trained model: finite weights, scores that vary, losses that fell." + GATE_HELP,
    ),
    Stage(
        "live-record",
        "live_stage:update_live_records",
        "run",
        needs=("gate-candidate",),
        takes_now=True,
        files=("run",),
    ),
    Stage(
        "decide",
        "decision_stages:decide",
        "run",
        needs=("live-record",),
        produces=("runs/{run}/decision.json",),
        takes_now=True,
        files=("run",),
    ),
    Stage("promote", "decision_stages:promote", "run", needs=("decide",), takes_now=True, files=("run",)),
    Stage(
        "score",
        "score_stage:score",
        "run",
        needs=("gate-candidate", "promote"),
        produces=("predictions/{model}/v{version}/{contract}.parquet",),
        takes_now=True,
    ),
    Stage(
        "gate-predictions",
        "model_gates:gate_predictions",
        "run",
        needs=("score",),
        produces=("reports/runs/{run}/predictions.json",),
        files=("reports",),
    ),
    Stage(
        "gate-monitoring",
        "monitoring_stage:gate_monitoring",
        "run",
        needs=("gate-predictions",),
        produces=("reports/runs/{run}/monitoring.json",),
        files=("run", "reports"),
        command="run",
        help="Run a whole night: from vendor files to the decision about the model, scores and reports." + STAGE_HELP,
    ),
)
"""The stages of a run, in their order."""

SEPARATE = (
    Stage("features-successor", "contract_stages:features_successor", "contract", needs=("features",)),
    Stage("promote", "decision_stages:promote_by_hand", "run", needs=("evaluate",), takes_now=True, files=("run",)),
    Stage("approve", "decision_stages:approve", "run", needs=("decide",), takes_now=True, files=("run",)),
    Stage("reject", "decision_stages:reject", "run", needs=("decide",), takes_now=True, files=("run",)),
    Stage("expire", "decision_stages:expire", "run", needs=("decide",), takes_now=True, files=("run",)),
    Stage("publish-reports", "report_stage:publish_reports", "run", takes_now=True, files=("run", "reports")),
    Stage(
        "analyze-features", "study_stages:analyze_features", "run", needs=("training-set",), files=("run", "reports")
    ),
    Stage("reproduce", "reproduction:reproduce", "run", needs=("train",), files=("run",)),
    Stage("seeds", "study_stages:train_seeds", "run", needs=("training-set",), files=("run",)),
    Stage("search", "study_stages:search", "run", needs=("training-set",), files=("run",)),
)
"""Stages that the run order does not have: a person, a DAG or another command calls them for a run."""

STAGE_NAMES = tuple(stage.name for stage in STAGES)
GATES = tuple(stage.name.removeprefix(GATE) for stage in STAGES if stage.is_gate)
"""Names of the gates in the order of their stages, without the prefix ``gate-``."""


def stage_named(name: str) -> Stage:
    """Return the stage of the run order that is called ``name``.

    Raises:
        KeyError: there is none.
    """
    return {stage.name: stage for stage in STAGES}[name]


def stage_of_function(function_name: str) -> Stage:
    """Return the stage whose function has this name.

    Raises:
        KeyError: there is none.
    """
    return {stage.function_name: stage for stage in (*STAGES, *SEPARATE)}[function_name]


def is_after(name: str, other: str) -> bool:
    """Return whether stage ``name`` comes after ``other`` in the run order; a stage does not come after itself."""
    return STAGE_NAMES.index(name) > STAGE_NAMES.index(other)


def run_until(
    lake: str,
    run: str,
    last: str,
    now: datetime,
    *,
    jobs: int = 1,
    on_stage: Callable[[StageResult], None] = lambda result: None,
    on_progress: OnProgress | None = None,
) -> None:
    """Run the stages of a started run up to and including ``last``; unchanged ones skip themselves.

    Where they make a training set, too few sessions for it end the run with the roll table, before any profile.

    ``jobs`` contracts are worked on at the same time, each in a process of its own, and as many folds, at least
    ``machine.processes``; the artifacts are the same bytes. ``on_stage`` receives each stage's result, ``on_progress``
    each progress record of the training.
    """
    options: dict[str, dict[str, Any]] = {"rolls": {"last": last}, "train": {"on_progress": on_progress}}
    contracts: list[str] = []
    folds: list[str] = []
    for stage in STAGES:
        if is_after(stage.name, last):
            break
        if stage.scope == "fold":
            _run_folds(stage, lake, run, folds, jobs, on_stage)
            continue
        if stage.scope == "contract" and min(jobs, len(contracts)) > 1:
            _run_contracts(stage, lake, run, stage.arguments(contracts, now), jobs, on_stage)
            continue
        for arguments in stage.arguments(contracts, now):
            result = stage.function(lake, run, *arguments, **options.get(stage.name, {}))
            if stage.name == "plan":
                contracts = list(result.contracts)
            elif stage.name == "plan-folds":
                folds = list(result.folds)
            on_stage(result)


def _run_contracts(
    stage: Stage,
    lake: str,
    run: str,
    calls: Sequence[tuple[Any, ...]],
    jobs: int,
    on_stage: Callable[[StageResult], None],
) -> None:
    """Run a stage for all contracts in ``jobs`` processes; results and the first error come in the contracts' order."""
    context = get_context("spawn")  # a fork would copy the locks of polars' threads
    with ProcessPoolExecutor(min(jobs, len(calls)), context) as pool:
        waiting = [pool.submit(_call_stage, stage.function_name, lake, run, arguments) for arguments in calls]
        try:
            for done in waiting:
                on_stage(done.result())
        finally:  # after an error no further contract is begun
            pool.shutdown(cancel_futures=True)


def _call_stage(function_name: str, lake: str, run: str, arguments: tuple[Any, ...]) -> StageResult:
    result: StageResult = stage_of_function(function_name).function(lake, run, *arguments)
    return result


class _Stopped(Exception):
    """Ends the training of a fold because another fold raised an error."""


def _run_folds(
    stage: Stage, lake: str, run: str, folds: Sequence[str], jobs: int, on_stage: Callable[[StageResult], None]
) -> None:
    """Run a stage for all folds, ``jobs`` or ``machine.processes`` at a time; the first error ends the others.

    Each fold trains in a process of its own, which its thread starts.
    """
    from vpoc_ml.pipeline.run import open_run

    stop = Event()

    def check(_: object) -> None:
        if stop.is_set():
            raise _Stopped

    with ThreadPoolExecutor(max(jobs, open_run(lake, run).config.machine.processes)) as pool:
        waiting = [pool.submit(stage.function, lake, run, fold, on_progress=check) for fold in folds]
        try:
            for done in as_completed(waiting):
                on_stage(done.result())
        finally:  # also when the caller is interrupted
            stop.set()
            for future in waiting:
                future.cancel()
