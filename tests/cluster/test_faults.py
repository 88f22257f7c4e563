"""Faults during a night: nothing is lost, and the result has the bits of an undisturbed run."""

from __future__ import annotations

import json
import shlex
import time

from vpoc_ml.reports.pages.table import PAGES

from .conftest import FAULTY
from .stack import SERVICES, digests_of, wait_until

HEARTBEAT = 90
"""Seconds after which compose.test.yaml has a dead worker noticed."""
PARTITION = 30
"""Seconds without a network, a third of ``HEARTBEAT``: as 60 s are of the 180 s of a real cluster."""


def test_a_night_survives_every_fault_with_the_bits_of_the_command_line(stack, night, undisturbed, took):
    limit = stack.inside("scheduler", "airflow config get-value scheduler task_queued_timeout")
    assert float(limit.split()[-1]) > 600  # no worker for ten minutes is no failure
    wait_until(
        lambda: state(stack, night) == "queued", 400, "train queued", 2, lambda: stack.unfinished("vpoc_nightly", night)
    )
    sent = map(json.loads, stack.inside("worker", "cat /lake/alerts.jsonl").splitlines())
    assert ("no-worker", night) in {(alert["kind"], alert["run"]) for alert in sent}
    stack.compose("start", "worker-rocm")
    waited = wait_until(lambda: state(stack, night) == "running", 120, "train running")
    took("no GPU worker: train waits, and runs after the worker's start in", waited)
    name = newest_run(stack)

    def epochs() -> int:
        log = shlex.quote(f"/lake/runs/{name}/progress.jsonl")
        return int(stack.inside("worker", f"grep -c validation_loss {log} || true") or 0)

    def goes_on(fault: str, before: int) -> None:
        wait_until(lambda: epochs() > before, 60, f"epochs after {fault}", found=lambda: account(stack, night))
        assert state(stack, night) == "running", fault

    wait_until(lambda: epochs() >= 2, 120, "two epochs")
    stack.slow_down("worker-rocm")  # the training must outlast the faults on a fast machine too
    for service in ("api-server", "scheduler", "dag-processor", "redis", "postgres"):
        before, action = epochs(), "restart" if service in ("redis", "postgres") else "kill"
        if action == "kill":
            stack.kill(service)
        else:
            stack.compose("restart", "--timeout", "30", service)
        took(f"{action} of {service}: healthy after", stack.wait_healthy(service))
        goes_on(service, before)

    before = epochs()
    with stack.partition("worker-rocm"):
        time.sleep(PARTITION)
    goes_on("partition", before)
    assert stack.task("vpoc_nightly", night, "train")["try_number"] == 1

    other = killed_while_reading(stack)
    trained = epochs()
    stack.kill("worker-rocm")
    noticed = wait_until(
        lambda: state(stack, night) != "running", 3 * HEARTBEAT, "noticed", found=lambda: account(stack, night)
    )
    took(f"kill of the GPU worker in epoch {trained + 1}: noticed after", noticed)
    again = wait_until(lambda: state(stack, night) == "running", 300, "train running")
    took("    running again after", noticed + again)
    wait_until(lambda: epochs() > trained, 60, "epochs after the kill", found=lambda: account(stack, night))

    # as docs/cluster.md has it, and the default workers last: a lake in memory lasts as long as a container that has it
    begin = time.monotonic()
    stack.compose("stop", "worker-rocm")
    took("GPU worker stopped, its training after a checkpoint", time.monotonic() - begin)
    took("    all containers but worker replaced: healthy after", stack.replace(set(SERVICES) - {"worker"}))
    took("    containers of worker replaced: healthy after", stack.replace(["worker"]))
    assert stack.wait("vpoc_contracts", [other], 600) == ["success"], stack.failures("vpoc_contracts", other)
    assert stack.task("vpoc_contracts", other, "ingest_contract")["try_number"] == 2
    took(
        "default worker killed while it read a file: run of the contract",
        stack.run("vpoc_contracts", other)["duration"],
    )
    assert stack.wait("vpoc_nightly", [night], 1800) == ["success"], stack.failures("vpoc_nightly", night)
    took("    run ended after its start", stack.run("vpoc_nightly", night)["duration"])
    tries = stack.task("vpoc_nightly", night, "train")["try_number"]
    assert tries >= 3, "the training ended before its container was replaced"
    log = stack.log("vpoc_nightly", night, "train", tries)
    assert "Checkpoint after epoch" in log
    assert "epoch 1 of" not in log
    assert stack.digests(name) == digests_of(undisturbed)


