"""A registry that had one champion for everything: migrated on first access, whenever that is interrupted."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vpoc_ml.errors import RegistryError
from vpoc_ml.registry.ledger import Ledger
from vpoc_ml.registry.mlflow_store import MODEL, MlflowStore, connect_client
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.registry.registry import Registry
from vpoc_ml.registry.store import REQUIRED, WEIGHTS, ModelStore

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
ES, NQ, SLOW = ModelKey("ES", "1m", "rank"), ModelKey("NQ", "1m", "rank"), ModelKey("ES", "15m", "rank")
RUNS = {1: ES, 2: ES, 3: NQ, 4: SLOW, 5: ES}
DECISIONS = [("promote", 1), ("promote", 2), ("refuse", 4), ("promote", 5), ("rollback", 2), ("promote", 3)]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A registry as the first version left it: NQ's version 3 is the champion of all keys, after ES's version 2."""
    from vpoc_ml.lake.hashing import hash_file

    root = tmp_path_factory.mktemp("old") / "registry"
    mlflow = Registry.local(root).mlflow
    for version, key in RUNS.items():
        run = root.parent / "runs" / f"run{version}"
        run.mkdir(parents=True)
        for name in REQUIRED:
            (run / name).write_text(f"{version} {name}")
        settings = {"data": {"instrument": key.instrument}, "dataset": {"horizon_minutes": int(key.horizon[:-1])}}
        (run / "config.json").write_text(json.dumps(settings | {"of_another_time": True}))
        tags = {"run": run.name, "fingerprint": f"f{version}", "weights": hash_file(run / WEIGHTS)}
        mlflow.register(run.name, [run / name for name in REQUIRED], metrics={}, params={}, tags=tags)
    ledger = Ledger(root / "ledger.jsonl")
    for day, (action, version) in enumerate(DECISIONS):
        ledger.append(action, version=version, reasons=["as it was"], now=NOW + timedelta(days=day))
    connect_client(mlflow.tracking_uri).set_registered_model_alias(MODEL, "champion", "3")
    return root


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "registry")


def champions_in(folder: Path) -> dict[ModelKey, int | None]:
    found = {key: ModelStore.local(folder, key).champion() for key in (ES, NQ, SLOW)}
    return {key: champion and champion.version for key, champion in found.items()}


EXPECTED = {ES: 2, NQ: 3, SLOW: None}


def test_each_key_gets_the_champion_that_its_own_decisions_left(folder):
    before = (folder / "ledger.jsonl").read_bytes()
    assert champions_in(folder) == EXPECTED
    registry = Registry.local(folder)
    assert (folder / "ledger.jsonl").read_bytes().startswith(before)
    assigned = [(e.version, e.key) for e in registry.entries()[len(DECISIONS) :]]
    assert assigned == [(version, str(key)) for version, key in RUNS.items()]
    assert {model.version: model.key for model in registry.models()} == {v: str(k) for v, k in RUNS.items()}
    assert registry.mlflow.alias(None) is None
    assert registry.mlflow.head().seq == len(registry.entries())


def test_second_access_changes_nothing(folder):
    champions_in(folder)
    ledger = (folder / "ledger.jsonl").read_bytes()
    assert champions_in(folder) == EXPECTED
    assert (folder / "ledger.jsonl").read_bytes() == ledger


@pytest.mark.parametrize("step", [1, 2, 6, 11, 12, 13])  # of 5 times (assign, set key), 2 aliases, the old alias
def test_a_kill_at_any_step_is_completed_by_the_next_access(folder, monkeypatch, step):
    done = 0

    def dying(method):
        def call(*args, **kwargs):
            nonlocal done
            done += 1
            if done == step:
                raise SystemExit(137)
            return method(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", dying(Ledger.append))
        for name in ("set_key", "move_alias", "drop_unkeyed_alias"):
            patch.setattr(MlflowStore, name, dying(getattr(MlflowStore, name)))
        with pytest.raises(SystemExit):
            Registry.local(folder).entries()
    assert champions_in(folder) == EXPECTED
    assigned = [entry.version for entry in Registry.local(folder).entries()[len(DECISIONS) :]]
    assert assigned == list(RUNS)


def test_rollback_and_champion_of_a_past_night_know_the_decisions_of_before_the_keys(folder):
    store = ModelStore.local(folder, ES)
    days = [store.champion_at(NOW + timedelta(days=day, hours=1)) for day in (-1, 0, 1, 3, 4, 9)]
    assert [champion and champion.version for champion in days] == [None, 1, 2, 5, 2, 2]
    assert store.rollback("drift", NOW + timedelta(days=9)).version == 1
    assert champions_in(folder) == EXPECTED | {ES: 1}


def test_unknown_configuration_stops_the_migration_and_names_version_and_file(folder):
    source = Registry.local(folder).mlflow.get(4).source.removeprefix("file://")
    path = Path(source) / "config.json"
    kept = path.read_bytes()
    path.write_text("{")
    try:
        with pytest.raises(RegistryError, match=r"configuration of version 4 \(run run4\).*config\.json"):
            ModelStore.local(folder, ES).champion()
    finally:
        path.write_bytes(kept)
    assert champions_in(folder) == EXPECTED


def test_champion_that_mlflow_lost_stops_the_migration(folder):
    client = connect_client(Registry.local(folder).mlflow.tracking_uri)
    client.delete_registered_model_alias(MODEL, "champion")
    client.delete_model_version(MODEL, "3")
    with pytest.raises(RegistryError, match="version 3, the champion according to the ledger"):
        ModelStore.local(folder, ES).champion()


def test_edited_ledger_is_not_migrated(folder):
    path = folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"as it was", b"as I want", 1))
    with pytest.raises(RegistryError, match="line 1"):
        ModelStore.local(folder, ES).champion()
