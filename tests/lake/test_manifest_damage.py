"""A manifest proves itself: one changed character anywhere is noticed, and it speaks for its own place only."""

from __future__ import annotations

import json
import random
import shutil

import polars as pl
import pytest

from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.atomic import read_json
from vpoc_ml.lake.manifest import with_checksum
from vpoc_ml.lake.store import BuildKey, Lake

KEY = "sessions/ES/ESM23.parquet"
BUILD_KEY = BuildKey({"bars": "aa"}, "cfg", "code")
DAMAGED = "damaged: its manifest is missing or cannot be read"


@pytest.fixture
def lake(tmp_path):
    made = Lake(tmp_path / "lake")
    made.write_frame(KEY, pl.DataFrame({"close": [1.0, 2.0]}), BUILD_KEY, {"counts": {9: 1, 10: 2}})
    return made


@pytest.fixture
def manifest(lake):
    return lake.path("sessions/ES/ESM23.json")


def test_every_flipped_bit_of_a_manifest_makes_its_artifact_stale(lake, manifest):
    chance, stored = _printed_chance(), manifest.read_bytes()
    meaning = json.loads(stored)
    for at in range(len(stored)):
        changed = stored[:at] + bytes([stored[at] ^ (1 << chance.randrange(8))]) + stored[at + 1 :]
        manifest.write_bytes(changed)
        if _meaning(changed) == meaning:  # white space became other white space
            continue
        assert lake.stale_reason(KEY, BUILD_KEY) == DAMAGED, f"byte {at}: {changed[max(at - 20, 0) : at + 20]!r}"
    lake.write_frame(KEY, pl.DataFrame({"close": [1.0, 2.0]}), BUILD_KEY)
    assert lake.stale_reason(KEY, BUILD_KEY) is None


def _printed_chance():
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    return random.Random(seed)


def _meaning(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("keep", [0, 1, 0.5, 0.99])
def test_a_truncated_manifest_makes_its_artifact_stale(lake, manifest, keep):
    stored = manifest.read_bytes()
    manifest.write_bytes(stored[: int(keep * len(stored)) if keep < 1 else 1])
    assert lake.stale_reason(KEY, BUILD_KEY) == DAMAGED
    with pytest.raises(ArtifactError, match="Run the stage that makes it again"):
        lake.read_frame(KEY)


def test_a_version_token_stored_as_stamp_by_the_earlier_release_is_read(lake, manifest):
    content = json.loads(manifest.read_bytes())
    del content["checksum"], content["version_token"]
    manifest.write_bytes(with_checksum({**content, "stamp": "etag"}))
    assert lake.require_manifest(KEY).version_token == "etag"
    assert lake.stale_reason(KEY, BUILD_KEY) is None


def test_a_manifest_copied_to_another_key_is_rejected(lake):
    for suffix in ("json", "parquet"):
        shutil.copy(lake.path(f"sessions/ES/ESM23.{suffix}"), lake.path(f"sessions/ES/ESU23.{suffix}"))
    other = "sessions/ES/ESU23.parquet"
    assert lake.stale_reason(other, BUILD_KEY) == DAMAGED
    with pytest.raises(ArtifactError, match="ESU23"):
        lake.load(other)


def test_a_manifest_without_checksum_is_read_at_its_own_key_only(lake, manifest):
    content = json.loads(manifest.read_bytes())
    del content["checksum"]
    manifest.write_text(json.dumps(content))
    assert lake.stale_reason(KEY, BUILD_KEY) is None
    manifest.write_text(json.dumps(content | {"key": "sessions/ES/ESN23.parquet"}))
    assert lake.stale_reason(KEY, BUILD_KEY) == DAMAGED


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\x00"])
def test_a_damaged_record_is_a_typed_error_and_can_be_rewritten(lake, content):
    lake.write_text("trained/aa.json", content)
    with pytest.raises(ArtifactError, match=r"trained/aa.json: expected JSON; found something else"):
        lake.read_json("trained/aa.json")
    assert lake.read_checksummed_json("trained/aa.json") is None


def test_every_flipped_bit_of_a_checksummed_record_is_detected(lake):
    chance, record = _printed_chance(), {"run": "night", "files": {"best_model.json": "18f29d", "größe": 0.1}}
    lake.write_checksummed_json("trained/aa.json", record)
    file = lake.path("trained/aa.json")
    assert lake.read_checksummed_json("trained/aa.json") == record
    stored = file.read_bytes()
    for at in range(len(stored)):
        file.write_bytes(stored[:at] + bytes([stored[at] ^ (1 << chance.randrange(8))]) + stored[at + 1 :])
        found = lake.read_checksummed_json("trained/aa.json")
        assert found is None or {**record, **found} == found, f"byte {at}"
    for content in (b"[]", b"null", b'"night"', stored[: len(stored) // 2]):
        file.write_bytes(content)
        assert lake.read_checksummed_json("trained/aa.json") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_a_damaged_json_file_is_a_typed_error(tmp_path, content):
    file = tmp_path / "metrics.json"
    with pytest.raises(ArtifactError, match=r"metrics.json: expected a file of JSON; found none"):
        read_json(file)
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"metrics.json: expected JSON; found something else .* Run the stage"):
        read_json(file)
