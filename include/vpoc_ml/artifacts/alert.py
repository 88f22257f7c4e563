"""An alert: one cause, what happened, what to do. ``alerts.jsonl`` of the lake has one record per line.

Light: DAG files import it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, Self

from vpoc_ml import environment
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.market.nights import CHICAGO


class AlertKind(StrEnum):
    """What an alert is about; ``VPOC_ALERT_MUTE`` names kinds that are recorded and not sent."""

    FAILED = "failed"
    GATE_FAILED = "gate-failed"
    REFUSED = "refused"
    WAITING = "waiting"
    NO_WORKER = "no-worker"
    DEADLINE = "deadline"
    MISSED_NIGHT = "missed-night"
    STALE_DATA = "stale-data"
    DECAY = "decay"
    RESOLVED = "resolved"
    TEST = "test"


class Alert(JsonArtifact):
    """An alert before it is sent.

    Attributes:
        kind: what it is about.
        cause: identity of the cause; alerts of one kind and cause are repetitions of each other.
        dag: id of the DAG; None outside a DAG.
        run: Airflow's id of the run; None where the cause is no run's.
        title: one line for a subject or a phone.
        found: what happened, with the reason.
        remedy: what to do.
        page: address of the run's reports page, or of Airflow.
    """

    kind: AlertKind
    cause: str
    dag: str | None = None
    run: str | None = None
    title: str
    found: str
    remedy: str
    page: str | None = None


class Delivery(JsonArtifact):
    """What one channel did with an alert; ``reason`` says why it failed, without any secret of the connection."""

    channel: str
    delivered: bool
    reason: str | None = None


class AlertRecord(Alert):
    """One line of ``alerts.jsonl``.

    Attributes:
        at: when, ISO timestamp, UTC.
        state: ``sent`` (or logged, where no channel is configured), ``repeated`` (not sent: the same cause was sent not
            long ago), ``muted`` (by the settings), ``undelivered`` (every channel failed).
        number: how many times the cause has occurred since ``first``.
        first: first occurrence since the cause was last resolved, ISO timestamp.
        deliveries: one per channel; none where no channel is configured or nothing was sent.
    """

    at: str
    state: Literal["sent", "repeated", "muted", "undelivered"]
    number: int = 1
    first: str
    deliveries: tuple[Delivery, ...] = ()

    def message(self) -> str:
        """Return the text of the message; every time in Chicago and UTC."""
        lines = [self.found, "", f"What to do: {self.remedy}", ""]
        if self.number > 1:
            lines.append(f"Occurrence {self.number} since {both_times(datetime.fromisoformat(self.first))}.")
        lines.append(f"Time: {both_times(datetime.fromisoformat(self.at))}")
        lines += [f"{name}: {value}" for name, value in (("Run", self.run), ("Page", self.page)) if value]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class AlertRules:
    """When an alert is raised and sent; the environment variables ``VPOC_ALERT_*``.

    Attributes:
        reminder: time after which the same cause is sent again; None: never.
        refused_nights: nights in a row with a refused candidate that raise an alert; 0: none do.
        stale_sessions: sessions missing after the newest bar that raise an alert; 0: none do.
        muted: kinds that are recorded and not sent.
    """

    reminder: timedelta | None = timedelta(hours=72)
    refused_nights: int = 10
    stale_sessions: int = 1
    muted: frozenset[str] = frozenset()

    @classmethod
    def read(cls) -> Self:
        """Return the rules of this process's environment.

        Raises:
            InvalidValueError: a variable holds no number within its limits, or no kind of alert.
        """
        muted = frozenset(filter(None, map(str.strip, (environment.read(environment.ALERT_MUTE) or "").split(","))))
        if unknown := muted - set(AlertKind):
            raise InvalidValueError(environment.ALERT_MUTE, ", ".join(sorted(unknown)), f"among {', '.join(AlertKind)}")
        hours = _number(environment.ALERT_REMINDER_HOURS, 72)
        return cls(
            reminder=timedelta(hours=hours) if hours else None,
            refused_nights=_number(environment.ALERT_REFUSED_NIGHTS, 10),
            stale_sessions=_number(environment.ALERT_STALE_SESSIONS, 1),
            muted=muted,
        )


def _number(name: str, default: int) -> int:
    text = environment.read(name)
    value = default if text is None else int(text) if text.isdecimal() else math.inf
    if value > 10_000:
        raise InvalidValueError(name, text, f"a whole number from 0 to 10000, such as {default}")
    return int(value)


def both_times(when: datetime) -> str:
    """Return an aware time in Chicago and UTC: ``Fri 2026-05-15 17:30 CDT (22:30 UTC)``; minutes."""
    local, utc = when.astimezone(CHICAGO), when.astimezone(UTC)
    date = "" if local.date() == utc.date() else f"{utc:%Y-%m-%d} "
    return f"{local:%a %Y-%m-%d %H:%M %Z} ({date}{utc:%H:%M} UTC)"
