"""A lake of the previous release: read as it is, and migrated to the names of this release, wherever that is killed."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.cli import app
from vpoc_ml.config import resolve
from vpoc_ml.config.overrides import load_stored
from vpoc_ml.errors import MissingInputError
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.manifest import CHECKSUM, with_checksum
from vpoc_ml.lake.store import BuildKey, Lake

pytestmark = pytest.mark.slow

RUN = "runs/2026-03-02"
BUILD_KEY = BuildKey({"raw": "aa"}, "config", "code")
ARTIFACTS = ("bars/ES/ESH25.parquet", "vix/VIX.parquet", "roll/ES.parquet", "nights/2026-05-14T223000Z/roll/ES.parquet")
OLD_SETTINGS = {
    "recipe": "nightly",
    "data": {"instrument": "ES", "contracts": ["ESH25"], "chunk_rows": 5000},
    "ingest": {"stamp": "start", "min_price": 0.5},
    "dataset": {"target": "multiclass", "target_classes": 5, "target_levels": [0.1, 0.9], "target_volatility_bars": 30},
    "model": {"encoding": "piecewise_linear", "bins": 8},
    "quality": {"docs_limit": 30, "row_count_fail": 0.2},
    "training": {"ladder": False, "vram_limit_gib": 2.0, "device": "cpu", "processes": 1, "epochs": 3},
}


@pytest.fixture
def frame():
    return pl.DataFrame({"ts": [datetime(2025, 1, 2, 14, 30, tzinfo=UTC)], "close": [1.0]})


def in_old_names(file: Path) -> None:
    """Give a manifest the names of the previous release."""
    content = json.loads(file.read_bytes())
    del content[CHECKSUM]
    content["stamp"] = content.pop("version_token")
    file.write_bytes(with_checksum(content))


@pytest.fixture
def old_lake(tmp_path, frame):
    """A lake as the previous release left it: artifacts, a run with its training set, a proof, a summary."""
    lake = Lake(tmp_path / "lake")
    for key in ARTIFACTS:
        lake.write_frame(key, frame, BUILD_KEY, {"stamp": "a detail with an old word stays"})
        in_old_names(lake.path(key).with_suffix(".json"))
    Lake(lake.path(RUN)).write_frame("training_set.parquet", frame, BUILD_KEY)
    in_old_names(lake.path(f"{RUN}/training_set.json"))
    write_json(lake.path(f"{RUN}/config.json"), OLD_SETTINGS)
    write_json(lake.path(f"{RUN}/search/trials/aa/config.json"), OLD_SETTINGS)
    write_json(lake.path(f"{RUN}/summary.json"), {"run": "2026-03-02", "recipe": "nightly"})
    lake.write_checksummed_json("leakage/proof.json", {"recipe": {"code": "aa"}, "passed": True})
    return lake


def contents(lake):
    files = (path for path in lake.path("").rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.relative_to(lake.path("")).as_posix(): path.read_bytes() for path in files}


def assert_current(lake, frame):
    for key in ARTIFACTS:
        stored = json.loads(lake.path(key).with_suffix(".json").read_bytes())
        assert "stamp" not in stored
        assert stored["version_token"] is None
        assert lake.stale_reason(key, BUILD_KEY) is None
        assert lake.read_frame(key).equals(frame)
        assert lake.require_manifest(key).details == {"stamp": "a detail with an old word stays"}
    assert Lake(lake.path(RUN)).stale_reason("training_set.parquet", BUILD_KEY) is None
    for folder in (RUN, f"{RUN}/search/trials/aa"):
        stored = lake.read_json(f"{folder}/config.json")
        assert stored == json.loads(load_stored(json.dumps(OLD_SETTINGS).encode(), "config.json").to_json())
    assert lake.read_json(f"{RUN}/summary.json") == {"run": "2026-03-02", "preset": "nightly"}
    assert lake.read_checksummed_json("leakage/proof.json") == {"build_key": {"code": "aa"}, "passed": True}


def test_a_lake_of_the_previous_release_is_migrated_once(old_lake, frame):
    report = pipeline.migrate(str(old_lake.root))
    manifests = {f"{key.removesuffix('.parquet')}.json" for key in (*ARTIFACTS, f"{RUN}/training_set.parquet")}
    configurations = {f"{RUN}/config.json", f"{RUN}/search/trials/aa/config.json"}
    assert set(report.rewritten) == manifests | configurations | {f"{RUN}/summary.json", "leakage/proof.json"}
    assert (report.damaged, report.registry) == ((), None)
    assert_current(old_lake, frame)
    migrated = contents(old_lake)
    assert pipeline.migrate(str(old_lake.root)).rewritten == ()
    assert contents(old_lake) == migrated


def test_a_lake_of_the_previous_release_is_read_without_migration(old_lake, frame):
    for key in ARTIFACTS:
        assert old_lake.stale_reason(key, BUILD_KEY) is None
        assert old_lake.read_frame(key).equals(frame)
    config = load_stored(old_lake.path(f"{RUN}/config.json").read_bytes(), "config.json")
    assert (config.preset, config.ingest.label_side, config.machine.fallback) == ("nightly", "start", False)
    assert (config.machine.chunk_rows, config.machine.vram_limit_gib, config.training.epochs) == (5000, 2.0, 3)


@pytest.mark.parametrize("writes", range(0, 9, 2))
def test_a_killed_migration_is_completed_by_the_next(old_lake, frame, monkeypatch, writes):
    write, left = old_lake.storage.write.__func__, [writes]

    def killed(self, key, data):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, key, data)

    monkeypatch.setattr(type(old_lake.storage), "write", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.migrate(str(old_lake.root))
    monkeypatch.undo()
    for key in ARTIFACTS:
        assert old_lake.stale_reason(key, BUILD_KEY) is None, "half migrated, read all the same"
    pipeline.migrate(str(old_lake.root))
    assert_current(old_lake, frame)


def test_damaged_files_stay_and_are_named(old_lake):
    manifest, config = old_lake.path("bars/ES/ESH25.json"), old_lake.path(f"{RUN}/config.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"aa"', b'"ab"'))
    config.write_text(json.dumps({"training": {"epochs": "many"}}))
    before = manifest.read_bytes(), config.read_bytes()
    report = pipeline.migrate(str(old_lake.root))
    assert set(report.damaged) == {"bars/ES/ESH25.json", f"{RUN}/config.json"}
    assert (manifest.read_bytes(), config.read_bytes()) == before
    assert "vix/VIX.json" in report.rewritten


def test_other_json_files_of_the_lake_stay(old_lake):
    others = ("reports/runs/a/verdict.json", "raw/notes.json", "logs/a.json", f"{RUN}/metrics.json", "trained/aa.json")
    for key in others:
        old_lake.write_json(key, {"recipe": "nightly", "stamp": "x", "number": random.Random(key).random()})
    before = {key: old_lake.storage.read(key) for key in others}
    pipeline.migrate(str(old_lake.root))
    assert {key: old_lake.storage.read(key) for key in others} == before


def test_a_lake_of_this_release_is_left_alone(tmp_path, frame):
    lake = Lake(tmp_path / "lake")
    lake.write_frame(ARTIFACTS[0], frame, BUILD_KEY)
    lake.write_text(f"{RUN}/config.json", resolve("nightly").to_json() + "\n")
    before = contents(lake)
    assert pipeline.migrate(str(lake.root)).rewritten == ()
    assert contents(lake) == before


def test_no_lake_is_an_error(tmp_path):
    with pytest.raises(MissingInputError, match="a lake with artifacts"):
        pipeline.migrate(str(tmp_path / "absent"))


def test_the_command_reports_what_it_changed(old_lake):
    result = CliRunner().invoke(app, ["migrate", str(old_lake.root), "--json"])
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["rewritten"]) == 9
    again = CliRunner().invoke(app, ["migrate", str(old_lake.root)])
    assert "rewritten: 0" in again.stdout


def test_a_lake_in_an_object_store_is_migrated(bucket, old_lake, frame, monkeypatch):
    monkeypatch.delenv("VPOC_REGISTRY", raising=False)
    remote = Lake(f"{bucket}/es")
    for key, content in contents(old_lake).items():
        remote.storage.write(key, content)
    assert len(pipeline.migrate(str(remote.root)).rewritten) == 9
    assert pipeline.migrate(str(remote.root)).rewritten == ()
    assert remote.stale_reason(ARTIFACTS[0], BUILD_KEY) is None
    assert remote.read_frame(ARTIFACTS[0]).equals(frame)
