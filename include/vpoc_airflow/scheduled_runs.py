"""What Airflow's database knows of the nightly runs: states, failed tasks, requests for approval, the next run.

For the API server, which may read the database; tasks may not.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.hitl_history import HITLDetailHistory
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

from vpoc_ml.artifacts.layout import dag_run_name
from vpoc_ml.reports.schedule import NIGHTLY, ApprovalRequest, RunState, Schedule, ScheduledRun

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NEWEST = 400
"""Runs that are read: more than a year of nights."""
FIRST_TASK, APPROVAL_TASK = "resolve_config", "approve"
STATES: dict[str, RunState] = {"queued": "queued", "running": "running", "success": "success", "failed": "failed"}


def nightly_schedule(session: Session) -> Schedule:
    """Return the newest runs of the nightly DAG, newest first, and when the next one is due."""
    columns = DagRun.run_id, DagRun.state, DagRun.run_after
    newest = select(*columns).where(DagRun.dag_id == NIGHTLY).order_by(DagRun.run_after.desc()).limit(NEWEST)
    found = session.execute(newest).all()
    tasks: dict[str, list[tuple[str, str]]] = defaultdict(list)
    if found:
        task = TaskInstance
        telling = [TaskInstanceState.FAILED, TaskInstanceState.SKIPPED, TaskInstanceState.AWAITING_INPUT]
        states = (
            select(task.run_id, task.task_id, task.state)
            .where(task.dag_id == NIGHTLY, task.run_id.in_([run.run_id for run in found]), task.state.in_(telling))
            .order_by(task.end_date, task.task_id)
        )
        for run_id, task_id, state in session.execute(states):
            tasks[run_id].append((task_id, str(state)))
    runs = tuple(
        ScheduledRun(
            name=dag_run_name(NIGHTLY, run.run_id),
            dag_id=NIGHTLY,
            run_id=run.run_id,
            state=STATES[str(run.state)],
            due=run.run_after,
            failed=tuple(dict.fromkeys(name for name, state in tasks[run.run_id] if state == "failed")),
            skipped=(FIRST_TASK, "skipped") in tasks[run.run_id],
            waiting=(APPROVAL_TASK, "awaiting_input") in tasks[run.run_id],
        )
        for run in found
    )
    dag = session.get(DagModel, NIGHTLY)
    if dag is None:
        return Schedule(runs)
    return Schedule(runs, dag.next_dagrun_create_after, bool(dag.is_paused))


def approval_requests(session: Session) -> tuple[ApprovalRequest, ...]:
    """Return the requests for approval of the nightly DAG, the newest first; those of cleared tasks too."""
    tables = (
        (HITLDetail, HITLDetail.ti_id == TaskInstance.id, TaskInstance),
        (
            HITLDetailHistory,
            HITLDetailHistory.ti_history_id == TaskInstanceHistory.task_instance_id,
            TaskInstanceHistory,
        ),
    )
    found: list[Any] = []
    for detail, of_task, task in tables:
        chosen = select(detail, task.run_id, task.trigger_timeout).join(task, of_task)
        chosen = chosen.where(task.dag_id == NIGHTLY, task.task_id == APPROVAL_TASK)
        found += session.execute(chosen.order_by(detail.created_at.desc()).limit(NEWEST)).all()
    requests = (_request(*each) for each in found)
    return tuple(sorted(requests, key=lambda each: each.requested, reverse=True))


def _request(detail: HITLDetail | HITLDetailHistory, run_id: str, expires: datetime | None) -> ApprovalRequest:
    return ApprovalRequest(
        run=dag_run_name(NIGHTLY, run_id),
        path=f"/dags/{NIGHTLY}/runs/{quote(run_id, safe='')}/tasks/{APPROVAL_TASK}/required_actions",
        requested=detail.created_at,
        expires=expires and expires.replace(tzinfo=UTC),  # the column of cleared tasks has no zone
        answered=detail.responded_at,
        answer=", ".join(detail.chosen_options or ()) if detail.responded_at else "",
        user=detail.responded_by_user_name,
        note=(detail.params_input or {}).get("note") or "",
    )
