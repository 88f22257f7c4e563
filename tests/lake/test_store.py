"""The lake: manifests, stale artifacts, damaged files, writers."""

from datetime import UTC, datetime

import polars as pl
import pytest

from vpoc_ml.artifacts.manifest_details import BarsDetails
from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.hashing import hash_frame
from vpoc_ml.lake.store import BuildKey, Lake

pytestmark = pytest.mark.slow

KEY = "bars/ES/ESH25.parquet"
BUILD_KEY = BuildKey({"raw": "aa", "vix": "bb"}, "cfg", "code")


@pytest.fixture
def frame():
    ts = pl.Series("ts", [datetime(2025, 1, 2, 14, 30, tzinfo=UTC), datetime(2025, 1, 2, 14, 31, tzinfo=UTC)])
    return pl.DataFrame({"ts": ts.cast(pl.Datetime("us", "UTC")), "close": [1.0, 2.0]})


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def test_a_written_frame_is_read_with_its_manifest(lake, frame):
    manifest = lake.write_frame(KEY, frame, BUILD_KEY, {"reasons": {"duplicate": 1}})
    assert lake.read_frame(KEY).equals(frame)
    assert (manifest.rows, manifest.first_ts, manifest.last_ts) == (
        2,
        "2025-01-02T14:30:00+00:00",
        "2025-01-02T14:31:00+00:00",
    )
    assert lake.manifest(KEY) == manifest
    assert manifest.details == {"reasons": {"duplicate": 1}}


def test_details_are_read_as_a_model_also_those_of_earlier_releases(lake, frame):
    details = BarsDetails(rows_in=9, quarantined=7, reasons={"duplicate": 7}, notes=("a",), left_out="", sessions=2)
    assert lake.write_frame(KEY, frame, BUILD_KEY, details.to_json()).details_as(BarsDetails) == details
    assert "file" not in lake.require_manifest(KEY).details, "what is not there is not stored"
    earlier = lake.write_frame(KEY, frame, BUILD_KEY, {"rows_in": 9, "quarantined": 7}).details_as(BarsDetails)
    assert (earlier.quarantined, earlier.left_out, earlier.sessions) == (7, "", 0)
    assert lake.write_frame(KEY, frame, BUILD_KEY).details_as(BarsDetails) is None


def test_an_artifact_with_the_same_build_key_is_up_to_date(lake, frame):
    lake.write_frame(KEY, frame, BUILD_KEY)
    assert lake.up_to_date(KEY, BUILD_KEY)


@pytest.mark.parametrize(
    "other",
    [
        BuildKey({"raw": "ax", "vix": "bb"}, "cfg", "code"),
        BuildKey(BUILD_KEY.inputs, "x", "code"),
        BuildKey(BUILD_KEY.inputs, "cfg", "x"),
    ],
)
def test_an_artifact_is_stale_when_any_hash_changes(lake, frame, other):
    lake.write_frame(KEY, frame, BUILD_KEY)
    assert not lake.up_to_date(KEY, other)


@pytest.mark.parametrize(
    ("build_key", "reason"),
    [
        (BuildKey({"raw": "ax", "vix": "bx"}, "cfg", "code"), "inputs changed: raw, vix"),
        (BuildKey({"raw": "aa"}, "cfg", "code"), "inputs changed: vix"),
        (BuildKey({**BUILD_KEY.inputs, "predecessor": "cc"}, "cfg", "code"), "inputs changed: predecessor"),
        (BuildKey(BUILD_KEY.inputs, "x", "code"), "config changed"),
        (BuildKey(BUILD_KEY.inputs, "cfg", "x"), "code or libraries changed"),
        (
            BuildKey({"raw": "aa", "vix": "bx"}, "x", "x"),
            "inputs changed: vix; config changed; code or libraries changed",
        ),
        (BUILD_KEY, None),
    ],
)
def test_the_stale_reason_names_what_changed(lake, frame, build_key, reason):
    assert lake.stale_reason(KEY, BUILD_KEY) == "new"
    lake.write_frame(KEY, frame, BUILD_KEY)
    assert lake.stale_reason(KEY, build_key) == reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged: content does not match its manifest"),
        (lambda path: path.unlink(), "damaged: its file is missing"),
        (lambda path: path.with_suffix(".json").unlink(), "damaged: its manifest is missing or cannot be read"),
        (
            lambda path: path.with_suffix(".json").write_text('{"schema_ver'),
            "damaged: its manifest is missing or cannot be read",
        ),
    ],
)
def test_the_stale_reason_names_the_damage(lake, frame, spoil, reason):
    lake.write_frame(KEY, frame, BUILD_KEY)
    spoil(lake.path(KEY))
    assert lake.stale_reason(KEY, BUILD_KEY) == reason
    assert not lake.up_to_date(KEY, BUILD_KEY)


def test_an_artifact_with_a_flipped_byte_is_stale_and_cannot_be_read(lake, frame):
    lake.write_frame(KEY, frame, BUILD_KEY)
    path = lake.path(KEY)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert not lake.up_to_date(KEY, BUILD_KEY)
    with pytest.raises(ArtifactError, match="expected content with SHA-256"):
        lake.read_frame(KEY)


def test_frame_and_manifest_agree_when_another_writer_replaces_the_file(lake, frame, monkeypatch):
    before = lake.write_frame(KEY, frame, BUILD_KEY)
    read = pl.read_parquet

    def replaced_first(source, **options):
        monkeypatch.setattr(pl, "read_parquet", read)
        lake.write_frame(KEY, frame.with_columns(close=pl.Series([7.0, 8.0])), BUILD_KEY)
        return read(source, **options)

    monkeypatch.setattr(pl, "read_parquet", replaced_first)
    found, manifest = lake.load(KEY)
    assert manifest == before
    assert found.equals(frame)
    assert lake.read_frame(KEY)["close"].to_list() == [7.0, 8.0]


def test_a_missing_artifact_is_a_typed_error_with_a_remedy(lake):
    with pytest.raises(ArtifactError, match="Run the stage that makes it again"):
        lake.read_frame(KEY)
    with pytest.raises(ArtifactError):
        lake.content_hash(KEY)


def test_the_same_frame_has_the_same_bytes(lake, frame):
    assert lake.write_frame(KEY, frame, BUILD_KEY).sha256 == lake.write_frame(KEY, frame, BUILD_KEY).sha256


def test_a_second_writer_fails_after_its_waiting_time(lake):
    other = Lake(lake.root)
    with (
        lake.writing("ESH25"),
        pytest.raises(ArtifactError, match="no other writer of ESH25"),
        other.writing("ESH25", wait_seconds=0.05),
    ):
        pytest.fail("the lock was taken twice")
    with other.writing("ESH25", wait_seconds=1):
        pass


def test_the_hash_of_a_frame_depends_on_values_only(frame):
    chunked = pl.concat([frame.head(1), frame.tail(1)], rechunk=False)
    assert hash_frame(chunked) == hash_frame(frame)
    assert hash_frame(frame.with_columns(close=pl.Series([1.0, 2.5]))) != hash_frame(frame)
    assert hash_frame(frame.with_columns(close=pl.Series([1.0, None]))) != hash_frame(
        frame.with_columns(close=pl.Series([1.0, 0.0]))
    )
