"""Single settings changed by dotted key: from a command line, a form, a run's conf."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from vpoc_ml.config.recipes import recipe
from vpoc_ml.config.settings import RunConfig, field_of, is_list, setting_keys
from vpoc_ml.errors import InvalidValueError, UnknownKeyError


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key=value`` of a command line; the value is JSON if it parses as JSON, else a string.

    Raises:
        InvalidValueError: there is no ``=``.
    """
    key, separator, raw = text.partition("=")
    if not separator:
        raise InvalidValueError("an override", text, "of the form key=value")
    try:
        return key.strip(), json.loads(raw)
    except json.JSONDecodeError:
        return key.strip(), raw.strip()


def resolve(name: str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Return the recipe ``name`` with dotted ``overrides`` applied.

    Raises:
        UnknownRecipeError: no such recipe.
        UnknownKeyError: an override names no setting; the nearest settings are suggested.
        InvalidValueError: a value is outside the setting's type or limits.
    """
    return change(recipe(name), overrides or {})


def change(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """Return ``config`` with dotted ``overrides`` applied.

    Raises:
        UnknownKeyError: an override names no setting; the nearest settings are suggested.
        InvalidValueError: a value is outside the setting's type or limits.
    """
    whole = config.model_dump()
    known = setting_keys()
    for key, value in overrides.items():
        if key not in known:
            raise UnknownKeyError(key, _nearest(key, known))
        section, field = key.split(".")
        whole[section][field] = _as_given(value, field_of(section, field))
    try:
        changed = RunConfig.model_validate(whole)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        raise InvalidValueError(key, first["input"], _expectation(first["msg"])) from error
    if changed.features.pair == changed.data.instrument:
        raise InvalidValueError("features.pair", changed.features.pair, "another instrument than data.instrument")
    return changed


def _nearest(key: str, known: Iterable[str]) -> list[str]:
    """Return the settings a mistyped key probably means: by spelling, or by the same last part."""
    known = list(known)
    last = key.rsplit(".", 1)[-1]
    same_name = [candidate for candidate in known if candidate.rsplit(".", 1)[-1] == last]
    return same_name or difflib.get_close_matches(key, known, n=2, cutoff=0.6)


def _as_given(value: Any, field: FieldInfo) -> Any:
    """A form and a command line give lists as text: ``a, b`` becomes ``(a, b)``, a lone number a list of one."""
    if is_list(field) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return (value,)
    if is_list(field) and isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _expectation(message: str) -> str:
    return message.removeprefix("Input should be ").removeprefix("Value error, ")
