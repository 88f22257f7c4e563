"""Atomic writes: a file has its old or its new content."""

import json

import pytest

from vpoc_ml.lake.atomic import replacing, write_json, write_text


def test_a_write_replaces_the_content_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "one" * 1000)
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_a_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "b.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="killed"):
        _write_and_die(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_json_with_nan_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    write_json(tmp_path / "a.json", {"x": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1.5}


def _write_and_die(path):
    with replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("killed")
