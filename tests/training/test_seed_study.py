"""A seed study: each seed trains as it does alone, and an error of one ends the others."""

from __future__ import annotations

import json

import pytest

from vpoc_ml.artifacts.studies import SeedComparison
from vpoc_ml.artifacts.training_progress import ProgressRecord, WindowRecord
from vpoc_ml.errors import InvalidValueError, MissingInputError, TooManyRollbacksError
from vpoc_ml.training.hardware.device import WORKER_VARIABLE
from vpoc_ml.training.launch import seed_study
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.seed_study import train_seeds

pytestmark = pytest.mark.slow

COMPARISON = SeedComparison(
    seeds=(5,),
    validation_losses={"5": 0.1},
    spread=0.0,
    best="5",
    correlations={"5": None},
    mean_correlation=None,
    models={"5": "seeds/5/best_model.json"},
)


def test_each_seed_trains_as_it_does_alone(tiny, make_run):
    fast = {"training__epochs": 1, "training__batch_size": 256, "model__hidden_dims": (8,)}
    alone = make_run(tiny, "alone", **fast, training__seed=2)
    train_run(alone)
    run = make_run(tiny, "run", **fast)
    records: list[tuple[str, ProgressRecord]] = []
    comparison = train_seeds(run, [1, 2, 3], 2, lambda *record: records.append(record))
    assert (run / "seeds/2/best_model.safetensors").read_bytes() == (alone / "best_model.safetensors").read_bytes()
    assert comparison.seeds == (1, 2, 3)
    assert set(comparison.validation_losses) == {"1", "2", "3"}
    assert comparison.best == min(comparison.validation_losses, key=comparison.validation_losses.get)
    assert -1 < comparison.mean_correlation < 1
    assert json.loads((run / "seeds.json").read_text()) == comparison.to_json()
    assert sorted(folder for folder, record in records if record.kind == "epoch") == ["1", "2", "3"]
    assert not [path for path in (run / "seeds").rglob("*") if path.is_symlink()], "links go when the seeds are done"
    assert train_seeds(run, [1], processes=1).seeds == (1,), "and come back when they are needed again"


def test_seeds_are_distinct_and_need_a_training_set(tiny, make_run):
    run = make_run(tiny)
    for wrong in ([], [1, 1]):
        with pytest.raises(InvalidValueError, match="distinct"):
            train_seeds(run, wrong, 2)
    (run / "training_set.parquet").unlink()
    with pytest.raises(MissingInputError, match="training set"):
        train_seeds(run, [1], 2)


def test_each_worker_takes_every_nth_seed_on_its_own_gpu(tiny, make_run, monkeypatch):
    launched: dict[str, str] = {}

    def launch(folder, *, on_progress, environment):
        launched[folder.name] = environment[WORKER_VARIABLE]

    monkeypatch.setattr(seed_study, "launch", launch)
    monkeypatch.setattr(seed_study, "compare_seeds", lambda run_dir, folders: COMPARISON)
    train_seeds(make_run(tiny), [5, 6, 7, 8, 9], 2)
    assert launched == {"5": "0", "7": "0", "9": "0", "6": "1", "8": "1"}


def test_error_of_a_seed_keeps_its_class_and_ends_the_others(tiny, make_run, monkeypatch):
    """Seed 1 runs until its next progress record, seed 3 never starts."""
    failed, ended = seed_study.threading.Event(), []

    def launch(folder, *, on_progress, environment):
        if folder.name == "2":
            failed.set()
            raise TooManyRollbacksError(0, "step 5: weights are not finite", 0.5)
        failed.wait()
        for step in range(10_000):
            try:
                on_progress(WindowRecord(step=step))
            except Exception:
                ended.append(folder.name)
                raise
            seed_study.threading.Event().wait(0.001)
        raise AssertionError("the process trained to its end")

    monkeypatch.setattr(seed_study, "launch", launch)
    with pytest.raises(TooManyRollbacksError, match="at most 0 rollbacks"):
        train_seeds(make_run(tiny), [1, 2, 3], 2)
    assert ended == ["1"]
