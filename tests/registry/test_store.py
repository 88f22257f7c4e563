"""The model store on a real MLflow: idempotence, the two steps of a change, rollback, damaged files."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vpoc_ml.artifacts.model_card import VersionDecision
from vpoc_ml.errors import ArtifactError, MissingInputError, RegistryError
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.registry.store import REQUIRED, WEIGHTS, ModelStore

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
KEY = ModelKey("ES", "1m", "rank")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A store with three versions, made once: a fresh MLflow database takes seconds."""
    root = tmp_path_factory.mktemp("template")
    store = ModelStore.local(root / "store", KEY)
    for name in ("one", "two", "three"):
        store.log_run(run_folder(root, name), metrics={"rank_ic": 0.01}, params={"seed": 7}, tags={"fingerprint": name})
    return root


def run_folder(root: Path, name: str) -> Path:
    folder = root / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in REQUIRED:
        (folder / file).write_text(f"{name} {file}")
    return folder


@pytest.fixture
def store(template: Path, tmp_path: Path) -> ModelStore:
    shutil.copytree(template / "store", tmp_path / "store")
    return ModelStore.local(tmp_path / "store", KEY)


def actions(store: ModelStore) -> list[tuple[str, int | None]]:
    return [(entry.action, entry.version) for entry in store.ledger.entries()]


def crash(store: ModelStore, monkeypatch: pytest.MonkeyPatch, action) -> ModelStore:
    """Run ``action`` on a store that dies between ledger and alias; return a fresh store, as after a restart."""

    def die(key: ModelKey, version: int) -> None:
        raise SystemExit(137)

    monkeypatch.setattr(store.mlflow, "move_alias", die)
    with pytest.raises(SystemExit):
        action(store)
    return ModelStore.local(store.folder, KEY)


def test_new_store_has_no_champion_and_lists_its_versions(store):
    assert store.champion() is None
    assert [(m.version, m.run, m.champion) for m in store.list_models()] == [
        (1, "one", False),
        (2, "two", False),
        (3, "three", False),
    ]


def test_logging_a_run_twice_gives_one_version(store, tmp_path):
    folder = run_folder(tmp_path, "four")
    assert [store.log_run(folder), store.log_run(folder)] == [4, 4]
    assert len(store.list_models()) == 4
    (folder / WEIGHTS).write_text("other weights")
    with pytest.raises(RegistryError, match="'four' to be registered once"):
        store.log_run(folder)


def test_interrupted_logging_is_completed_by_the_next_call(store, tmp_path, monkeypatch):
    folder = run_folder(tmp_path, "four")
    client = store.mlflow.client
    with monkeypatch.context() as patch:
        patch.setattr(client, "create_model_version", lambda *_, **__: (_ for _ in ()).throw(SystemExit(137)))
        with pytest.raises(SystemExit):
            store.log_run(folder, params={"seed": 7})
    again = ModelStore.local(store.folder, KEY)
    assert again.log_run(folder, params={"seed": 7}) == 4
    experiment = client.get_experiment_by_name("vpoc").experiment_id
    assert len(client.search_runs([experiment], "tags.run = 'four'")) == 1


def test_absent_model_file_is_named(store, tmp_path):
    folder = run_folder(tmp_path, "four")
    (folder / "metrics.json").unlink()
    with pytest.raises(MissingInputError, match=r"metrics\.json"):
        store.log_run(folder)


def test_promotion_gives_a_champion_with_its_files(store):
    champion = store.promote(2, ["better by 1 point"], NOW)
    assert champion == store.champion()
    assert (champion.version, champion.run, champion.fingerprint) == (2, "two", "two")
    assert (champion.folder / WEIGHTS).read_text() == f"two {WEIGHTS}"
    assert [m.version for m in store.list_models() if m.champion] == [2]


def test_promoting_the_champion_again_adds_no_entry(store):
    store.promote(1, ["first"], NOW)
    store.promote(1, ["again"], NOW)
    assert actions(store) == [("promote", 1)]


