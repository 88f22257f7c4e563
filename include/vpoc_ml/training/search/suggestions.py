"""Optuna's suggestions, made repeatable: a search that was killed at any time resumes as if it had not been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

STARTUP = 10


class Repeatable(BaseSampler):
    """TPE (Bergstra et al. 2011) that draws by seed, number of the trial and, one by one, name of the setting.

    TPE itself draws one stream of numbers from the first trial to the last. A new process cannot continue that stream,
    neither with the next trial nor in the middle of one. Here the values of a trial depend on its number only.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the settings that are drawn together."""
        return self._tpe(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the trial's values of the settings that are drawn together."""
        tpe = self._tpe(trial.number)
        return tpe.sample_relative(study, trial, tpe.infer_relative_search_space(study, trial))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the trial's value of a setting that is drawn by itself, as all are in the first trials."""
        tpe = self._tpe(trial.number, crc32(param_name.encode()))
        return tpe.sample_independent(study, trial, param_name, param_distribution)

    def _tpe(self, *position: int) -> TPESampler:
        own = int(np.random.SeedSequence([self.seed, *position]).generate_state(1)[0])
        return TPESampler(seed=own, n_startup_trials=STARTUP)
