"""A configuration made of text: settings changed by dotted key (command line, form, conf), or a run's stored file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vpoc_ml.config.presets import preset
from vpoc_ml.config.renamed import PARAMETERS, THRESHOLDS, current_names
from vpoc_ml.config.schema import KINDS, field_of, is_list, number, setting_keys, setting_schema
from vpoc_ml.config.settings import RunConfig
from vpoc_ml.errors import (
    InvalidValueError,
    InvalidValuesError,
    MissingInputError,
    UnknownKeyError,
    UnreadableFileError,
)


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key=value`` of a command line; the value is JSON if it parses as JSON, else a string.

    Raises:
        InvalidValueError: there is no ``=``, or the value nests too deeply.
    """
    key, separator, raw = text.partition("=")
    if not separator:
        raise InvalidValueError("an override", text, "of the form key=value")
    try:
        return key.strip(), json.loads(raw)
    except json.JSONDecodeError:
        return key.strip(), raw.strip()
    except RecursionError as error:
        raise InvalidValueError(key.strip(), f"{raw[:20]}...", "a value without deeply nested brackets") from error


def resolve(name: str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Return the preset ``name`` with dotted ``overrides`` applied.

    Raises:
        UnknownPresetError: no such preset.
        UnknownKeyError: an override names no setting; the nearest settings are suggested.
        InvalidValueError: a value is outside the setting's type or limits.
    """
    return change(preset(name), overrides or {})


def change(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """Return ``config`` with dotted ``overrides`` applied.

    Raises:
        UnknownKeyError: an override names no setting; the nearest settings are suggested.
        InvalidValueError: a value is outside the setting's type or limits; several of them are listed.
    """
    whole = config.model_dump()
    known = setting_keys()
    wrong: dict[str, InvalidValueError] = {}
    for key, value in current_names(overrides, "settings").items():
        section, _, field = key.partition(".")
        if key in PARAMETERS or key in THRESHOLDS:
            whole[section][field] = value
            continue
        if key not in known:
            last = key.rpartition(".")[2]
            same_name = [each for each in known if each.rpartition(".")[2] == last]
            raise UnknownKeyError(key, same_name or difflib.get_close_matches(key, known, n=2, cutoff=0.6))
        try:
            whole[section][field] = _as_given(key, value)
        except InvalidValueError as error:
            wrong[key] = error
    try:
        changed = RunConfig.model_validate(whole)
    except ValidationError as error:
        for each in error.errors():
            key, *inner = ".".join(map(str, each["loc"][:2])), *map(str, each["loc"][2:])
            message = each["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            expected = " ".join([*(part for part in inner if not part.isdigit()), message])
            given = overrides.get(key, each["input"]) if inner else each["input"]
            wrong.setdefault(key, InvalidValueError(key, given, expected))
    if wrong:
        raise next(iter(wrong.values())) if len(wrong) == 1 else InvalidValuesError(tuple(wrong.values()))
    if changed.features.pair == changed.data.instrument:
        raise InvalidValueError("features.pair", changed.features.pair, "another instrument than data.instrument")
    return changed


def _as_given(key: str, value: Any) -> Any:
    """Return a number as a number; a list as text, ``a, b``, becomes ``(a, b)``, a lone number a list of one."""
    section, name = key.split(".")
    field, schema = field_of(section, name), setting_schema(section, name)
    if schema.get("type") in KINDS and not (value is None and field.default is None):
        return number(key, value, schema)
    if not is_list(field):
        return value
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    elif not isinstance(value, (list, tuple)):
        value = [value]
    items = schema.get("items", {})
    return tuple(number(key, each, items) if items.get("type") in KINDS else each for each in value)


WHAT = "the configuration of a run"


def load_stored(stored: bytes, where: object) -> RunConfig:
    """Return the configuration that ``RunConfig.to_json`` wrote.

    Args:
        stored: content of a run's config.json.
        where: the path or URL of that file, for the error.

    Raises:
        UnreadableFileError: the content is damaged or holds what is no setting.
    """
    try:
        return RunConfig.model_validate_json(stored)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        found = f"{place}: {first['msg']}" if place else str(first["msg"])
        remedy = "Start the run again with its settings, or restore the file."
        raise UnreadableFileError(where, WHAT, found, remedy=remedy) from error


def read_config(run_dir: Path) -> RunConfig:
    """Return the configuration in the folder of a run.

    Raises:
        MissingInputError: there is no config.json.
        UnreadableFileError: it is damaged or holds what is no setting.
    """
    path = run_dir / "config.json"
    if not path.is_file():
        raise MissingInputError(path, WHAT, "Start the run first.")
    return load_stored(path.read_bytes(), path)
