"""Faults during a night: nothing is lost, and the result has the bits of an undisturbed run."""

from __future__ import annotations

import json
import shlex
import statistics
import time

from .conftest import SETTINGS
from .stack import SERVICES, digests_of, wait_until
from .test_cluster import newest_run

TRAINING = 220
"""Seconds of training in which the faults happen, at the speed of an undisturbed night."""
HEARTBEAT = 90
"""Seconds after which compose.test.yaml has a dead worker noticed."""
PARTITION = 30
"""Seconds without a network, a third of ``HEARTBEAT``: as 60 s are of the 180 s of a real cluster."""


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


def test_a_training_survives_every_fault_with_the_same_bits(stack, night, took):
    epochs_total = min(1000, max(100, round(TRAINING / epoch_seconds(stack))))
    faulty = SETTINGS | {"training.epochs": epochs_total, "training.patience": 1000, "training.seed": 11}
    limit = stack.inside("scheduler", "airflow config get-value scheduler task_queued_timeout")
    assert float(limit.split()[-1]) > 600  # no worker for ten minutes is no failure
    stack.compose("stop", "--timeout", "20", "worker-rocm")
    undisturbed = stack.on_command_line("undisturbed", faulty)
    run_id = stack.trigger("vpoc_nightly", {"preset": "smoke", "overrides": faulty})
    wait_until(lambda: state(stack, run_id) == "queued", 400, "train queued", 2)
    stack.compose("start", "worker-rocm")
    waited = wait_until(lambda: state(stack, run_id) == "running", 120, "train running")
    took("no GPU worker: train waits, and runs after the worker's start in", waited)
    name = newest_run(stack)

    def epochs() -> int:
        log = shlex.quote(f"/lake/runs/{name}/progress.jsonl")
        return int(stack.inside("worker", f"grep -c validation_loss {log} || true") or 0)

    def goes_on(fault: str, before: int) -> None:
        wait_until(lambda: epochs() > before, 30, f"epochs after {fault}", found=lambda: account(stack, run_id))
        assert state(stack, run_id) == "running", fault

    wait_until(lambda: epochs() >= 2, 120, "two epochs")
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
    assert stack.task("vpoc_nightly", run_id, "train")["try_number"] == 1

    other = killed_while_reading(stack)
    trained = epochs()
    stack.kill("worker-rocm")
    noticed = wait_until(
        lambda: state(stack, run_id) != "running", 3 * HEARTBEAT, "noticed", found=lambda: account(stack, run_id)
    )
    took(f"kill of the GPU worker in epoch {trained + 1}: noticed after", noticed)
    again = wait_until(lambda: state(stack, run_id) == "running", 300, "train running")
    took("    running again after", noticed + again)
    wait_until(lambda: epochs() > trained, 60, "epochs after the kill", found=lambda: account(stack, run_id))

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
    assert stack.wait("vpoc_nightly", [run_id], 1800) == ["success"], stack.failures("vpoc_nightly", run_id)
    took("    run ended after its start", stack.run("vpoc_nightly", run_id)["duration"])
    tries = stack.task("vpoc_nightly", run_id, "train")["try_number"]
    assert tries >= 3, "the training ended before its container was replaced: TRAINING is too short"
    log = stack.log("vpoc_nightly", run_id, "train", tries)
    assert "Checkpoint after epoch" in log
    assert f"epoch 1 of {epochs_total}" not in log
    assert stack.digests(name) == digests_of(undisturbed)


def epoch_seconds(stack):
    """Return the median time of an epoch of the newest nightly run."""
    lines = stack.inside("worker", f"grep validation_loss /lake/runs/{newest_run(stack)}/progress.jsonl").splitlines()
    return statistics.median(json.loads(line)["seconds"] for line in lines)


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
