"""The nightly run's request for approval, and what is done with the answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vpoc_airflow import stage_tasks
from vpoc_ml import pipeline

APPROVE, REJECT = "Approve", "Reject"
REQUEST = """{{ ti.xcom_pull(task_ids='decide')['evidence'] }}

[Report and gates of this run](/vpoc-reports/run/{{ dag.dag_id }}/{{ run_id | urlencode }})
"""
"""Body of the form, a template of Airflow: the evidence that stage ``decide`` returned, and the run's pages."""


def conclude(answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Promote the candidate, or carry out the answer to the request; return the decision.

    An answer that came from the command line in the meantime stays.

    Args:
        answer: what the form's operator returned; None if no approval was required. It has no user if nobody answered
            in time.
    """
    now = datetime.now(UTC)
    decision: dict[str, Any] = stage_tasks.call(pipeline.promote, now)
    if answer is None or decision["state"] != "waiting":
        return decision
    user = answer.get("responded_by_user")
    if user is None:
        return stage_tasks.call(pipeline.expire, now)
    stage = pipeline.approve if answer["chosen_options"] == [APPROVE] else pipeline.reject
    note = (answer.get("params_input") or {}).get("note") or ""
    return stage_tasks.call(stage, now, name=user["name"], note=note, answered=answer["responded_at"])
