"""A learner of a plugin in a stack: fitted, weighted, stored, and the same function when it is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import ModelConfig, RunConfig, resolve
from vpoc_ml.errors import CheckpointError, InvalidValueError, PluginError
from vpoc_ml.models.bundle import load_model
from vpoc_ml.models.own import fit_own, own_learners
from vpoc_ml.plugins.load import activate
from vpoc_ml.plugins.registered import Active, set_active
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.run_inputs import training_fingerprint
from vpoc_ml.training.launch.subprocess import launch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "own-model.md"
PLUGIN = PAGE.read_text().split("```python\n")[1].split("```")[0]
QUICK = {"training.epochs": 2, "training.batch_size": 256, "model.hidden_dims": "8"}


@pytest.fixture
def lake(tmp_path):
    """A lake with the plugin of the page, which is active."""
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "plugins.py").write_text(PLUGIN)
    activate(folder)
    yield folder
    set_active(Active())


def change(lake, old, new):
    (lake / "plugins.py").write_text(PLUGIN.replace(old, new))
    assert PLUGIN.replace(old, new) != PLUGIN
    activate(lake)


@pytest.fixture
def run(make_run, planter):
    """A run whose sessions are long enough for weights of a stack, and its planted rows."""
    planted = planter(rows=6000)

    def begin(**settings):
        folder = make_run(planted, **QUICK, **settings)
        path = folder / "training_set.parquet"
        sessions = pl.int_range(pl.len()).cast(pl.Int32) // 50
        pl.read_parquet(path).with_columns(session=sessions.cast(pl.Date)).write_parquet(path)
        return folder

    return begin, planted


def test_a_trained_stack_has_the_learner_of_the_page_and_scores_with_it(lake, run):
    begin, planted = run
    folder = begin(**{"model.learners": "ridge, net", "model.own": "bent"})
    result = train_run(folder)
    assert [part.name for part in result.parts] == ["all", "ridge", "bent"]
    weights = {part.name: part.weight for part in result.parts}
    assert sum(weights.values()) == pytest.approx(1)
    loaded = load_model(folder / "best_model.json")
    parts = loaded.parts(planted.raw)
    assert parts.shape == (3, 6000)
    assert parts[2].std() > 0
    assert loaded.part_zero_ranks["bent"] == 0.5
    assert loaded.predict(planted.raw) == pytest.approx(loaded.mixed(parts))
    assert loaded.predict(planted.raw[:1]) == pytest.approx(loaded.mixed(parts)[:1])


def test_a_training_process_of_its_own_has_the_plugin(lake, run):
    begin, planted = run
    folder = begin(**{"model.own": "bent"})
    result = launch(folder)
    assert [part.name for part in result.parts] == ["all", "bent"]
    here = begin(**{"model.own": "bent"})
    train_run(here)
    assert np.array_equal(*(load_model(each / "best_model.json").predict(planted.raw) for each in (folder, here)))


def test_a_model_is_refused_when_its_plugin_is_gone_or_predicts_something_else(lake, run):
    begin, planted = run
    folder = begin(**{"model.own": "bent"})
    train_run(folder)
    before = load_model(folder / "best_model.json").predict(planted.raw)
    change(lake, "return 0.5 + expand(inputs)", "return 1 / 2 + expand(inputs)")
    assert np.array_equal(load_model(folder / "best_model.json").predict(planted.raw), before)
    change(lake, "return 0.5 + expand(inputs)", "return 0.5 - expand(inputs)")
    with pytest.raises(CheckpointError, match=r"the stored predictions of learner bent.*others by up to"):
        load_model(folder / "best_model.json")
    change(lake, "np.frombuffer(stored)", "np.frombuffer(stored)[1:]")
    with pytest.raises(CheckpointError, match=r"a part that learner bent can read.*ValueError"):
        load_model(folder / "best_model.json")
    set_active(Active())
    with pytest.raises(CheckpointError, match="a plugin with the learner bent"):
        load_model(folder / "best_model.json")


def test_a_changed_learner_trains_again_where_it_is_selected(lake):
    def fingerprints():
        chosen = (resolve("nightly"), resolve("nightly", {"model.own": "bent"}))
        return [training_fingerprint(["data"], each) for each in chosen]

    before = fingerprints()
    change(lake, "0.03 * len", "0.04 * len")
    after = fingerprints()
    assert after[0] == before[0]
    assert after[1] != before[1]


INPUTS = np.linspace(-1, 1, 200, dtype=np.float32).reshape(100, 2)
RANKS = np.linspace(0, 1, 100)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (".tobytes()", "", "expected bytes from fit of learner bent; found array"),
        ("columns.T @ (ranks - 0.5)", "columns.T @ ranks[1:]", "fit of learner bent; found ValueError"),
        ("return 0.5 + expand", "return np.nan * expand", "predict of learner bent; found NaN"),
        ("np.frombuffer(stored)\n", "np.frombuffer(stored)[:, None]\n", r"found an array of shape \(64, 1\)"),
    ],
)
def test_a_learner_that_returns_something_else_names_its_plugin(lake, old, new, message):
    change(lake, old, new)
    with pytest.raises(PluginError, match=rf"plugins\.py, MODELS: .*{message}"):
        fit_own(["bent"], INPUTS, RANKS, 1)


def test_rows_without_a_rank_do_not_count(lake):
    ranks = np.where(np.arange(100) % 3 == 0, np.nan, RANKS)
    fitted = fit_own(["bent"], INPUTS, ranks, 1)["bent"]
    known = np.isfinite(ranks)
    assert fitted.stored == fit_own(["bent"], INPUTS[known], ranks[known], 1)["bent"].stored


def test_names_are_checked(lake):
    for name in ("ridge", "net", "candidate", "bent_zero"):
        change(lake, 'name="bent"', f'name="{name}"')
        with pytest.raises(PluginError, match=f"found {name}"):
            own_learners()
    (lake / "plugins.py").write_text(PLUGIN)
    activate(lake)
    with pytest.raises(PluginError, match="a plugin with the learner absent"):
        fit_own(["absent"], INPUTS, RANKS, 1)
    with pytest.raises(InvalidValueError, match=r"model\.own"):
        resolve("nightly", {"model.learners": "net", "model.blend": "lightgbm", "model.own": "bent"})


def test_a_blend_cannot_have_own_learners():
    with pytest.raises(ValueError, match="empty, as long as"):
        ModelConfig(blend="lightgbm", own=("bent",))
    assert RunConfig().model.own == ()
