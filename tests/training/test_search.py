"""A search: what it may vary, that it finds, that it survives being killed, and what it does with unstable settings."""

from __future__ import annotations

import json
import math

import pytest

from vpoc_ml import config as configuration
from vpoc_ml.artifacts.metrics import ValidationMetrics
from vpoc_ml.artifacts.studies import TrialRecord, TrialScore
from vpoc_ml.config import resolve
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import (
    ArtifactError,
    ConfigError,
    DeviceError,
    GpuBusyError,
    InvalidValueError,
    MachineError,
    MissingInputError,
    StorageError,
    TrainingUnstableError,
    UnknownKeyError,
)
from vpoc_ml.training.launch.search import STARTUP, TRIES, Search
from vpoc_ml.training.launch.search_space import DEFAULT_SPACE, Dimension, overrides, parse_space

SPACE = ("training.learning_rate=1e-4..1e-1 log", "model.hidden_dims=16|32,32|64,64", "training.batch_size=256..4096")
NIGHTLY = resolve("nightly")
STATISTICS = {"features": ["a"], "median": [0.0], "scale": [1.0], "zero_rank": 0.5, "target_quantiles": [0.0]}


class Killed(BaseException):
    """Stands for a signal."""


class Bowl:
    """A training whose value is best at a rate of 1e-2 with two layers of 64, and unstable above 5e-2."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.trained = kill_at, []

    def train(self, folder) -> None:
        config = read_config(folder)
        assert (folder / "training_set.parquet").read_text() == "rows"
        assert config.machine.fallback is False
        if len(self.trained) == self.kill_at:
            self.kill_at = None
            raise Killed
        self.trained.append(config)
        if config.training.learning_rate > 5e-2:
            raise TrainingUnstableError("more than 8 rollbacks")

    def evaluate(self, folder, config) -> TrialScore:
        away = math.log10(config.training.learning_rate) + 2
        return TrialScore(value=-(away**2) + 0.1 * (config.model.hidden_dims == (64, 64)))


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "config.json").write_text(NIGHTLY.to_json())
    (tmp_path / "training_set.parquet").write_text("rows")
    (tmp_path / "feature_statistics.json").write_text(json.dumps(STATISTICS))
    return tmp_path


def search(run_dir, bowl: Bowl, trials: int, texts=SPACE, seed: int = 1) -> dict:
    return Search(run_dir, parse_space(texts, NIGHTLY), seed, bowl.train, bowl.evaluate).run(trials).to_json()


def without_names(found: dict) -> list[dict]:
    return [{key: record[key] for key in ("params", "status", "value")} for record in found["records"]]


def test_search_finds_what_is_best_and_writes_it_down(run_dir):
    found = search(run_dir, Bowl(), 30)
    best = found["best"]
    assert best["params"]["model.hidden_dims"] == "64,64"
    assert best["params"]["training.learning_rate"] == pytest.approx(1e-2, rel=0.5)
    assert best["value"] == max(r["value"] for r in found["records"] if r["value"] is not None)
    later = [r["value"] for r in found["records"][STARTUP:] if r["value"] is not None]
    early = [r["value"] for r in found["records"][1:STARTUP] if r["value"] is not None]
    assert sum(later) / len(later) > sum(early) / len(early), "later trials learn from the first"
    assert json.loads((run_dir / "search" / "search.json").read_text()) == found
    settings = dict(map(configuration.parse_override, best["overrides"]))
    assert configuration.change(NIGHTLY, settings).model.hidden_dims == (64, 64)


def test_fields_of_a_trial_keep_their_order_in_the_files(run_dir):
    scored = ["number", "params", "overrides", "own", "trial", "status", "value", "dead"]
    search(run_dir, Bowl(), 2)
    written = json.loads((run_dir / "search" / "search.json").read_text())
    journal = (run_dir / "search" / "journal.log").read_text().splitlines()
    kept = [each["user_attr"]["record"] for each in map(json.loads, journal) if "record" in each.get("user_attr", {})]
    assert len(written["records"]) == len(kept) == 2
    assert [list(record) for record in [*written["records"], written["best"], *kept]] == 5 * [scored]
    metrics = ValidationMetrics(rank_ic=None, direction_accuracy=None, huber=None, net=5.0, sharpe=None)
    whole = TrialRecord(
        error="none", metrics=metrics, dead=False, value=0.1, status="scored", trial="abc", params={}, number=0
    )
    assert list(whole.to_json()) == [*scored, "metrics", "error"]


def test_first_trial_is_the_run_s_own_settings(run_dir):
    found = search(run_dir, Bowl(), 1)
    own = {"training.learning_rate": 4e-3, "model.hidden_dims": "32,32", "training.batch_size": 1024}
    assert (found["records"][0]["params"], found["records"][0]["own"]) == (own, True)
    elsewhere = search(run_dir, Bowl(), 1, ("training.learning_rate=1e-6..1e-5 log",))
    assert elsewhere["records"][0]["params"]["training.learning_rate"] <= 1e-5
    assert elsewhere["records"][0]["own"] is False


@pytest.mark.parametrize("at", [0, 1, 4, 13])
def test_killed_search_goes_on_and_finds_what_it_would_have_found(run_dir, tmp_path_factory, at):
    whole, broken = Bowl(), Bowl(kill_at=at)
    other = tmp_path_factory.mktemp("whole")
    for path in run_dir.iterdir():
        (other / path.name).write_text(path.read_text())
    expected = search(other, whole, 16)
    with pytest.raises(Killed):
        search(run_dir, broken, 16)
    found = search(run_dir, broken, 16)
    assert without_names(found) == without_names(expected)
    assert len(broken.trained) == len(whole.trained), "what was trained is not trained again"


@pytest.mark.parametrize("at", [1, 2, 4, 3 * STARTUP + 2])
def test_search_killed_between_two_suggestions_finds_what_it_would_have_found(run_dir, tmp_path, at, monkeypatch):
    other = tmp_path / "whole"
    other.mkdir()
    for name in ("config.json", "training_set.parquet", "feature_statistics.json"):
        (other / name).write_text((run_dir / name).read_text())
    expected = search(other, Bowl(), STARTUP + 3)
    suggest, calls = Dimension.suggest, []

    def killed(dimension, trial):
        calls.append(dimension.key)
        if len(calls) == at + 1:
            raise Killed
        return suggest(dimension, trial)

    monkeypatch.setattr(Dimension, "suggest", killed)
    with pytest.raises(Killed):
        search(run_dir, Bowl(), STARTUP + 3)
    assert without_names(search(run_dir, Bowl(), STARTUP + 3)) == without_names(expected)


def test_more_trials_go_on_and_as_many_do_nothing(run_dir):
    bowl = Bowl()
    first = search(run_dir, bowl, 6)
    count = len(bowl.trained)
    assert search(run_dir, bowl, 6) == first
    assert len(bowl.trained) == count
    assert search(run_dir, bowl, 9)["records"][:6] == first["records"]
    assert len(bowl.trained) == 9


def test_unstable_settings_are_recorded_and_avoided(run_dir):
    found = search(run_dir, Bowl(), 40, ("training.learning_rate=1e-3..1 log", "training.batch_size=256..4096"))
    unstable = [record for record in found["records"] if record["status"] == "unstable"]
    assert found["unstable"] == len(unstable) > 0
    assert all("8 rollbacks" in r["error"] and r["params"]["training.learning_rate"] > 5e-2 for r in unstable)
    assert sum(r["number"] >= 20 for r in unstable) < 7, "expected 9 of 20 by chance alone"


def test_search_of_unstable_settings_only_has_no_best(run_dir):
    found = search(run_dir, Bowl(), 3, ("training.learning_rate=0.06..0.1",))
    assert (found["best"], found["unstable"]) == (None, 3)


class Failing(Bowl):
    """Raises ``error`` for every net of two layers of 32."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.failed = error, 0

    def train(self, folder) -> None:
        if read_config(folder).model.hidden_dims == (32, 32):
            self.failed += 1
            raise self.error
        super().train(folder)


