"""How a run starts: the trigger form, the check of its keys, the session and the resolved configuration."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

from vpoc_airflow import alerts, stage_tasks
from vpoc_airflow.schedule import instrument_override
from vpoc_ml import config, pipeline
from vpoc_ml.config import form_fields, setting_keys
from vpoc_ml.config.renamed import current_names
from vpoc_ml.config.schema import changed_settings, field_of, shown
from vpoc_ml.errors import InvalidValueError, UnknownKeyError
from vpoc_ml.market.instruments import instrument
from vpoc_ml.market.nights import CHICAGO

log = logging.getLogger(__name__)

CONF = "conf of the run"
Fields = Mapping[str, dict[str, Any]]

SESSION: Fields = {
    "session": {
        "type": ["null", "string"],  # no format: a date picker sends nothing for a day such as 30 February
        "description": "Session of a past night, such as 2025-03-17; empty means now. A run of a past night uses only"
        " what was known at 17:30 Chicago of that day, and its decision changes no champion.",
    },
}
_RUN_FIELDS: Fields = {
    "raw": {
        "type": ["null", "string"],
        "description": "Folder of the vendor's contract files, on the worker; empty means raw/ of the lake.",
    },
    "vix": {
        "type": ["null", "string"],
        "description": "File of VIX closes, on the worker; empty means the one in raw/ of the lake.",
    },
    "overrides": {
        "type": ["object", "null", "array", "string", "number", "boolean"],
        "examples": [],  # with examples Airflow draws the editor of the first type
        "description": 'Settings by dotted name, such as {"training.epochs": 3}; they override the fields below.',
    },
}


COMMON = (
    "data.contracts",
    "dataset.horizon",
    "model.kind",
    "training.epochs",
    "training.learning_rate",
    "evaluation.fold",
    "quality.level",
    "promotion.level",
    "promotion.require_approval",
    "machine.device",
)
"""Settings that most manual runs change, in the first section of the form."""
SECTIONS = tuple(dict.fromkeys(key.split(".")[0] for key in setting_keys()))
"""Sections of the settings, in their order."""


def form_params(
    first: Fields = SESSION,
    settings: Collection[str] = SECTIONS,
    common: Collection[str] = COMMON,
    leave_out: Collection[str] = (),
) -> dict[str, Param]:
    """Return a DAG's params: section Common, the run's own fields, then the other settings in their sections.

    Args:
        first: schemas of the fields that only this DAG has; they lead section Common.
        settings: sections and single settings that the DAG's stages read. The conf of a run accepts the others too.
        common: settings of section Common.
        leave_out: settings that the DAG decides itself.
    """
    known = form_fields()
    base = {"preset": known.pop("preset")}
    fields = {
        name: field
        for name, field in known.items()
        if (name in settings or name.split(".")[0] in settings) and name not in leave_out
    }
    own = {name: {"default": None, "title": name, **schema} for name, schema in {**first, **_RUN_FIELDS}.items()}
    leading = {name: own.pop(name) for name in first} | base
    leading |= {name: fields.pop(name) for name in common if name in fields}
    sections = ("Common", leading), ("Run", own)
    placed = {name: {**schema, "section": title} for title, part in sections for name, schema in part.items()}
    return {name: Param(**_choices(schema)) for name, schema in (placed | fields).items()}


def _choices(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a setting with few values a list with a word for null; a typed boolean would be a switch without it."""
    if schema["type"] == ["null", "boolean"]:
        schema = {key: value for key, value in schema.items() if key != "type"} | {"enum": [None, True, False]}
    if None in schema.get("enum", ()):
        schema = schema | {"values_display": {"null": "as the preset says"}}
    return schema


