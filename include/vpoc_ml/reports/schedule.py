"""What the scheduler knows of runs, of requests for approval and of waiting trainings, as the pages need it.

The web server fills it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

NIGHTLY = "vpoc_nightly"
"""Id of the nightly DAG."""

RunState = Literal["queued", "running", "success", "failed"]


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """A run of the nightly DAG.

    Attributes:
        name: name of its folder in the lake, which may not exist.
        dag_id, run_id: its names in the scheduler.
        state: of the whole run.
        due: when it was due, UTC.
        failed: tasks that failed, in the order in which they ended.
        skipped: its first task found nothing to do, as on a holiday.
        waiting: a person must answer its request for approval.
    """

    name: str
    dag_id: str
    run_id: str
    state: RunState
    due: datetime
    failed: tuple[str, ...] = ()
    skipped: bool = False
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A request for approval of a nightly run.

    Attributes:
        run: name of the run's folder in the lake.
        path: path of the scheduler's page where a person answers it.
        requested, expires: when it was made, and when it expires (UTC); None: it is not known.
        answered: when it was answered, or expired; None: it is open.
        answer: chosen option; "" while it is open.
        user: who answered; None while it is open, and if nobody answered in time.
        note: remark of the person.
    """

    run: str
    path: str
    requested: datetime
    expires: datetime | None = None
    answered: datetime | None = None
    answer: str = ""
    user: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class WaitingTraining:
    """A task that trains and has not started yet, or several mapped ones of a run that wait for the same.

    Attributes:
        run: name of the run's folder in the lake, which may not exist.
        task: its name.
        tasks: number of tasks.
        queued: it waits for a worker, else for a slot of the pool.
        since: when this wait began, UTC.
        queue: Celery queue that its workers serve.
        executor: executor that starts it.
        pool: pool whose slot it needs.
        slots: free slots and all slots of the pool, infinite where it has no limit; None: there is no such pool.
        worker: whether a living worker serves the queue; None: it is not known.
        gives_up: when Airflow fails it if it has not started by then, UTC; None while it waits for a slot.
    """

    run: str
    task: str
    tasks: int
    queued: bool
    since: datetime
    queue: str
    executor: str
    pool: str
    slots: tuple[float, float] | None = None
    worker: bool | None = None
    gives_up: datetime | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """The nightly DAG: its newest runs; when the next one is due (UTC; None: none is); whether it is paused."""

    runs: tuple[ScheduledRun, ...] = ()
    next_run: datetime | None = None
    paused: bool = False
