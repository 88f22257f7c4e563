"""Deletes what old runs need no more: their training sets, leftovers of trainings, and folds that no kept run uses.

A run is kept if it started on one of the newest nights, if a champion of any time came from it (a rollback may restore
that champion), or if its candidate waits for an answer. Everything else of an old run stays: settings, records, model,
metrics, decision and reports. Registered versions have their own files in the registry, which is not touched.

What is kept is determined before anything is deleted. A damaged record ends the retention without a deletion.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Decision, DecisionState
from vpoc_ml.artifacts.retention import Retention
from vpoc_ml.artifacts.track_record import FoldPlan, TrackRecord
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.champion_stages import existing_registry
from vpoc_ml.pipeline.run import read_artifact
from vpoc_ml.registry.ledger import champion_history
from vpoc_ml.registry.registry import registry_folder

FEWEST_NIGHTS = 7
"""A run may take days; the newest nights are never touched."""
BULKY_FILES = (layout.TRAINING_SET, f"{layout.TRAINING_SET.removesuffix('.parquet')}.json")
BULKY_FOLDERS = (layout.CHECKPOINTS, "folds", layout.REFIT)
OPEN = (DecisionState.WAITING, DecisionState.ACCEPTED)


def retain(lake: str, nights: int, *, delete: bool = True) -> Retention:
    """Delete the bulky files of runs older than the newest ``nights`` dates of runs, and unused folds.

    Args:
        lake: root of the lake.
        nights: number of dates (UTC) on which kept runs started, at least 7.
        delete: False only lists.

    Raises:
        InvalidValueError: ``nights`` is below 7.
        ConfigError: the registry, which names the champions, is not known.
        ArtifactError: a run's record is damaged; nothing is deleted.
        RegistryError: the ledger was changed; nothing is deleted.
    """
    if nights < FEWEST_NIGHTS:
        raise InvalidValueError("the number of nights", nights, f"at least {FEWEST_NIGHTS}")
    opened = Lake(lake)
    runs = [key.split("/")[1] for key in opened.names(layout.RUNS, f"/{layout.CONFIG}") if key.count("/") == 2]
    kept = {run for run in runs if _is_open(opened, run)} | _newest(opened, runs, nights)
    champions, folds = _champions(opened)
    kept |= champions & set(runs)
    for run in kept:
        plan = read_artifact(opened, layout.run_file(run, layout.FOLDS), FoldPlan, "the plan of folds")
        folds |= {fold.key for fold in plan.folds} if plan else set()
    files = {run: _bulky(opened, run) for run in sorted(set(runs) - kept)}
    unused: dict[str, list[str]] = {}
    for key in opened.names("track"):
        if key.count("/") == 3 and key.split("/")[2] not in folds:
            unused.setdefault(key.rpartition("/")[0], []).append(key)
    if delete:
        for found in files.values():
            _delete(opened, found)
        for folder, found in unused.items():
            with opened.writing(f"track-{folder.rpartition('/')[2]}"):
                _delete(opened, sorted(found, key=lambda key: not key.endswith("/fold.json")))
    return Retention(
        deleted=delete,
        kept=len(kept),
        runs=tuple(run for run, found in files.items() if found),
        folds=tuple(unused),
        files=sum(map(len, (*files.values(), *unused.values()))),
    )


def _newest(lake: Lake, runs: Iterable[str], nights: int) -> set[str]:
    """Return the runs that started on one of the newest dates, and those whose start is not known."""
    started: dict[str, datetime | None] = {}
    for run in runs:
        inputs = lake.read_json(layout.run_file(run, layout.INPUTS)) or {}
        started[run] = datetime.fromisoformat(inputs["started"]) if inputs.get("started") else None
    dates = sorted({when.date() for when in started.values() if when is not None}, reverse=True)[:nights]
    return {run for run, when in started.items() if when is None or when.date() in dates}


def _is_open(lake: Lake, run: str) -> bool:
    """Return whether a run's candidate waits for an answer or for the end of its promotion."""
    decision = read_artifact(lake, layout.run_file(run, layout.DECISION), Decision, "a decision")
    return decision is not None and not decision.simulated and decision.state in OPEN


def _champions(lake: Lake) -> tuple[set[str], set[str]]:
    """Return the runs and the folds of all champions that a rollback can reach."""
    registry_folder(lake)  # a lake whose registry nobody has named may have champions
    registry = existing_registry(lake)
    if registry is None:
        return set(), set()
    champions = {version for version, _ in champion_history(registry.entries())}
    runs = {item.run for item in registry.mlflow.versions() if item.version in champions}
    folds: set[str] = set()
    for run in runs:
        record = read_artifact(lake, layout.run_file(run, layout.TRACK_RECORD), TrackRecord, "a track record")
        folds |= {entry.fold.key for entry in record.folds} if record else set()
    return runs, folds


def _bulky(lake: Lake, run: str) -> list[str]:
    """Return the files of an old run that are deleted; of an artifact the manifest comes first."""
    folder = f"{layout.run_folder(run)}/"
    inside = [key.removeprefix(folder) for key in lake.names(layout.run_folder(run))]
    return [folder + name for name in inside if name in BULKY_FILES or name.split("/")[0] in BULKY_FOLDERS]


def _delete(lake: Lake, keys: Iterable[str]) -> None:
    for key in keys:
        lake.storage.delete(key)
