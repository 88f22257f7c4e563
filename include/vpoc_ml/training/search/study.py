"""Search for settings: trials of one training set, suggested by Optuna, judged on validation rows only.

Folder ``search/`` of a run holds all of it: ``journal.log`` is Optuna's storage, ``trials/<name>`` the run folder of
each trial. A search that was killed goes on where it ended and finds what it would have found: each value that a
trial tries is a function of the seed, the trial's number, the setting and the trials before it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpoc_ml import config as configuration
from vpoc_ml.artifacts.feature_statistics import FeatureStatistics, read_feature_statistics
from vpoc_ml.config import RunConfig
from vpoc_ml.config.stored import read_config
from vpoc_ml.errors import (
    ConfigError,
    DeviceError,
    GpuBusyError,
    InvalidValueError,
    MachineError,
    TrainingUnstableError,
)
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.training.launch.run_inputs import drop_inputs, hash_inputs, share_inputs
from vpoc_ml.training.launch.validate_config import VALIDATED_SETTINGS, validate_training_config
from vpoc_ml.training.search.space import Dimension, overrides

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

CODE = (__name__, "vpoc_ml.training.launch.fit", "vpoc_ml.evaluation.validation")
GOOD, UNSTABLE, IMPOSSIBLE = "judged", "unstable", "impossible"
TRIES = 3  # of one trial that the machine ends: others may fit
FAILURES = "machine_errors.json"
Record = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        run_dir: run with config.json and a training set.
        space: what to vary.
        seed: of the suggestions.
        train: trains a run folder; raises TrainingUnstableError where the settings do not hold.
        judge: reads a trained folder and returns a record whose ``value`` is to be as large as possible. It must
            look at validation rows only.
    """

    run_dir: Path
    space: tuple[Dimension, ...]
    seed: int
    train: Callable[[Path], Any]
    judge: Callable[[Path, RunConfig], Record]

    def run(self, trials: int, on_trial: Callable[[Record], None] = lambda record: None) -> Record:
        """Go on until ``trials`` trials are finished; return, and write as ``search.json``, what came of them.

        The first trial is the run's own settings where they lie in the space: what a search has to beat. Trials
        without a ladder: settings that do not hold are recorded as unstable, told to the sampler, and not rescued.
        So are, as impossible, settings that cannot be trained, and those that the machine ended ``TRIES`` times.

        Args:
            trials: how many in all, those of earlier calls included.
            on_trial: receives the record of each trial as it ends.

        Raises:
            InvalidValueError: less than one trial, or a value of the space that cannot be trained on these rows.
            MissingInputError: the run has no training set.
            DeviceError, InputError, MachineError: as training raises them; a second call goes on with that trial.
        """
        if trials < 1:
            raise InvalidValueError("trials", trials, "at least 1")
        base = self._base()
        mark = self._mark(base)
        validate_search_space(base, self.space, read_feature_statistics(self.run_dir))
        study = self._open(base, mark)
        if not study.get_trials(deepcopy=False):
            self._enqueue_own(study, base)
        while len(_finished(study)) < trials:
            record = self._one(study, base, mark)
            log.info("trial %d: %s, value %s", record["number"], record["outcome"], record["value"])
            on_trial(record)
            write_json(self.folder / "search.json", self.summary(study, trials))
        summary = self.summary(study, trials)
        write_json(self.folder / "search.json", summary)
        return summary

    @property
    def folder(self) -> Path:
        """Where the search lives."""
        return self.run_dir / "search"

    def summary(self, study: Study, trials: int) -> Record:
        """Return every trial's record in their order, and the best one; none when none could be judged."""
        records = [each.user_attrs["record"] for each in _finished(study)]
        judged = [record for record in records if record["outcome"] == GOOD]
        best = max(judged, key=lambda record: record["value"], default=None)
        return {
            "space": [each.to_text() for each in self.space],
            "seed": self.seed,
            "trials": trials,
            "finished": len(records),
            "unstable": sum(record["outcome"] == UNSTABLE for record in records),
            "impossible": sum(record["outcome"] == IMPOSSIBLE for record in records),
            "best": best,
            "records": records,
        }

    def _one(self, study: Study, base: RunConfig, mark: str) -> Record:
        """Take the trial that a killed process left, or the next; train, judge and tell it."""
        from optuna import Trial
        from optuna.trial import TrialState

        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trial = Trial(study, left[0]._trial_id) if left else study.ask()
        params = {each.key: each.suggest(trial) for each in self.space}
        record: Record = {"number": trial.number, "params": params, "overrides": overrides(params)}
        record["own"] = params == self._own(base)
        record |= self._outcome(base, params, mark)
        trial.set_user_attr("record", record)
        if record["outcome"] == GOOD:
            study.tell(trial, record["value"])
        else:
            study.tell(trial, state=TrialState.PRUNED)
        return record

    def _outcome(self, base: RunConfig, params: Record, mark: str) -> Record:
        """Train and judge one set of parameters, unless the same were tried before."""
        config = configuration.change(base, params)
        name = _short(config.digest("model", "training"), mark)
        folder = self.folder / "trials" / name
        known = folder / "trial.json"
        if known.is_file():
            stored: Record = json.loads(known.read_text())
            return stored
        share_inputs(folder, self.run_dir, config)
        try:
            self.train(folder)
            found = {"outcome": GOOD, **self.judge(folder, config)}
        except (TrainingUnstableError, ConfigError, MachineError) as error:
            outcome = _outcome_of(error, folder)
            log.warning("trial %s is %s: %s", overrides(params), outcome, error)
            found = {"outcome": outcome, "value": None, "error": str(error)}
        found = {"trial": name, **found}
        write_json(known, found)
        _clear(folder)
        return found

    def _base(self) -> RunConfig:
        return configuration.change(read_config(self.run_dir), {"machine.fallback": False})

    def _mark(self, base: RunConfig) -> str:
        """Return what a trial holds for beside its settings: the same training set, judgement, code and torch."""
        files = hash_inputs(self.run_dir)
        return _short(*files, base.digest("dataset", "evaluation"), code_digest(*CODE))

    def _open(self, base: RunConfig, mark: str) -> Study:
        """Open the study of this space, seed, settings and training set; another one of them is another study."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        from vpoc_ml.training.search.suggestions import Repeatable

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(self.folder / "journal.log")))
        settings = base.digest("model", "training")
        name = _short(mark, settings, str(self.seed), *(each.to_text() for each in self.space))
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

    def _own(self, base: RunConfig) -> Record:
        return {each.key: each.own(base) for each in self.space}


def validate_search_space(base: RunConfig, space: Sequence[Dimension], statistics: FeatureStatistics) -> None:
    """Raise unless each value that decides whether a net can be trained at all has company with which it can.

    Raises:
        InvalidValueError: of the first value that has none, as training would raise it.
    """
    decisive = [[{each.key: value} for value in each.ends()] for each in space if each.key in VALIDATED_SETTINGS]
    combined: list[Record] = [dict(ChainMap(*each)) for each in itertools.product(*decisive)]
    for fixed in itertools.chain.from_iterable(decisive or [[{}]]):
        refused = [_refused(configuration.change(base, {**others, **fixed}), statistics) for others in combined]
        if all(refused):
            raise next(filter(None, refused))


def _refused(config: RunConfig, statistics: FeatureStatistics) -> InvalidValueError | None:
    try:
        validate_training_config(config, statistics)
    except InvalidValueError as error:
        return error
    return None


def _outcome_of(error: Exception, folder: Path) -> str:
    """Return what a trial's error says about its settings; raise it again where it says nothing about them.

    A device that does not work and a card that is busy are no trial's fault. A training process that was killed may
    be: the same settings may need more memory than there is.
    """
    if isinstance(error, TrainingUnstableError):
        return UNSTABLE
    if isinstance(error, DeviceError | GpuBusyError):
        raise error
    if isinstance(error, MachineError):
        path = folder / FAILURES
        told = [*(json.loads(path.read_text()) if path.is_file() else []), str(error)]
        write_json(path, told)
        if len(told) < TRIES:
            raise error
    return IMPOSSIBLE


def _finished(study: Study) -> Sequence[FrozenTrial]:
    return [each for each in study.get_trials(deepcopy=False) if each.state.is_finished()]


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _clear(folder: Path) -> None:
    """Drop what a finished trial needs no longer."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / FAILURES).unlink(missing_ok=True)
    drop_inputs(folder)