def test_refusal_is_recorded_and_leaves_the_champion(store):
    before = store.promote(1, ["first"], NOW)
    files = {path: path.read_bytes() for path in before.folder.iterdir()}
    store.refuse(2, ["no evidence", "worse than ridge"], NOW)
    assert store.champion() == before
    assert {path: path.read_bytes() for path in before.folder.iterdir()} == files
    assert actions(store) == [("promote", 1), ("refuse", 2)]


def test_unknown_version_is_not_promoted(store):
    store.promote(1, ["first"], NOW)
    with pytest.raises(RegistryError, match="was 9"):
        store.promote(9, ["typing error"], NOW)
    assert store.champion().version == 1
    assert actions(store) == [("promote", 1)]


def test_kill_between_ledger_and_alias_keeps_the_old_champion_until_recovered(store, monkeypatch):
    store.promote(1, ["first"], NOW)
    after = crash(store, monkeypatch, lambda s: s.promote(2, ["better"], NOW))
    assert after.champion().version == 1
    completed = after.recover(NOW + timedelta(minutes=1))
    assert (completed.action, completed.version) == ("promote", 2)
    assert after.champion().version == 2
    assert after.recover(NOW) is None
    assert actions(after) == [("promote", 1), ("promote", 2), ("recover", 2)]


