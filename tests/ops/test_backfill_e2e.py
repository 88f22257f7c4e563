"""The real scheduler: contracts of a range, one contract, a wrong key, a second time.

`make cluster-test` has a backfill beside a nightly run, and compares the artifacts with those of the command line.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from airflow_client.client import AssetApi, DAGRunResponse

from vpoc_ml import config
from vpoc_ml.lake.store import Lake
from vpoc_ml.synthetic.generate import write_market
from vpoc_ops import backfill, parts, supervisor
from vpoc_ops.client import Airflow, RefusedError, connect

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CHAIN = ["ESH23", "ESM23"]
LATER = "ESZ23"
ROLLS = ["2023-03-13T22:30", "2023-06-12T22:30"]
OVERRIDE = {"quality.overrides": "outlier_warn=0.5"}
PATIENCE = 900.0  # seconds; a busy machine is no failure


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The four parts on a lake with four contracts; nothing of them is left afterwards."""
    root = tmp_path_factory.mktemp("backfill")
    home, lake = root / "home", root / "lake"
    write_market(lake / "raw", contracts=4, seed=7)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    try:
        arguments = ["--home", str(home), "--lake", str(lake), "--port", str(port), "--timeout", "300"]
        assert supervisor.main(["up", *arguments]) == 0
        yield SimpleNamespace(home=home, lake=Lake(lake), airflow=Airflow.of_home(home), root=root)
    finally:
        processes = parts.supervised(home)
        assert supervisor.main(["down", "--home", str(home)]) == 0
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert parts.supervised(home) == []


def test_the_environment_drives_this_airflow_as_one_elsewhere(world, monkeypatch, capfd, tmp_path):
    password = json.loads((world.home / "passwords.json").read_text())["admin"]
    monkeypatch.setenv("VPOC_AIRFLOW_URL", world.airflow.url)
    monkeypatch.setenv("VPOC_AIRFLOW_PASSWORD", password)
    assert not connect(tmp_path).is_paused(backfill.DAG)
    assert backfill.main(["one", "NQX24", "--home", str(tmp_path)]) == 2
    assert "NQX24" in capfd.readouterr().out, "the reason of that Airflow's timetable"
    assert supervisor.main(["airflow", "--home", str(tmp_path), "dags", "list", "--output", "json"]) == 0
    assert '"vpoc_contracts"' in capfd.readouterr().out
    monkeypatch.setenv("VPOC_AIRFLOW_TOKEN", "no token")
    with pytest.raises(RefusedError):
        connect(tmp_path).is_paused(backfill.DAG)


def cli(world, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vpoc_ops.supervisor", "airflow", "--home", str(world.home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def runs(world, key: str | None = None) -> list[DAGRunResponse]:
    found = list(world.airflow.runs(backfill.DAG))
    return [run for run in found if key in (None, run.partition_key) and run.run_type.value != "scheduled"]


@pytest.fixture(scope="module")
def backfilled(world):
    """The runs of a backfill of two contracts by Airflow's own command, ended."""
    dates = ["--from-date", "2023-01-01", "--to-date", "2023-06-12"]
    command = ["backfill", "create", "--dag-id", backfill.DAG, *dates, "--dag-run-conf", json.dumps(OVERRIDE)]
    done = cli(world, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    ids = [run.dag_run_id for run in runs(world)]
    return list(world.airflow.wait_for(backfill.DAG, ids, PATIENCE).values())


def test_backfill_makes_exactly_one_run_per_contract_and_all_succeed(backfilled):
    made = sorted(backfilled, key=lambda run: run.partition_date)
    assert [run.partition_key for run in made] == CHAIN
    assert [f"{run.partition_date:%Y-%m-%dT%H:%M}" for run in made] == ROLLS
    assert {run.run_type.value for run in made} == {"backfill"}
    assert [run.state.value for run in made] == ["success"] * len(CHAIN)
    assert all(f"backfill__{run.partition_key}__" in run.dag_run_id for run in made)


def test_the_config_hash_of_every_run_includes_the_override(backfilled, world):
    hashes = set()
    for run in backfilled:
        key = run.partition_key
        result = world.airflow.result(backfill.DAG, run.dag_run_id, "contract_result")
        assert result["contract"] == key
        assert result["config_hash"] == config.resolve("nightly", OVERRIDE | {"data.contracts": [key]}).digest()
        assert result["config_hash"] != config.resolve("nightly", {"data.contracts": [key]}).digest()
        assert result["rows"] == world.lake.manifest(f"features/ES/{key}.parquet").rows > 50_000
        hashes.add(result["config_hash"])
    assert len(hashes) == len(CHAIN)


def test_asset_events_carry_the_contract(backfilled, world):
    events = AssetApi(world.airflow.api).get_asset_events(source_dag_id="vpoc_contracts", limit=100).asset_events
    assert {event.partition_key for event in events} >= set(CHAIN)
    assert all(event.extra["contract"] == event.partition_key for event in events)


def test_one_contract_by_its_partition_key(backfilled, world, capsys):
    assert backfill.main(["one", LATER, "--home", str(world.home), "--timeout", str(PATIENCE)]) == 0
    (run,) = runs(world, LATER)
    assert (run.run_type.value, run.state.value) == ("manual", "success")
    assert f"{run.partition_date:%Y-%m-%dT%H:%M}" == "2023-12-11T23:30"
    assert world.lake.manifest(f"features/ES/{LATER}.parquet").rows > 50_000
    assert LATER in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "reason"),
    [("NQH23", "of ES"), ("esh23", "write it ESH23"), ("ESG23", "H, M, U, Z"), ("tomorrow", "no contract code")],
)
def test_a_wrong_key_is_rejected_with_the_reason_and_starts_nothing(world, key, reason, capsys):
    before = len(runs(world))
    with pytest.raises(RefusedError) as caught:
        world.airflow.trigger(backfill.DAG, f"wrong-{key}", {}, key)
    assert caught.value.status == 400
    assert reason in str(caught.value)
    assert backfill.main(["one", key, "--home", str(world.home)]) == 2
    assert reason in capsys.readouterr().out
    assert len(runs(world)) == before


def test_a_contract_that_was_not_delivered_fails(world, capsys):
    assert backfill.main(["one", "ESH30", "--home", str(world.home), "--timeout", str(PATIENCE)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "ESH30" in printed
    assert "failed" in printed


@pytest.mark.parametrize(("behaviour", "more"), [("none", 0), ("failed", 0), ("completed", 1)])
def test_reprocessing_completed_starts_a_second_run_beside_the_first(backfilled, world, capsys, behaviour, more):
    before = runs(world, "ESH23")
    span = ["--from", "2023-03-13", "--to", "2023-03-13", "--reprocess", behaviour, "--timeout", str(PATIENCE)]
    assert backfill.main(["range", "--home", str(world.home), *span, "-o", "quality.overrides=outlier_warn=0.5"]) == 0
    printed = capsys.readouterr().out
    after = runs(world, "ESH23")
    assert len(after) == len(before) + more
    assert {run.dag_run_id for run in before} < {run.dag_run_id for run in after} or not more
    assert ("unchanged" if more else backfill.ALREADY_RUN) in printed


def test_a_range_without_contracts_is_rejected(world, capsys):
    assert backfill.main(["range", "--home", str(world.home), "--from", "2023-04-01", "--to", "2023-05-01"]) == 2
    assert "No contract has its roll day in 2023-04-01..2023-05-01" in capsys.readouterr().out
