"""Frames that are read when they are asked for."""

from __future__ import annotations

import polars as pl
import pytest

from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.lake.stored_frames import StoredFrames

KEY = BuildKey({}, "config", "code")


def test_a_frame_is_read_at_each_access_and_its_manifest_is_kept(tmp_path):
    lake = Lake(tmp_path)
    manifest = lake.write_frame("bars/ES/ESH25.parquet", pl.DataFrame({"a": [1, 2], "b": [3, 4]}), KEY)
    frames = StoredFrames(lake, {"ESH25": "bars/ES/ESH25.parquet", "ESM25": "bars/ES/ESM25.parquet"}, ("b",))
    assert list(frames) == ["ESH25", "ESM25"]
    assert "ESZ25" not in frames
    assert frames.manifests == {}
    assert frames["ESH25"].to_dict(as_series=False) == {"b": [3, 4]}
    assert frames.manifests == {"ESH25": manifest}
    with pytest.raises(ArtifactError):
        frames["ESM25"]


def test_another_content_than_the_one_read_before_is_an_error(tmp_path):
    lake = Lake(tmp_path)
    lake.write_frame("bars/ES/ESH25.parquet", pl.DataFrame({"a": [1]}), KEY)
    frames = StoredFrames(lake, {"ESH25": "bars/ES/ESH25.parquet"})
    assert frames["ESH25"].equals(frames["ESH25"])
    lake.write_frame("bars/ES/ESH25.parquet", pl.DataFrame({"a": [2]}), KEY)
    with pytest.raises(ArtifactError, match="read before"):
        frames["ESH25"]
