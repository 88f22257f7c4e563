"""Stages of the model: training set -> train -> evaluate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from vpoc_ml.lake.atomic import replacing, write_json
from vpoc_ml.lake.hashing import hash_code, hash_file
from vpoc_ml.lake.store import Lake, Recipe
from vpoc_ml.pipeline.run import Result, Run, run_folder, stage

MODEL_FILES = (
    "best_model.safetensors",
    "best_model.json",
    "final_model.safetensors",
    "final_model.json",
    "training_config.json",
    "training_result.json",
    "training_log.txt",
    "progress.jsonl",
)


@stage("training-set")
def build_training_set(run: Run, contracts: list[str]) -> Result:
    """Assemble labels, splits and features of the contracts' front sessions into the run's training set.

    Raises:
        InsufficientSessionsError: too few usable sessions for three splits and their embargoes.
    """
    from vpoc_ml.dataset.assemble import assemble

    roll_key = f"roll/{run.config.data.instrument}.parquet"
    bars = {contract: run.lake.read_frame(run.key("bars", contract)) for contract in contracts}
    features = {contract: run.lake.read_frame(run.key("features", contract)) for contract in contracts}
    front = run.lake.read_frame(roll_key).filter(pl.col("contract").is_in(contracts))
    kinds = ("bars", "features")
    inputs = {f"{kind}/{contract}": run.lake.sha(run.key(kind, contract)) for kind in kinds for contract in contracts}
    recipe = Recipe(
        {**inputs, "roll": run.lake.sha(roll_key)}, run.config.digest("features", "dataset"), hash_code("dataset")
    )
    built = assemble(bars, features, front, run.instrument, run.config)
    run_lake = Lake(run.folder)
    write_json(run.folder / "feature_statistics.json", built.statistics)
    manifest = run_lake.write_frame("training_set.parquet", built.frame, recipe)
    splits = dict(built.frame.group_by("split").len().sort("split").iter_rows())
    return {
        "rows_in": sum(frame.height for frame in features.values()),
        "rows_out": manifest.rows,
        "quarantined": 0,
        "skipped": False,
        "splits": splits,
        "features": built.statistics["features"],
        "sha256": manifest.sha256,
    }


@stage("train")
def train(run: Run, *, on_progress: Callable[[Result], None] | None = None) -> Result:
    """Train in a subprocess, resuming its last checkpoint; reuse the model of a run with the same fingerprint.

    The fingerprint is the hash of the training set, of the model's and training's settings, and of the
    code that trains. ``on_progress`` receives each progress record as it arrives.

    Raises:
        TrainingUnstableError: training did not stay finite and alive.
    """
    from vpoc_ml.training.launch import launch

    fingerprint = training_fingerprint(run)
    pointer = run.lake.root / "trained" / f"{fingerprint}.json"
    source = _trained_before(run, pointer)
    if source is not None and source != run.folder:
        for name in MODEL_FILES:
            with replacing(run.folder / name) as temporary:
                shutil.copyfile(source / name, temporary)
    elif source is None:
        launch(run.folder, on_progress=on_progress)
        write_json(pointer, {"run": run.name, "files": {name: hash_file(run.folder / name) for name in MODEL_FILES}})
    trained: Result = json.loads((run.folder / "training_result.json").read_text())
    rows = trained.get("rows", 0)
    return {
        **trained,
        "rows_in": rows,
        "rows_out": rows,
        "quarantined": 0,
        "fingerprint": fingerprint,
        "skipped": source is not None,
        "trained_in": source.name if source is not None else run.name,
    }


def training_fingerprint(run: Run) -> str:
    """Return what identifies a trained model: data, settings and code, in 16 hex digits."""
    import hashlib

    parts = (
        Lake(run.folder).sha("training_set.parquet"),
        run.config.digest("model", "training"),
        hash_code("dataset", "models", "training"),
    )
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


def _trained_before(run: Run, pointer: Path) -> Path | None:
    """Return the folder of the run that trained this fingerprint, if all its files are still the same."""
    if not pointer.is_file():
        return None
    known = json.loads(pointer.read_text())
    folder = run_folder(run.lake, known["run"])
    whole = all((folder / name).is_file() and hash_file(folder / name) == sha for name, sha in known["files"].items())
    return folder if whole else None


@stage("evaluate")
def evaluate(run: Run) -> Result:
    """Judge the model on rows it never saw, beside the baselines and today's champion; write the report."""
    from vpoc_ml.evaluation.evaluate import evaluate_run
    from vpoc_ml.models.bundle import load_model
    from vpoc_ml.pipeline.champion import model_store
    from vpoc_ml.pipeline.reports import write_evaluation_report

    champion = model_store(run.lake).champion()
    rival = load_model(champion.folder / "best_model.json") if champion else None
    metrics = evaluate_run(
        run.folder,
        run.config,
        champion=rival,
        instrument=run.instrument,
        more_features=_features(run, rival.features) if rival else None,
    )
    report = write_evaluation_report(run)
    test_rows = pl.scan_parquet(run.folder / "training_set.parquet").filter(pl.col("split") == "test")
    return {
        "rows_in": int(test_rows.select(pl.len()).collect().item()),
        "rows_out": metrics["rows"],
        "quarantined": 0,
        "skipped": False,
        "champion": champion.version if champion else None,
        "metrics": str(run.folder / "metrics.json"),
        "report": str(report),
    }


def _features(run: Run, names: Sequence[str]) -> pl.DataFrame:
    """Return the named features of the run's contracts as far as they exist: what a champion may need."""
    frames = [run.lake.read_frame(run.key("features", contract)) for contract in run.plan()["contracts"]]
    return pl.concat(frame.select("ts", "contract", *(n for n in names if n in frame.columns)) for frame in frames)