def test_its_training_ran_on_the_gpu_worker_and_its_model_is_promoted(stack, night):
    train = stack.task("vpoc_nightly", night, "train")
    assert (train["queue"], train["pool"]) == ("rocm", "gpu")
    assert train["hostname"] == stack.inside("worker-rocm", "hostname").strip()
    assert stack.task("vpoc_nightly", night, "evaluate")["hostname"] != train["hostname"]
    log = stack.log("vpoc_nightly", night, "train", 1)
    assert f"epoch 1 of {FAULTY['training.epochs']}" in log, log[-3000:]
    path = f"/api/v2/dags/vpoc_nightly/dagRuns/{night}/taskInstances/promote/xcomEntries/return_value"
    promoted = stack.get(path)["value"]
    promoted = json.loads(promoted) if isinstance(promoted, str) else promoted
    assert promoted["state"] == "promoted", promoted
    versions = stack.ask_mlflow("GET", "/api/2.0/mlflow/model-versions/search").json()["model_versions"]
    assert len(versions) == 1


def test_the_pages_need_no_write_access_to_lake_and_registry(stack, night):
    names = {"run": newest_run(stack), "gate": "candidate", "version": "1"}
    answers = {
        page.path: stack.call("GET", f"/vpoc-reports{page.path.format(**names)}", user="viewer") for page in PAGES
    }
    assert {path: answer.text for path, answer in answers.items() if answer.status_code >= 500} == {}
    shown = [page.path for page in PAGES if page.title] + ["/models/{version}", "/runs/{run}", "/gates/{run}/{gate}"]
    assert {path: answers[path].status_code for path in shown} == dict.fromkeys(shown, 200)
    assert names["run"] in answers["/champion"].text


def test_a_full_disk_is_named_and_loses_nothing(stack, night, took):
    before = stack.digests(newest_run(stack))
    stack.inside("worker", "cat /dev/zero > /lake/filler 2>/dev/null || truncate --size=-200K /lake/filler")
    conf = {"preset": "smoke", "overrides": {"ingest.bad_prints": 8}}
    run_id = stack.trigger("vpoc_contracts", conf, "ESH23")

    def ingest():
        return stack.task("vpoc_contracts", run_id, "ingest_contract")

    try:
        failed = wait_until(lambda: ingest()["state"] == "up_for_retry", 200, "first try failed")
        took("disk of the lake full: run of a contract has failed its first try after", failed)
        log = stack.log("vpoc_contracts", run_id, "ingest_contract", 1)
        assert "no space left on the disk" in log, log[-4000:]
        assert "Free space there, or move the lake to a larger disk." in log, log[-4000:]
        assert stack.digests(newest_run(stack)) == before
    finally:
        stack.inside("worker", "rm /lake/filler")
    assert stack.wait("vpoc_contracts", [run_id], 300) == ["success"], stack.failures("vpoc_contracts", run_id)
    assert ingest()["try_number"] == 2
    took("    space freed: run ended after its start", stack.run("vpoc_contracts", run_id)["duration"])


def newest_run(stack):
    """Return the folder of the newest nightly run."""
    return stack.inside("worker", "ls -1 /lake/runs | grep nightly | tail -n 1").strip()


def killed_while_reading(stack):
    """Start a run of a contract and kill the worker that reads its file; return the run."""
    run_id = stack.trigger("vpoc_contracts", {"preset": "smoke", "overrides": {"ingest.bad_prints": 7}}, "ESM23")

    def ingest():
        return stack.task("vpoc_contracts", run_id, "ingest_contract")

    wait_until(lambda: ingest()["state"] == "running", 120, "ingest_contract running", 0.2)
    host = ingest()["hostname"]
    hosts = [stack.inside("worker", "hostname", index).strip() for index in range(SERVICES["worker"])]
    stack.kill("worker", hosts.index(host))
    return run_id


def state(stack, run_id):
    """Return the state of the training task."""
    return stack.task("vpoc_nightly", run_id, "train")["state"]


def account(stack, run_id):
    """Return what is known of the training task."""
    return stack.account("vpoc_nightly", run_id, "train", "worker-rocm")
