"""Trainings that wait to start: what for, since when, and when Airflow gives up. For the API server.

It reads Airflow's database and sends a request to the workers through the broker. The answer takes a second, or longer
if the broker is silent. The request therefore runs in the background, and a page waits for it for a limited time only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.models.log import Log
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import func, select

from vpoc_ml.artifacts.layout import dag_run_name
from vpoc_ml.broker import TRAIN_QUEUE, served_queues
from vpoc_ml.reports.schedule import WaitingTraining

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=1)
"""A shorter wait is normal and not shown."""
REQUEUED = "stuck in queued reschedule"
"""Event in Airflow's log of a task that has waited for ``task_queued_timeout`` and was queued again."""
FRESH_SECONDS = 30.0
"""How long an answer of the workers is shown."""
WAIT_SECONDS = 1.5
"""How long a request waits for it."""
ANSWER_SECONDS = 1.0
"""How long the workers may take to answer."""


class LivingQueues:
    """Queues that have a living worker. One request to the broker at a time runs in the background.

    Args:
        ask: sends the request and returns the queues; may raise, and may take long.
    """

    def __init__(self, ask: Callable[[], set[str]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="queues")
        self._answer: Future[set[str]] | None = None
        self._sent = 0.0

    def __call__(self) -> set[str] | None:
        """Return the queues; None if nobody answered in time."""
        with self._lock:
            old = time.monotonic() - self._sent > FRESH_SECONDS
            if self._answer is None or (old and self._answer.done()):
                self._answer, self._sent = self._pool.submit(self._ask), time.monotonic()
            answer = self._answer
        try:
            return answer.result(WAIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - every broker has errors of its own; the page says what to check
            log.warning("No answer about the workers' queues: %s: %s", type(error).__name__, error)
            return None


living_queues = LivingQueues(lambda: served_queues(conf.get_mandatory_value("celery", "broker_url"), ANSWER_SECONDS))


def waiting_trainings(
    session: Session, now: datetime, living: Callable[[], set[str] | None]
) -> tuple[WaitingTraining, ...]:
    """Return the tasks of the training queue that have waited for more than ``PATIENCE``, the longest wait first.

    Mapped tasks of one run that wait for the same are one entry.

    Args:
        session: of Airflow's database.
        now: the time, aware.
        living: returns the queues with a living Celery worker; None: it is not known.
    """
    task = TaskInstance
    chosen = select(task).where(task.queue == TRAIN_QUEUE, task.state.in_(["scheduled", "queued"]))
    groups: dict[tuple[str, str, str, str], list[tuple[datetime, TaskInstance]]] = defaultdict(list)
    for each in session.scalars(chosen):
        since = each.queued_dttm if each.state == "queued" else each.scheduled_dttm
        if since is not None and now - since > PATIENCE:
            groups[each.dag_id, each.run_id, each.task_id, str(each.state)].append((since, each))
    slots = Pool.slots_stats(session=session) if groups else {}
    once = cache(living)  # a silent broker must not cost a page its limit for every group
    found = [_waiting(session, tasks, slots, once) for tasks in groups.values()]
    return tuple(sorted(found, key=lambda each: each.since))


def _waiting(
    session: Session,
    tasks: list[tuple[datetime, TaskInstance]],
    slots: dict[str, Any],
    living: Callable[[], set[str] | None],
) -> WaitingTraining:
    since, first = min(tasks, key=lambda pair: pair[0])
    queued = first.state == "queued"
    executor = first.executor or str(conf.get_mandatory_value("core", "executor")).split(",")[0]
    served = living() if queued and "CeleryExecutor" in executor else None
    pool = slots.get(first.pool)
    return WaitingTraining(
        run=dag_run_name(first.dag_id, first.run_id),
        task=first.task_id,
        tasks=len(tasks),
        queued=queued,
        since=since,
        queue=TRAIN_QUEUE,
        executor=executor,
        pool=first.pool,
        slots=None if pool is None else (max(pool["open"], 0), pool["total"]),
        worker=None if served is None else TRAIN_QUEUE in served,
        gives_up=_gives_up(session, first) if queued else None,
    )


def _gives_up(session: Session, task: TaskInstance) -> datetime | None:
    """Return when Airflow fails a queued task: it queues one again a few times, each time for the same limit."""
    of_task = (Log.dag_id, Log.run_id, Log.task_id, Log.map_index, Log.try_number)
    key = (task.dag_id, task.run_id, task.task_id, task.map_index, task.try_number)
    same = [column == value for column, value in zip(of_task, key, strict=True)]
    events = session.scalar(select(func.count()).select_from(Log).where(*same, Log.event == REQUEUED)) or 0
    waits = max(conf.getint("scheduler", "num_stuck_in_queued_retries", fallback=2) - events, 0) + 1
    limit = timedelta(seconds=conf.getfloat("scheduler", "task_queued_timeout"))
    return None if task.queued_dttm is None else task.queued_dttm + waits * limit
