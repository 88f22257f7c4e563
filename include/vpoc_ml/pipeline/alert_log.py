"""``alerts.jsonl``: every alert of a lake, and the rule that decides which of them are sent.

The file is the state. A cause is sent when it first occurs and as a reminder when it still occurs
``VPOC_ALERT_REMINDER_HOURS`` later; between the two it is recorded only. A cause that is resolved starts anew. One run
sends one message about its failure, however many of its tasks fail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Literal

from pydantic import ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.alert import Alert, AlertKind, AlertRecord, AlertRules, Delivery
from vpoc_ml.errors import VpocError
from vpoc_ml.lake.store import Lake

log = logging.getLogger(__name__)

Send = Callable[[AlertRecord], tuple[Delivery, ...]]
LOCK = "alerts"
LOCK_SECONDS = 60.0
"""Longer than all channels together need."""
OF_A_RUN = (AlertKind.FAILED, AlertKind.GATE_FAILED)
"""Kinds of which a run sends one message."""


def read_alerts(lake: Lake) -> list[AlertRecord]:
    """Return the records of a lake, oldest first. A damaged line is left out with a warning."""
    records = []
    for number, line in enumerate((lake.read_text(layout.ALERTS) or "").splitlines(), start=1):
        try:
            records.append(AlertRecord.model_validate_json(line))
        except ValidationError:
            log.warning("%s, line %d: expected an alert; it is ignored", lake.location(layout.ALERTS), number)
    return records


def raise_alert(lake: Lake | None, alert: Alert, now: datetime, rules: AlertRules, send: Send) -> AlertRecord | None:
    """Log, record and, if it is due, send an alert; return its record, None where the run has sent it before.

    A lake that cannot be read or written is logged; the alert is sent all the same.

    Args:
        lake: the lake with the record of earlier alerts; None where it cannot be opened.
        alert: what happened.
        now: time of the alert, aware.
        rules: when a repetition is sent.
        send: hands a record to every channel; it raises nothing.
    """
    with ExitStack() as held:
        past: list[AlertRecord] | None = None
        try:
            if lake is not None:
                held.enter_context(lake.writing(LOCK, wait_seconds=LOCK_SECONDS))
                past = read_alerts(lake)
        except (VpocError, OSError, UnicodeDecodeError) as error:
            log.error("The earlier alerts are not known: %s", error)
        if _is_recorded(alert, past or ()):
            return None
        record = _next(alert, past or (), now, rules)
        quiet = record.state in ("repeated", "muted") or alert.kind in (AlertKind.RESOLVED, AlertKind.TEST)
        log.log(logging.INFO if quiet else logging.ERROR, "Alert, %s: %s\n%s", record.state, alert.title, record.found)
        if record.state == "sent":
            deliveries = send(record)
            failed = bool(deliveries) and not any(each.delivered for each in deliveries)
            state: Literal["sent", "undelivered"] = "undelivered" if failed else "sent"
            record = record.model_copy(update={"deliveries": deliveries, "state": state})
        if lake is not None and past is not None:
            _append(lake, record)
    return record


def resolve(lake: Lake, prefixes: Sequence[str], still: Collection[str], now: datetime) -> list[Alert]:
    """Return an alert of kind ``resolved`` for every open cause that no longer occurs.

    Args:
        lake: the lake with the record of alerts.
        prefixes: beginnings of the causes that were checked, such as ``failed:vpoc_nightly:``.
        still: causes that occur.
        now: time of the check, aware.
    """
    newest = {record.cause: record for record in read_alerts(lake)}
    found = []
    for cause, record in newest.items():
        if record.kind != AlertKind.RESOLVED and cause.startswith(tuple(prefixes)) and cause not in still:
            days = (now - datetime.fromisoformat(record.first)).total_seconds() / 86_400
            text = f"{record.title}: it no longer occurs, {days:.1f} days after its first occurrence."
            own = {"kind": AlertKind.RESOLVED, "title": f"Resolved: {record.title}", "found": text, "run": None}
            found.append(Alert.model_validate({**record.to_json(), **own, "remedy": "Nothing.", "page": record.page}))
    return found


def _is_recorded(alert: Alert, past: Sequence[AlertRecord]) -> bool:
    """Return whether the alert's run has recorded it before: as a failure, or with the same cause."""
    if alert.run is None or alert.kind == AlertKind.RESOLVED:
        return False
    same = [each for each in past if (each.dag, each.run) == (alert.dag, alert.run) and each.state != "undelivered"]
    return any(each.cause == alert.cause or {each.kind, alert.kind} <= set(OF_A_RUN) for each in same)


def _next(alert: Alert, past: Sequence[AlertRecord], now: datetime, rules: AlertRules) -> AlertRecord:
    """Return the record of an alert before any channel has it."""
    group: list[AlertRecord] = []
    for record in past:
        if record.cause == alert.cause:
            group = [] if record.kind == AlertKind.RESOLVED else [*group, record]
    sent = [datetime.fromisoformat(each.at) for each in group if each.state == "sent"]
    state: Literal["sent", "repeated", "muted"] = "sent"
    if alert.kind in rules.muted or (alert.kind == AlertKind.RESOLVED and not sent):
        state = "muted"
    elif sent and alert.kind != AlertKind.RESOLVED and (rules.reminder is None or now - sent[-1] < rules.reminder):
        state = "repeated"
    at = now.astimezone(UTC).isoformat()
    first = group[0].at if group else at
    own = {"at": at, "state": state, "number": len(group) + 1, "first": first}
    return AlertRecord.model_validate(alert.to_json() | own)


def _append(lake: Lake, record: AlertRecord) -> None:
    """Add a line to the file by one atomic write; a failure is logged."""
    try:
        text = lake.read_text(layout.ALERTS) or ""
        gap = "" if not text or text.endswith("\n") else "\n"
        lake.write_text(layout.ALERTS, f"{text}{gap}{record.model_dump_json()}\n")
    except (VpocError, OSError) as error:
        log.error("The alert is not recorded: %s", error)
