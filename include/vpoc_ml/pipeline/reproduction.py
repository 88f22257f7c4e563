"""Train a registered model again from the lake and compare the result with the registered one, bit by bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.stage_results import ReproduceResult
from vpoc_ml.artifacts.training_progress import OnProgress
from vpoc_ml.artifacts.training_result import TrainingRecord
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.pipeline.champion_stages import model_store
from vpoc_ml.pipeline.fold_stages import fold_plan, prepare_refit, refit_choices
from vpoc_ml.pipeline.run import Run, stage

WEIGHTS = f"{layout.BEST_MODEL}.safetensors"
COMPARED = ("fingerprint", "preset", "model", "training", "torch", "device", "threads", "engine")
"""Fields of the training record that explain other bits."""


@stage
def reproduce(run: Run, *, on_progress: OnProgress = lambda record: None) -> ReproduceResult:
    """Train the run's shipped model again in a temporary folder and compare it with the registered version.

    Nothing in the lake or the registry changes. With walk-forward folds the stored folds are used as they are: the
    shipped model is trained again, not the folds.

    Raises:
        RegistryError: the run has no registered version.
        ArtifactError: bars, features or rolls have changed since the run.
    """
    from vpoc_ml.training.launch.run_inputs import share_inputs
    from vpoc_ml.training.launch.subprocess import launch

    store, plan = model_store(run.lake, run.model_key), fold_plan(run)
    registered = store.get(store.version_of(run.name))
    with tempfile.TemporaryDirectory(prefix="vpoc-reproduce-") as place:
        folder = Path(place, run.name)
        if plan is None:
            share_inputs(folder, run.folder, run.config)
        else:
            prepare_refit(run, plan, refit_choices(run, plan), folder)
        launch(folder, on_progress=on_progress)
        weights = [hash_file(each / WEIGHTS) for each in (registered.folder, folder)]
        remedy = "Run the command again."
        records = [
            TrainingRecord.read(each / layout.TRAINING_CONFIG, what="the record of the training", remedy=remedy)
            for each in (registered.folder, folder)
        ]
    pairs = {name: tuple(getattr(record, name) for record in records) for name in COMPARED}
    differences = tuple(f"{name}: was {old}, is {new}" for name, (old, new) in pairs.items() if old != new)
    return ReproduceResult(
        rows_in=0,
        rows_out=0,
        skipped=False,
        version=registered.version,
        equal=weights[0] == weights[1],
        registered_weights=weights[0],
        reproduced_weights=weights[1],
        differences=differences,
    )
