"""The nightly run's question to a person, and what is done with the answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vpoc_airflow import stage_tasks

APPROVE, REJECT = "Approve", "Reject"
REQUEST = """{{ ti.xcom_pull(task_ids='decide')['evidence'] }}

[Report and gates of this run](/vpoc-reports/run/{{ dag.dag_id }}/{{ run_id | urlencode }})
"""
"""Body of the form, a template of Airflow: the evidence that stage ``decide`` returned, and the run's pages."""


def conclude(answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Promote, or carry out the answer to the question.

    A candidate that was answered for from the command line meanwhile stays as it was answered.

    Args:
        answer: what the form's operator returned; None if nobody was asked. Without a user nobody answered in time.
    """
    now = datetime.now(UTC)
    decision = stage_tasks.call("promote", now)
    if answer is None or decision["state"] != "waiting":
        return decision
    user = answer.get("responded_by_user")
    if user is None:
        return stage_tasks.call("expire", now)
    verdict = "approve" if answer["chosen_options"] == [APPROVE] else "reject"
    note = (answer.get("params_input") or {}).get("note") or ""
    return stage_tasks.call(verdict, now, name=user["name"], note=note, answered=answer["responded_at"])
