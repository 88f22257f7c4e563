"""One net per seed on the run's training set, one process per card."""

from __future__ import annotations

from collections.abc import Sequence

from vpoc_ml.pipeline.run import Result, Run, stage


@stage("seeds", files=("run",))
def train_seeds(run: Run, seeds: Sequence[int], processes: int) -> Result:
    """Train the run's net once per seed, ``processes`` at a time, and record how the seeds and their mean do.

    Raises:
        InvalidValueError: no seeds, or one twice.
        MissingInputError: the run has no training set yet.
        VpocError: as training a seed raises; a second call goes on where it ended.
    """
    from vpoc_ml.training.launch.seed_study import train_seeds as train

    return train(run.folder, seeds, processes)
