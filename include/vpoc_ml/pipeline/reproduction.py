"""Train a registered model again from the lake and compare the result with the registered one, bit by bit."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.stage_results import ReproduceResult
from vpoc_ml.artifacts.training_progress import OnProgress
from vpoc_ml.artifacts.training_result import TrainingRecord
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.pipeline.champion_stages import model_store
from vpoc_ml.pipeline.fold_stages import fold_plan, prepare_refit, refit_choices
from vpoc_ml.pipeline.run import Run, stage
from vpoc_ml.registry.store import WEIGHTS

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
        first = first_difference(registered.folder, folder)
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
        equal=first is None,
        registered_weights=weights[0],
        reproduced_weights=weights[1],
        differences=differences,
        first_difference=first,
    )


def first_difference(registered: Path, again: Path) -> str | None:
    """Return the first difference of two stored models as ``file, place: was VALUE, is VALUE``; None for equal bits.

    Compared are all bytes of the weights, the stored numbers of the trees among them, and all fields of the model card
    in it.
    """
    if (registered / WEIGHTS).read_bytes() != (again / WEIGHTS).read_bytes():
        return f"{WEIGHTS}, {_first_tensor(load_file(registered / WEIGHTS), load_file(again / WEIGHTS))}"
    fields = [json.loads((folder / layout.BEST_MODEL_CARD).read_bytes()) for folder in (registered, again)]
    for name in sorted((fields[0].keys() | fields[1].keys()) - {"sha256"}):  # the hash of the fields
        old, new = (json.dumps(each.get(name), sort_keys=True) for each in fields)
        if old != new:
            return f"{layout.BEST_MODEL_CARD}, {name}: was {old[:60]}, is {new[:60]}"
    return None


def _first_tensor(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> str:
    """Return the first tensor whose bits differ, with the first place in it and both values."""
    for name in sorted(old.keys() | new.keys()):
        shapes = [f"{each[name].dtype} {each[name].shape}" if name in each else "absent" for each in (old, new)]
        if shapes[0] != shapes[1]:
            return f"{name}: was {shapes[0]}, is {shapes[1]}"
        was, now = (np.ascontiguousarray(each[name]).reshape(-1) for each in (old, new))
        other = was.view(np.uint8).reshape(was.size, -1) != now.view(np.uint8).reshape(now.size, -1)
        if other.any():
            place = int(other.any(axis=1).argmax())
            return f"{name}[{place}]: was {was[place]!r}, is {now[place]!r}"
    return "header: the order or the metadata of the tensors"
