"""Promotion and rollback by hand: the form, and the change of the champion in a person's name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param

from vpoc_airflow import stage_tasks, start
from vpoc_ml import pipeline
from vpoc_ml.environment import lake_uri
from vpoc_ml.errors import InputError, RegistryError

PROMOTE, ROLLBACK = "promote", "rollback"
FIELDS: start.Fields = {
    "action": {
        "type": "string",
        "enum": [PROMOTE, ROLLBACK],
        "default": PROMOTE,
        "description": "promote: the candidate of a run or version; rollback: restore the previous champion.",
    },
    "reason": {
        "type": "string",
        "minLength": 1,
        "description": "Reason; goes to the ledger, of a promotion also to the report.",
    },
    "run": {
        "type": ["null", "string"],
        "description": "promote: name of the candidate's run, its folder below runs/; or fill in the version.",
    },
    "version": {
        "type": ["null", "integer"],
        "minimum": 1,
        "description": "promote: registered version of the candidate. rollback: the current champion; if it is another"
        " one by now, nothing changes.",
    },
    "key": {
        "type": ["null", "string"],
        "description": "Instrument, horizon and target, such as ES-1m-rank. rollback: may be empty with one champion."
        " promote: if filled in, the version must be of this key.",
    },
    "override": {
        "type": "boolean",
        "default": False,
        "description": "promote: also if the promotion rule refuses. It is marked as such with your name and reason. A"
        " failed gate cannot be overridden.",
    },
    "name": {
        "type": ["null", "string"],
        "description": "Who decides; empty means the user of Airflow who triggered the run.",
    },
}


def form_params() -> dict[str, Param]:
    """Return the params of the DAG. The reason has no default, so that nobody can leave it out."""
    optional = {name: {"default": None, **schema} for name, schema in FIELDS.items() if name != "reason"}
    fields = {name: optional.get(name, FIELDS[name]) for name in FIELDS}
    return {name: Param(section="Champion", title=name, **schema) for name, schema in fields.items()}


def action(params: Mapping[str, Any], dag_run: Any) -> str:
    """Return the action of the form, ``PROMOTE`` or ``ROLLBACK``, which is the name of its task.

    Raises:
        AirflowFailException: the conf has an unknown key.
    """
    with stage_tasks.recorded(stage_tasks.current_run(), "read_request"):
        return str(start.with_conf(params, dag_run.conf, FIELDS)["action"])


def promote(params: Mapping[str, Any], dag_run: Any) -> dict[str, Any]:
    """Decide anew about the candidate of the form and return the decision.

    Raises:
        AirflowFailException: the request is incomplete, or the candidate is refused.
    """
    with stage_tasks.recorded(stage_tasks.current_run(), "promote"):
        request = start.with_conf(params, dag_run.conf, FIELDS)
        actor, now = actor_of(request["name"], dag_run.triggering_user_name), datetime.now(UTC)
        run, version = request["run"] or None, request["version"]
        if (run is None) == (version is None):
            raise InputError("Expected a candidate in one of the fields run and version; fill in exactly one of them.")
        run = run or pipeline.run_of_version(lake_uri(), version, request["key"] or None)
        reason, override = request["reason"] or "", request["override"]
        decision = pipeline.promote_by_hand(lake_uri(), run, now, reason, name=actor, override=override)
        if decision.state not in ("promoted", "waiting"):
            found = " ".join([*decision.remarks, *decision.reasons])
            raise RegistryError(f"Expected run {run} to be accepted; it is {decision.state}. {found}")
        return decision.to_json()


def rollback(params: Mapping[str, Any], dag_run: Any) -> dict[str, Any]:
    """Restore the previous champion and return which one that is.

    Raises:
        AirflowFailException: the request is incomplete, or there is no champion to restore.
    """
    with stage_tasks.recorded(stage_tasks.current_run(), "rollback"):
        request = start.with_conf(params, dag_run.conf, FIELDS)
        actor, now = actor_of(request["name"], dag_run.triggering_user_name), datetime.now(UTC)
        reason, key = request["reason"] or "", request["key"] or None
        restored = pipeline.rollback(lake_uri(), reason, now, key, name=actor, expected=request["version"])
        return restored.to_json()


def actor_of(name: str | None, user: str | None) -> str:
    """Return who decides: the name of the form with the user of Airflow behind it, or the user alone.

    Raises:
        InputError: neither is known.
    """
    name, user = (name or "").strip(), (user or "").strip()
    if not name and not user:
        raise InputError("Expected the name of the person who decides; was empty. Fill in the field name.")
    return f"{name} (user {user})" if name and user and name != user else name or user
