"""How many tasks a cluster in containers starts, what a task costs beside its work, and two workers against one.

``python benchmarks/cluster_scale.py`` needs Docker and both images (docs/cluster.md) and starts a cluster of its own,
with one slot in each default worker. ``COMPOSE`` names the program, by default ``docker compose``. About half an hour.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the cluster is that of the tests

from tests.cluster.stack import SERVICES, Stack, market, run, wait_until

CONTRACTS = 12
IDLE = 30
"""Seconds over which the services are watched without a run."""
EMPTY_DAG = """
from airflow.sdk import dag, task

@task
def nothing(number: int) -> None: ...

@dag(schedule=None)
def empty() -> None:
    nothing.expand(number=list(range(60)))

empty()
"""
CPU = "cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || sed -n 's/^usage_usec //p' /sys/fs/cgroup/cpu.stat"
"""Prints nanoseconds with version 1 of control groups, microseconds with version 2."""


def main() -> None:
    """Measure with one worker and one GPU slot, then with two of both, and print the figures."""
    with tempfile.TemporaryDirectory(prefix="vpoc-scale-") as name:
        folder = Path(name)
        stack = Stack(folder, market(folder, CONTRACTS))
        try:
            stack.change({"WORKERS": "1", "WORKER_SLOTS": "1"})
            idle(stack)
            one = measured(stack, 1)
            stack.change({"WORKERS": "2", "GPU_SLOTS": "2"})
            stack.inside("scheduler", "airflow pools set gpu 2 'one slot for each training'")
            two = measured(stack, 2)
        finally:
            stack.stop()
    for what in one:
        print(f"{what}: two workers {one[what] / two[what]:.2f} x as fast as one")


def measured(stack: Stack, workers: int) -> dict[str, float]:
    """Return the seconds of each kind of work."""
    print(f"{workers} default workers, one slot each; {workers} slots of the GPU worker")
    # empty the lake: a run reuses what an earlier one has built
    stack.inside("worker", "find /lake -mindepth 1 -maxdepth 1 ! -name raw -exec rm -rf {} +")
    return {"backfill": backfill(stack), "folds": folds(stack), "tasks that do nothing": empty_tasks(stack)}


def idle(stack: Stack) -> None:
    """Print the CPU seconds of each service a minute without a run."""
    time.sleep(20)  # what follows the start of the services
    before = cpu_seconds(stack)
    time.sleep(IDLE)
    show("idle, CPU s a minute", before, cpu_seconds(stack), IDLE / 60)


def empty_tasks(stack: Stack) -> float:
    """Run tasks that do nothing; return the seconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(EMPTY_DAG)
        file.flush()
        Path(file.name).chmod(0o644)
        for service in ("dag-processor", "worker"):
            for container in stack.containers(service):
                run(["docker", "cp", file.name, f"{container}:/opt/airflow/dags/empty.py"], 60)
    wait_until(lambda: stack.call("GET", "/api/v2/dags/empty").status_code == 200, 400, "DAG empty")
    stack.call("PATCH", "/api/v2/dags/empty", {"is_paused": False}).raise_for_status()
    before = cpu_seconds(stack)
    return report(stack, "empty", ended(stack, "empty", [stack.trigger("empty", {})]), before)


def backfill(stack: Stack) -> float:
    """Build every contract by a backfill; return the seconds."""
    body = {
        "dag_id": "vpoc_contracts",
        "from_date": "2023-01-01T00:00:00Z",
        "to_date": "2025-12-31T00:00:00Z",
        "dag_run_conf": {"preset": "smoke"},
        "max_active_runs": 4,
        "reprocess_behavior": "completed",
    }
    known = newest(stack)
    before = cpu_seconds(stack)

    def created() -> bool:  # Airflow takes up to a minute to see that the last backfill has ended
        return stack.call("POST", "/api/v2/backfills", body).status_code == 200

    wait_until(created, 120, "a backfill", 3)
    wait_until(lambda: len(newest(stack) - known) >= CONTRACTS, 120, "a run of each contract")
    runs = [run_id for run_id, _ in newest(stack) - known]
    return report(stack, "vpoc_contracts", ended(stack, "vpoc_contracts", runs), before)


def folds(stack: Stack) -> float:
    """Train every walk-forward fold of a nightly run, which ends after them; return the seconds."""
    settings = {"training.epochs": 2, "evaluation.fold": "contract"}
    run_id = stack.trigger("vpoc_nightly", {"preset": "smoke", "overrides": settings})

    def succeeded(task: str) -> bool:
        run_state = stack.run("vpoc_nightly", run_id)["state"]
        assert run_state != "failed", stack.failures("vpoc_nightly", run_id)
        return stack.task("vpoc_nightly", run_id, task)["state"] == "success"

    wait_until(lambda: succeeded("plan_folds"), 1800, "a plan of the folds", 2)
    before = cpu_seconds(stack)
    wait_until(lambda: succeeded("build_track_record"), 1800, "a track record", 2)
    stack.call("PATCH", f"/api/v2/dags/vpoc_nightly/dagRuns/{run_id}", {"state": "failed"}).raise_for_status()
    trained = [task for task in stack.tasks("vpoc_nightly", run_id) if task["task_id"] == "train_fold"]
    return report(stack, "train_fold", trained, before)


def newest(stack: Stack) -> set[tuple[str, str]]:
    """Return id and time of queueing of every run of a contract."""
    runs = stack.get("/api/v2/dags/vpoc_contracts/dagRuns?limit=100")["dag_runs"]
    return {(each["dag_run_id"], each["queued_at"]) for each in runs}


def ended(stack: Stack, dag: str, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Wait for the success of runs; return their tasks."""
    states = stack.wait(dag, run_ids, 1800)
    assert set(states) == {"success"}, "\n".join(stack.failures(dag, each) for each in run_ids)
    return [task for each in run_ids for task in stack.tasks(dag, each)]


def report(stack: Stack, name: str, tasks: Sequence[dict[str, Any]], before: dict[str, float]) -> float:
    """Print times and CPU seconds of tasks that have ended; return the seconds from the first start to the last end."""
    after = cpu_seconds(stack)
    tasks = [task for task in tasks if task["start_date"] and task["end_date"]]
    begin, end = ([datetime.fromisoformat(task[key]) for task in tasks] for key in ("start_date", "end_date"))
    whole = (max(end) - min(begin)).total_seconds()
    each = statistics.median((last - first).total_seconds() for first, last in zip(begin, end, strict=True))
    print(f"  {name}: {len(tasks)} tasks in {whole:.1f} s, {60 * len(tasks) / whole:.1f} a minute, median {each:.2f} s")
    show("CPU s a task", before, after, len(tasks))
    return whole


def show(what: str, before: dict[str, float], after: dict[str, float], by: float) -> None:
    """Print the CPU seconds of each service between two moments, divided by ``by``."""
    used = {service: (after[service] - before[service]) / by for service in SERVICES}
    shown = ", ".join(f"{service} {value:.3f}" for service, value in used.items())
    print(f"    {what}: {shown}; all {sum(used.values()):.3f}", flush=True)


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Return the CPU seconds that the containers of each service have used."""
    unit = 1e9 if run(["docker", "info", "--format", "{{.CgroupVersion}}"], 60).strip() == "1" else 1e6
    used = {}
    for service in SERVICES:
        values = [stack.inside(service, CPU, index) for index in range(len(stack.containers(service)))]
        used[service] = sum(map(float, values)) / unit
    return used


if __name__ == "__main__":
    main()
