"""What the verification finds in folds, and in a lake without a registry."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import MissingInputError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.store import BuildKey, Lake

FOLD = "track/ES/0123"


@pytest.fixture
def lake(tmp_path, monkeypatch) -> Lake:
    """A lake with one complete fold and nothing else."""
    monkeypatch.setattr("vpoc_ml.pipeline.verification.PAUSE_SECONDS", 0.0)
    lake = Lake(tmp_path / "lake")
    lake.write_frame(f"{FOLD}/predictions.parquet", pl.DataFrame({"y": [1.0]}), BuildKey({}, "c", "d"))
    weights = lake.path(f"{FOLD}/best_model.safetensors")
    weights.write_bytes(b"weights")
    lake.write_checksummed_json(f"{FOLD}/fold.json", {"files": {weights.name: hash_file(weights)}})
    return lake


def problems(lake: Lake) -> list[tuple[str, str]]:
    found = pipeline.verify(str(lake.root)).problems
    return [(problem.place.rpartition("/")[2], problem.found) for problem in found]


def test_an_intact_fold_without_a_registry_is_sound_and_no_registry_is_made(lake):
    found = pipeline.verify(str(lake.root))
    counts = (found.artifacts, found.folds, found.entries, found.versions, found.champions)
    assert (counts, found.problems) == ((1, 1, 0, 0, 0), ())
    assert not lake.path("registry").exists()


def test_changed_and_absent_files_of_a_fold_are_named(lake):
    lake.path(f"{FOLD}/best_model.safetensors").write_bytes(b"Weights")
    lake.path(f"{FOLD}/predictions.parquet").unlink()
    assert [name for name, _ in problems(lake)] == ["best_model.safetensors", "predictions.parquet"]
    lake.path(f"{FOLD}/best_model.safetensors").unlink()
    assert problems(lake)[0][1].endswith("found no file")


@pytest.mark.parametrize("content", [b"{}", b'{"files": 3}', b'{"files": {}, "checksum": "0"}'])
def test_a_damaged_record_of_a_fold_is_named(lake, content):
    lake.path(f"{FOLD}/fold.json").write_bytes(content)
    assert problems(lake) == [("fold.json", "expected an intact record of a fold; found a damaged one")]


def test_a_manifest_of_another_file_is_named(lake):
    stored = lake.path(f"{FOLD}/predictions.json").read_bytes()
    lake.path(f"{FOLD}/predictions.json").write_bytes(stored.replace(b"0123", b"4567"))
    ((name, found),) = problems(lake)
    assert name == "predictions.parquet"
    assert "intact manifest of this file" in found


def test_a_place_without_a_lake_is_an_error(tmp_path):
    with pytest.raises(MissingInputError, match="a lake with artifacts"):
        pipeline.verify(str(tmp_path / "nowhere"))