def test_settings_that_cannot_be_trained_are_recorded_and_the_search_goes_on(run_dir):
    bowl = Failing(ConfigError("Expected model.encoding to be another"))
    found = search(run_dir, bowl, 12)
    impossible = [record for record in found["records"] if record["status"] == "impossible"]
    assert found["impossible"] == len(impossible) > 0
    assert (found["finished"], found["unstable"]) == (12, sum(r["status"] == "unstable" for r in found["records"]))
    assert all(r["params"]["model.hidden_dims"] == "32,32" and "encoding" in r["error"] for r in impossible)
    assert {r["trial"] for r in impossible} <= {path.name for path in (run_dir / "search" / "trials").iterdir()}
    assert found["best"]["status"] == "scored"
    failed = bowl.failed
    assert search(run_dir, bowl, 12) == found
    assert bowl.failed == failed


def test_trial_that_the_machine_ends_again_and_again_ends_too(run_dir):
    bowl = Failing(MachineError("ended by SIGKILL"))
    for _ in range(TRIES - 1):
        with pytest.raises(MachineError, match="SIGKILL"):
            search(run_dir, bowl, 1)
    found = search(run_dir, bowl, 1)
    assert (found["records"][0]["status"], found["records"][0]["error"]) == ("impossible", "ended by SIGKILL")
    assert bowl.failed == TRIES
    left = [path.name for path in (run_dir / "search" / "trials").rglob("*") if path.is_file()]
    assert set(left) == {"config.json", "trial.json"}