def test_sigkill_between_ledger_and_alias_keeps_the_old_champion(store):
    store.promote(1, ["first"], NOW)
    code = (
        "import datetime, os, pathlib, signal, sys\n"
        "from vpoc_ml.registry.model_key import ModelKey\n"
        "from vpoc_ml.registry.store import ModelStore\n"
        "store = ModelStore.local(pathlib.Path(sys.argv[1]), ModelKey('ES', '1m', 'rank'))\n"
        "store.mlflow.move_alias = lambda key, version: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.promote(2, ['better'], datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(store.folder)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.champion().version == 1
    assert store.recover(NOW).version == 2
    assert store.champion().version == 2
    assert store.ledger.verify() == 3


def test_retry_of_a_killed_promotion_promotes_once(store, monkeypatch):
    after = crash(store, monkeypatch, lambda s: s.promote(2, ["better"], NOW))
    assert after.champion() is None
    assert after.promote(2, ["better"], NOW).version == 2
    assert actions(after) == [("promote", 2), ("recover", 2)]


def test_retry_of_a_killed_rollback_goes_back_once(store, monkeypatch):
    for version in (1, 2, 3):
        store.promote(version, ["better"], NOW)
    after = crash(store, monkeypatch, lambda s: s.rollback("drift", NOW))
    assert after.champion().version == 3
    assert after.rollback("drift", NOW).version == 2
    assert after.champion().version == 2


def test_rolling_back_twice_goes_two_promotions_back(store):
    for version in (1, 2, 3):
        store.promote(version, ["better"], NOW)
    assert store.rollback("drift", NOW).version == 2
    assert store.rollback("drift again", NOW).version == 1
    with pytest.raises(RegistryError, match="previous champion"):
        store.rollback("once more", NOW)
    assert store.champion().version == 1
    assert actions(store)[3:] == [("rollback", 2), ("rollback", 1)]


def test_promotion_after_a_rollback_goes_back_to_the_one_before_it(store):
    store.promote(1, ["first"], NOW)
    store.promote(2, ["better"], NOW)
    store.rollback("drift", NOW)
    store.promote(3, ["better"], NOW)
    assert store.rollback("drift", NOW).version == 1


def test_repeated_rollback_request_is_refused_when_it_names_the_champion(store):
    for version in (1, 2, 3):
        store.promote(version, ["better"], NOW)
    store.rollback("drift", NOW, expected=3)
    with pytest.raises(RegistryError, match="Expected version 3 as the champion to roll back; found 2"):
        store.rollback("drift", NOW, expected=3)
    assert store.champion().version == 2


def test_alias_moved_by_hand_is_put_back_and_noted(store):
    store.promote(1, ["first"], NOW)
    store.mlflow.move_alias(KEY, 3)
    store.recover(NOW)
    assert store.champion().version == 1
    assert "The alias was on version 3" in store.ledger.entries()[-1].reasons[0]


def test_lost_ledger_stops_promotion(store):
    store.promote(1, ["first"], NOW)
    store.ledger.path.unlink()
    with pytest.raises(RegistryError, match="Restore the ledger"):
        store.promote(2, ["better"], NOW)
    with pytest.raises(RegistryError, match="Restore the ledger"):
        store.champion()
    assert store.mlflow.alias(KEY) == 1


def test_damaged_local_copy_is_fetched_again(store):
    champion = store.promote(1, ["first"], NOW)
    (champion.folder / WEIGHTS).write_text("flipped bit")
    assert (store.champion().folder / WEIGHTS).read_text() == f"one {WEIGHTS}"


def test_damaged_artifact_is_not_promoted(store):
    store.promote(1, ["first"], NOW)
    artifact = Path(store.mlflow.get(2).source.removeprefix("file://")) / WEIGHTS
    original = artifact.read_text()
    artifact.write_text("flipped bit")
    try:
        with pytest.raises(ArtifactError, match="registered weights"):
            store.promote(2, ["better"], NOW)
    finally:
        artifact.write_text(original)
    assert store.champion().version == 1
    assert not list((store.folder / "models").glob(".*"))


def test_models_of_another_key_have_a_champion_of_their_own(store, tmp_path):
    other = ModelStore(store.registry, ModelKey("NQ", "1m", "rank"))
    version = other.log_run(run_folder(tmp_path, "nasdaq"))
    store.promote(1, ["first"], NOW)
    store.promote(2, ["better"], NOW)
    assert other.champion() is None
    other.promote(version, ["first of NQ"], NOW)
    assert (store.champion().version, other.champion().version) == (2, version)
    assert store.rollback("drift", NOW).version == 1
    assert other.champion().version == version
    with pytest.raises(RegistryError, match="previous champion"):
        other.rollback("drift", NOW)
    assert [entry.key for entry in store.entries()] == ["ES-1m-rank"] * 2 + ["NQ-1m-rank", "ES-1m-rank"]


def test_version_of_another_key_is_neither_promoted_nor_read(store):
    other = ModelStore(store.registry, ModelKey("ES", "15m", "rank"))
    for use in (lambda: other.promote(1, ["by mistake"], NOW), lambda: other.get(1)):
        with pytest.raises(
            RegistryError, match=r"Expected a version of ES-15m-rank; version 1 \(run one\) is of ES-1m"
        ):
            use()
    assert store.entries() == []


def test_run_is_registered_under_one_key(store, tmp_path):
    other = ModelStore(store.registry, ModelKey("NQ", "1m", "rank"))
    with pytest.raises(RegistryError, match="run one"):
        other.log_run(run_folder(tmp_path, "one"))


def test_champion_of_a_past_night_is_the_one_of_the_entries_up_to_then(store):
    for day, version in enumerate((1, 2, 3)):
        store.promote(version, ["better"], NOW + timedelta(days=day))
    store.rollback("drift", NOW + timedelta(days=3))
    nights = [store.champion_at(NOW + timedelta(days=day, seconds=second)) for day, second in ((0, -1), (0, 0), (2, 5))]
    assert [champion and champion.version for champion in nights] == [None, 1, 3]
    assert store.champion_at(NOW + timedelta(days=4)).version == 2


def test_edited_last_line_stops_every_use(store):
    store.promote(1, ["first"], NOW)
    store.ledger.path.write_bytes(store.ledger.path.read_bytes().replace(b"first", b"worst"))
    uses = (store.champion, store.list_models, lambda: store.champion_at(NOW), lambda: store.refuse(2, ["no"], NOW))
    for use in uses:
        with pytest.raises(RegistryError, match="line 1"):
            use()


def test_models_are_listed_with_metrics_and_the_newest_decision(store):
    store.promote(1, ["better"], NOW)
    store.refuse(2, ["no evidence", "worse than ridge"], NOW)
    first, second, third = store.list_models()
    assert (first.key, first.champion, first.metrics) == ("ES-1m-rank", True, {"rank_ic": 0.01})
    reasons = ["no evidence", "worse than ridge"]
    assert second.decision == VersionDecision(action="refuse", time=NOW.isoformat(), reasons=reasons)
    assert third.decision is None
    assert datetime.fromisoformat(first.registered).tzinfo is not None