def with_conf(params: Mapping[str, Any], conf: Mapping[str, Any] | None, known: Iterable[str]) -> dict[str, Any]:
    """Return a run's params with the keys of its conf, those of the previous release under today's names.

    Airflow itself accepts and ignores keys of a conf that no field reads.

    Raises:
        UnknownKeyError: a key is not a field; the nearest fields are suggested.
    """
    known, given = list(known), current_names(conf or {}, CONF)
    for key in given:
        if key not in known:
            same = [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
            raise UnknownKeyError(key, same or difflib.get_close_matches(key, known, n=2), where=CONF)
    return {**params, **given}


def night_of(calendar: str, run_type: str, run_after: datetime, session: str | None, now: datetime) -> datetime | None:
    """Return the moment that a run of a past night is limited to, UTC; None for a live night.

    The night is that of the named session, else that of a backfill's date. A scheduled run is live.
    See ``past_night``.

    Args:
        calendar: of the instrument.
        run_type: a string, or Airflow's enum of strings.
        run_after: when the run may start, timezone-aware.
        session: a day, year first; None or empty: none was named.
        now: clock of the run, timezone-aware.

    Raises:
        AirflowSkipException: a scheduled or backfilled run falls on a day without a session.
        InvalidValueError: ``session`` is no day, has no session, or is not over at ``now``.
    """
    from vpoc_ml.market.exchange_calendar import is_session
    from vpoc_ml.market.nights import past_night

    if session:
        try:  # of ISO's forms only the one with dashes
            day = datetime.strptime(session.strip(), "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
        except ValueError as error:
            raise InvalidValueError("session", session, "a day, year first, such as 2025-03-17") from error
        return past_night(calendar, day, now)
    day = run_after.astimezone(CHICAGO).date()
    if run_type in ("scheduled", "backfill") and not is_session(calendar, day):
        raise AirflowSkipException(f"{calendar} has no session on {day}: nothing to do tonight.")
    return past_night(calendar, day, now) if run_type == "backfill" else None


def resolve(params: Mapping[str, Any], dag_run: Any) -> dict[str, Any]:
    """Check a nightly run's conf and the registry, resolve and store its configuration, show it in the log, return it.

    Raises:
        AirflowFailException: a value or the registry's server refuses; see ``check_registry``.
    """
    from vpoc_ml.pipeline.champion_stages import check_registry

    with stage_tasks.recorded(stage_tasks.current_run(), "resolve_config"):
        params = with_conf(params, dag_run.conf, [*form_params(), *setting_keys()])
        now = dag_run.start_date or dag_run.run_after  # the time after which a backfill's run may start is past
        settings = instrument_override() | overrides(params)
        calendar = instrument(config.resolve(params["preset"], settings).data.instrument).calendar
        as_of = night_of(calendar, dag_run.run_type, dag_run.run_after, params["session"], now)
        check_registry(stage_tasks.open_lake())
    resolved = begin(params, settings, now, as_of)
    alerts.training_worker_missing(dag_run.dag_id, dag_run.run_id)
    return resolved


def overrides(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by dotted name that a form's fields and its ``overrides`` change.

    Raises:
        InvalidValueError: ``overrides`` is not an object.
    """
    fields = {key: params[key] for key in setting_keys() if params.get(key) is not None}
    more = params["overrides"]
    if more is not None and not isinstance(more, dict):
        raise InvalidValueError("overrides", more, 'empty or a JSON object such as {"training.epochs": 3}')
    return fields | (more or {})


def begin(
    params: Mapping[str, Any], settings: Mapping[str, Any], now: datetime, as_of: datetime | None = None
) -> dict[str, Any]:
    """Start the pipeline's run with ``settings`` on top of the form's preset, show the configuration, return it.

    The log begins with what differs from the preset.
    """
    result = stage_tasks.call(
        pipeline.start_run, params["preset"], dict(settings), params["raw"], params["vix"], now, as_of
    )
    resolved = config.RunConfig.model_validate(result["config"])
    inputs = [f"{name}: {params[name]}" for name in ("raw", "vix") if params[name]]
    changed = [*changed_settings(resolved), *inputs]
    log.info("Changed against preset %s: %s", result["preset"], f"{len(changed)} value(s)" if changed else "nothing")
    for line in changed:
        log.info("  %s", line)
    if as_of is not None:
        log.info("Run of a past night: it uses only what was known at %s.", as_of.isoformat())
    log.info("Preset %s, configuration %s, as of this run:", result["preset"], result["config_hash"])
    for section, values in result["config"].items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            key, text = f"{section}.{name}", shown(field_of(section, name), value)
            log.info("  %-32s %s%s", key, text, "   <- override" if key in settings else "")
    return result