@pytest.mark.parametrize(
    "error",
    [
        GpuBusyError(0, 2**33, 1.0),
        DeviceError("asked", "no GPU", ""),
        ArtifactError("rows", "rows", "none"),
        StorageError("/lake", "a file system that answers", "a stale file handle", "Check the server."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_fault_of_the_settings_ends_the_search_and_is_not_held_against_them(error, run_dir):
    bowl = Failing(error)
    for _ in range(TRIES + 1):
        with pytest.raises(type(error)):
            search(run_dir, bowl, 1)
    assert search(run_dir, Bowl(), 1)["records"][0]["status"] == "scored"


@pytest.mark.parametrize(
    ("texts", "reported"),
    [
        (("model.encoding=none|piecewise_linear",), "build the training set with it"),
        (("training.loss=huber|pinball",), "one of auto, huber"),
        (("model.kind=mlp|mlp_batchnorm", "training.accumulation=2..4"), "whole batches"),
    ],
)
def test_values_that_no_trial_can_have_are_refused_before_any_work(texts, reported, run_dir):
    bowl = Bowl()
    with pytest.raises(InvalidValueError, match=reported):
        search(run_dir, bowl, 3, texts)
    assert not bowl.trained
    assert not (run_dir / "search").exists()


def test_values_that_some_trials_can_have_are_searched(run_dir):
    texts = ("model.kind=mlp|mlp_batchnorm", "training.accumulation=1|2", "training.loss=auto|mse")
    assert search(run_dir, Bowl(), 3, texts)["finished"] == 3


def test_same_settings_are_trained_once(run_dir):
    bowl = Bowl()
    found = search(run_dir, bowl, 8, ("model.hidden_dims=16|32",))
    assert found["finished"] == 8
    assert len(bowl.trained) == 2


def test_other_data_other_seed_and_other_space_are_other_studies(run_dir):
    bowl = Bowl()
    search(run_dir, bowl, 4)
    search(run_dir, bowl, 4, seed=2)
    (run_dir / "feature_statistics.json").write_text(json.dumps({**STATISTICS, "scale": [2.0]}))
    fresh = search(run_dir, bowl, 4)
    assert len(bowl.trained) == 4 + 3 + 4, "only the first trial of the second seed is known"
    assert {record["trial"] for record in fresh["records"]} <= {
        path.name for path in (run_dir / "search/trials").iterdir()
    }


def test_finished_trial_keeps_neither_checkpoints_nor_links_to_the_data(run_dir):
    class Keeping(Bowl):
        def train(self, folder) -> None:
            super().train(folder)
            (folder / "checkpoints").mkdir()

    search(run_dir, Keeping(), 2)
    left = [path.name for path in (run_dir / "search" / "trials").rglob("*") if path.is_file()]
    assert set(left) == {"config.json", "trial.json"}


def test_missing_training_set_and_no_trials_are_refused(run_dir):
    with pytest.raises(InvalidValueError, match="at least 1"):
        search(run_dir, Bowl(), 0)
    (run_dir / "training_set.parquet").unlink()
    with pytest.raises(MissingInputError, match="Build the training set first"):
        search(run_dir, Bowl(), 1)


# ---------------------------------------------------------------- space


def test_default_space_is_within_the_settings_limits_and_holds_the_nightly_preset():
    space = parse_space(DEFAULT_SPACE, NIGHTLY)
    assert all(each.own(NIGHTLY) is not None for each in space)
    assert [each.to_text() for each in parse_space([each.to_text() for each in space], NIGHTLY)] == [
        each.to_text() for each in space
    ]
    assert space[0].to_text() == "training.learning_rate=0.0005..0.02 log"


def test_whole_numbers_stay_whole_and_choices_keep_their_kind():
    rate, rows, kind = parse_space(
        ("training.learning_rate=1e-4..1e-2", "training.batch_size=16..64", "model.kind=mlp|residual"), NIGHTLY
    )
    assert (rate.integer, rows.integer, rate.log) == (False, True, False)
    assert kind.choices == ("mlp", "residual")
    assert overrides({"machine.fallback": True, "model.hidden_dims": (8, 4)}) == [
        "machine.fallback=true",
        "model.hidden_dims=8,4",
    ]


@pytest.mark.parametrize(
    ("texts", "error", "reported"),
    [
        ((), InvalidValueError, "one or more settings"),
        (("model.dropout=0..0.3", "model.dropout=0|0.1"), InvalidValueError, "named once"),
        (("model.dropout",), InvalidValueError, "key=low..high"),
        (("model.dropout=0.3..0.1",), InvalidValueError, "low below high"),
        (("model.dropout=0..0.1 log",), InvalidValueError, "above 0"),
        (("model.dropout=low..high",), InvalidValueError, "two numbers"),
        (("model.dropout=0..2",), InvalidValueError, "less than 1"),
        (("model.kind=mlp|forest",), InvalidValueError, "residual"),
        (("training.seed=1..100",), InvalidValueError, "other than the seed"),
        (("machine.fallback=true|false",), InvalidValueError, "other than the seed: data and split stay fixed"),
        (("machine.fallback=0..1",), InvalidValueError, "other than the seed: data and split stay fixed"),
        (("model=1..2",), UnknownKeyError, "dotted name"),
        (("training.a.b=1..2",), UnknownKeyError, "dotted name"),
        (("training.a.b=1|2",), UnknownKeyError, "dotted name"),
        (("training.precision=0..1",), InvalidValueError, r"choices, a\|b\|c"),
        (("model.hidden_dims=16..64",), InvalidValueError, r"choices, a\|b\|c"),
        (("model.kind=1..2",), InvalidValueError, r"choices, a\|b\|c"),
        (("training.batch_size=16.7..64",), InvalidValueError, "two whole numbers"),
        (("training.batch_size=16..inf",), InvalidValueError, "two whole numbers"),
        (("training.learning_rate=nan..1",), InvalidValueError, "low below high"),
        (("dataset.horizon=1m|5m",), InvalidValueError, "data and split stay"),
        (("training.learning_rat=1e-4..1e-2",), UnknownKeyError, "learning_rate"),
    ],
)
def test_spaces_that_cannot_be_searched_are_refused(texts, error, reported):
    with pytest.raises(error, match=reported):
        parse_space(texts, NIGHTLY)
