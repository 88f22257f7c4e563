"""Search for settings: trials on one training set, suggested by Optuna, scored on validation rows only.

Folder ``search/`` of a run holds all of it: ``journal.log`` is Optuna's storage, ``trials/<name>`` the run folder of
each trial. A search that was killed resumes and ends with the same trials: each value of a trial is a function of
the seed, the trial's number, the setting and the trials before it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import optuna
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from vpoc_ml import config as configuration
from vpoc_ml.artifacts import training_files as files
from vpoc_ml.artifacts.feature_statistics import FeatureStatistics, read_feature_statistics
from vpoc_ml.artifacts.studies import SearchSummary, TrialOutcome, TrialRecord, TrialScore
from vpoc_ml.config import RunConfig
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import (
    ConfigError,
    DeviceError,
    GpuBusyError,
    InvalidValueError,
    MachineError,
    StorageError,
    TrainingStoppedError,
    TrainingUnstableError,
)
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.plugins.registered import digests
from vpoc_ml.training.launch.run_inputs import drop_inputs, hash_inputs, share_inputs
from vpoc_ml.training.launch.search_space import Dimension, overrides
from vpoc_ml.training.launch.validate_config import VALIDATED_SETTINGS, validate_training_config

CODE = (__name__, "vpoc_ml.training.launch.fit", "vpoc_ml.evaluation.evaluate")
SCORED, UNSTABLE, IMPOSSIBLE = "scored", "unstable", "impossible"
STARTUP = 10
"""Trials whose values are drawn at random."""
TRIES = 3  # of one trial that the machine ends: others may fit
FAILURES = "machine_errors.json"
Params = dict[str, Any]
"""Values of the varied settings by key."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        run_dir: run with config.json and a training set.
        space: what to vary.
        seed: of the suggestions.
        train: trains a run folder; raises TrainingUnstableError where the settings do not hold.
        score: reads a trained folder and returns its score. It must read validation rows only.
    """

    run_dir: Path
    space: tuple[Dimension, ...]
    seed: int
    train: Callable[[Path], Any]
    score: Callable[[Path, RunConfig], TrialScore]

    def run(self, trials: int, on_trial: Callable[[TrialRecord], None] = lambda record: None) -> SearchSummary:
        """Continue until ``trials`` trials are finished; return the summary and write it to ``search.json``.

        The first trial has the run's own settings if they lie in the space. Trials run without fallback presets:
        unstable settings are recorded as unstable and reported to the sampler. Settings that cannot be trained, and
        those that the machine ended ``TRIES`` times, are recorded as impossible.

        Args:
            trials: number of trials in all, those of previous calls included.
            on_trial: receives the record of each trial as it ends.

        Raises:
            InvalidValueError: less than one trial, or a value of the space that cannot be trained on these rows.
            MissingInputError: the run has no training set.
            DeviceError, InputError, MachineError: as training raises them; a second call continues with that trial.
        """
        if trials < 1:
            raise InvalidValueError("trials", trials, "at least 1")
        base = self._base()
        trial_key = self._trial_key(base)
        validate_search_space(base, self.space, read_feature_statistics(self.run_dir))
        study = self._open(base, trial_key)
        if not study.get_trials(deepcopy=False):
            self._enqueue_own(study, base)
        while len(_finished(study)) < trials:
            record = self._run_trial(study, base, trial_key)
            log.info("trial %d: %s, value %s", record.number, record.status, record.value)
            on_trial(record)
            write_json(self.run_dir / files.SEARCH_RESULT, self.summary(study, trials).to_json())
        summary = self.summary(study, trials)
        write_json(self.run_dir / files.SEARCH_RESULT, summary.to_json())
        return summary

    def summary(self, study: Study, trials: int) -> SearchSummary:
        """Return every trial's record in order, and the best one."""
        records = tuple(TrialRecord.model_validate(each.user_attrs["record"]) for each in _finished(study))
        scored = [(record.value, -record.number, record) for record in records if record.value is not None]
        return SearchSummary(
            space=tuple(each.to_text() for each in self.space),
            seed=self.seed,
            trials=trials,
            finished=len(records),
            unstable=sum(record.status == UNSTABLE for record in records),
            impossible=sum(record.status == IMPOSSIBLE for record in records),
            best=max(scored)[2] if scored else None,  # of equal ones the first
            records=records,
        )

    def _run_trial(self, study: Study, base: RunConfig, trial_key: str) -> TrialRecord:
        """Take the trial that a killed process left, or the next one; train, score and report it to the sampler."""
        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trial = Trial(study, left[0]._trial_id) if left else study.ask()
        params = {each.key: each.suggest(trial) for each in self.space}
        record = TrialRecord(
            number=trial.number,
            params=params,
            overrides=tuple(overrides(params)),
            own=params == self._own(base),
            **dict(self._evaluate(base, params, trial_key)),
        )
        trial.set_user_attr("record", record.to_json())
        if record.value is not None:
            study.tell(trial, record.value)
        else:
            study.tell(trial, state=TrialState.PRUNED)
        return record

    def _evaluate(self, base: RunConfig, params: Params, trial_key: str) -> TrialOutcome:
        """Train and score one set of parameters, unless the same were tried before."""
        config = configuration.change(base, params)
        name = _short(config.digest("model", "training"), trial_key)
        folder = self.run_dir / files.TRIALS / name
        known = folder / files.TRIAL_RESULT
        if known.is_file():
            return TrialOutcome.model_validate_json(known.read_text())
        share_inputs(folder, self.run_dir, config)
        try:
            self.train(folder)
            outcome = TrialOutcome(trial=name, status=SCORED, **dict(self.score(folder, config)))
        except (TrainingUnstableError, ConfigError, MachineError) as error:
            status = _status_of(error, folder)
            log.warning("trial %s is %s: %s", overrides(params), status, error)
            outcome = TrialOutcome(trial=name, status=status, value=None, error=str(error))
        write_json(known, outcome.to_json())
        shutil.rmtree(folder / files.CHECKPOINTS, ignore_errors=True)  # a finished trial needs neither
        (folder / FAILURES).unlink(missing_ok=True)
        drop_inputs(folder)
        return outcome

    def _base(self) -> RunConfig:
        return configuration.change(read_config(self.run_dir), {"machine.fallback": False})

    def _trial_key(self, base: RunConfig) -> str:
        """Return what a trial depends on besides its settings: training set, evaluation, code and libraries."""
        hashes, own = hash_inputs(self.run_dir), digests("models", base.model.own).values()
        return _short(*hashes, base.digest("dataset", "evaluation"), code_digest(*CODE), *own)

    def _open(self, base: RunConfig, trial_key: str) -> Study:
        """Open the study of this space, seed, settings and training set; a change of one makes it another study."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        (self.run_dir / files.SEARCH).mkdir(exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(self.run_dir / files.SEARCH_JOURNAL)))
        settings = base.digest("model", "training")
        name = _short(trial_key, settings, str(self.seed), *(each.to_text() for each in self.space))
        return optuna.create_study(
            storage=storage,
            sampler=Repeatable(self.seed),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )

    def _enqueue_own(self, study: Study, base: RunConfig) -> None:
        own = self._own(base)
        if None not in own.values():
            study.enqueue_trial(own)

    def _own(self, base: RunConfig) -> Params:
        return {each.key: each.own(base) for each in self.space}


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


def validate_search_space(base: RunConfig, space: Sequence[Dimension], statistics: FeatureStatistics) -> None:
    """Raise unless each value of the validated settings can be trained with some combination of the others.

    Raises:
        InvalidValueError: of the first value that cannot, as training would raise it.
    """
    decisive = [[{each.key: value} for value in each.ends()] for each in space if each.key in VALIDATED_SETTINGS]
    combined: list[Params] = [dict(ChainMap(*each)) for each in itertools.product(*decisive)]
    for fixed in itertools.chain.from_iterable(decisive or [[{}]]):
        errors = [_validation_error(configuration.change(base, {**others, **fixed}), statistics) for others in combined]
        if all(errors):
            raise next(filter(None, errors))


def _validation_error(config: RunConfig, statistics: FeatureStatistics) -> InvalidValueError | None:
    try:
        validate_training_config(config, statistics)
    except InvalidValueError as error:
        return error
    return None


def _status_of(error: Exception, folder: Path) -> str:
    """Return what a trial's error says about its settings; raise it again where it says nothing about them.

    A device that does not work, a busy GPU, a file system that fails and a worker that stops are no fault of the trial.
    A training that was killed or ran out of memory may be: the same settings may need more memory than there is.
    """
    if isinstance(error, TrainingUnstableError):
        return UNSTABLE
    if isinstance(error, DeviceError | GpuBusyError | StorageError | TrainingStoppedError):
        raise error
    if isinstance(error, MachineError):
        path = folder / FAILURES
        failures = [*(json.loads(path.read_text()) if path.is_file() else []), str(error)]
        write_json(path, failures)
        if len(failures) < TRIES:
            raise error
    return IMPOSSIBLE


def _finished(study: Study) -> Sequence[FrozenTrial]:
    return [each for each in study.get_trials(deepcopy=False) if each.state.is_finished()]


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
