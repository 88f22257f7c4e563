"""Faults during a night: nothing is lost, and the result has the bits of an undisturbed run."""

from __future__ import annotations

import shlex

from .conftest import SETTINGS
from .stack import wait_until
from .test_cluster import CLI, digests, newest_run, on_command_line

FAULTY = SETTINGS | {"training.epochs": 300, "training.patience": 1000, "training.seed": 11}
HEARTBEAT = 60
"""Seconds after which compose.test.yaml has a dead worker noticed."""


def test_a_default_worker_dies_while_it_reads_a_file(stack, night, took):
    run_id = stack.trigger("vpoc_contracts", {"preset": "smoke", "overrides": {"ingest.bad_prints": 7}}, "ESM23")

    def ingesting():
        return stack.task("vpoc_contracts", run_id, "ingest_contract")["state"] == "running"

    wait_until(ingesting, 120, "ingest_contract running", 0.2)
    host = stack.task("vpoc_contracts", run_id, "ingest_contract")["hostname"]
    hosts = [stack.inside("worker", "hostname", index).strip() for index in (0, 1)]
    stack.kill("worker", hosts.index(host))
    noticed = wait_until(
        lambda: stack.task("vpoc_contracts", run_id, "ingest_contract")["state"] != "running", 200, "noticed"
    )
    took("default worker killed while ingesting: noticed", noticed)
    assert stack.wait("vpoc_contracts", [run_id], 400) == ["success"]
    assert stack.task("vpoc_contracts", run_id, "ingest_contract")["try_number"] == 2
    took("  run ended after", stack.run("vpoc_contracts", run_id)["duration"])
    stack.wait_healthy("worker")


def test_a_training_survives_every_fault_with_the_same_bits(stack, night, took):
    stack.compose("stop", "--timeout", "20", "worker-rocm")
    undisturbed = stack.beside("worker", on_command_line("undisturbed", FAULTY))
    run_id = stack.trigger("vpoc_nightly", {"preset": "smoke", "overrides": FAULTY})
    wait_until(lambda: state(stack, run_id) == "queued", 400, "train queued", 2)
    stack.compose("start", "worker-rocm")
    waited = wait_until(lambda: state(stack, run_id) == "running", 120, "train running")
    took("no GPU worker: train waits, and runs after the worker's start in", waited)
    name = newest_run(stack)

    def epochs() -> int:
        log = shlex.quote(f"/lake/runs/{name}/progress.jsonl")
        return int(stack.inside("worker", f"grep -c validation_loss {log} || true") or 0)

    wait_until(lambda: epochs() >= 2, 120, "two epochs")
    for service in ("api-server", "scheduler", "redis", "postgres"):
        before, action = epochs(), "restart" if service in ("redis", "postgres") else "kill"
        if action == "kill":
            stack.kill(service)
        else:
            stack.compose("restart", "--timeout", "30", service)
        took(f"{action} of {service}: healthy after", stack.wait_healthy(service))
        assert state(stack, run_id) == "running", service
        assert epochs() > before, service
    assert stack.task("vpoc_nightly", run_id, "train")["try_number"] == 1

    trained = epochs()
    stack.kill("worker-rocm")
    noticed = wait_until(lambda: state(stack, run_id) != "running", 3 * HEARTBEAT, "noticed")
    took(f"kill of the GPU worker in epoch {trained + 1}: noticed after", noticed)
    again = wait_until(lambda: state(stack, run_id) == "running", 300, "train running")
    took("    running again after", noticed + again)
    assert stack.wait("vpoc_nightly", [run_id], 1800) == ["success"], stack.failures("vpoc_nightly", run_id)
    assert stack.task("vpoc_nightly", run_id, "train")["try_number"] == 2
    log = stack.log("vpoc_nightly", run_id, "train", 2)
    assert "Checkpoint after epoch" in log
    assert "epoch 1 of 300" not in log
    took("    run ended after its start", stack.run("vpoc_nightly", run_id)["duration"])
    assert undisturbed.wait(900) == 0
    assert digests(stack, CLI, "undisturbed") == digests(stack, "/lake", name)


def state(stack, run_id):
    """Return the state of the training task."""
    return stack.task("vpoc_nightly", run_id, "train")["state"]
