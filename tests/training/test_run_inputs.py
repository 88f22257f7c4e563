"""Run folders that share a training set: links, own settings, and what is left when they are dropped."""

from __future__ import annotations

import pytest

from vpoc_ml.config import resolve
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import MissingInputError
from vpoc_ml.training.launch.run_inputs import INPUTS, drop_inputs, hash_inputs, share_inputs


@pytest.fixture
def run_dir(tmp_path):
    for name in INPUTS:
        (tmp_path / name).write_text(name)
    return tmp_path


def test_folder_shares_the_rows_and_has_its_own_settings(run_dir):
    folder = run_dir / "below" / "one"
    (folder / "checkpoints").mkdir(parents=True)
    for seed in (1, 2):
        share_inputs(folder, run_dir, resolve("nightly", {"training.seed": seed}))
        assert read_config(folder).training.seed == seed
    assert all((folder / name).is_symlink() for name in INPUTS)
    assert hash_inputs(folder) == hash_inputs(run_dir)
    drop_inputs(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "checkpoints"}
    assert all((run_dir / name).is_file() for name in INPUTS), "links go, rows stay"


@pytest.mark.parametrize("name", INPUTS)
def test_absent_training_set_is_named_and_makes_no_folder(run_dir, name):
    (run_dir / name).unlink()
    for use in (hash_inputs, lambda folder: share_inputs(folder / "new", folder, resolve("nightly"))):
        with pytest.raises(MissingInputError, match=f"{name}.*Build the training set first"):
            use(run_dir)
    assert not (run_dir / "new").exists()
