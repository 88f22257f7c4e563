"""The settings one by one: dotted key, field, JSON schema, text for a person, and the parser of typed numbers.

The trigger form, the command line and a run's conf all use it. ``form_fields`` makes the form. Airflow draws a number
as a widget that drops what is no digit, so that ``1e-4`` becomes 14, and then moves the value to the nearest limit.
Numbers are therefore text fields there, which ``resolve`` reads and validates. The conf of a run that is started over
REST may still hold JSON numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from vpoc_ml.config.presets import PRESETS, preset
from vpoc_ml.config.settings import RunConfig, Section
from vpoc_ml.errors import InvalidValueError

KINDS = ("integer", "number")  # of a JSON schema
EXACT = 2**53
"""Integers below it are exact as float64."""
_NUMBER = re.compile(r"[+-]?(\d+(_\d+)*(\.(\d+(_\d+)*)?)?|\.\d+(_\d+)*)([eE][+-]?\d+)?", re.ASCII)
LIMITS = {
    "exclusiveMinimum": "greater than",
    "minimum": "greater than or equal to",
    "exclusiveMaximum": "less than",
    "maximum": "less than or equal to",
}


def number(key: str, value: Any, schema: Mapping[str, Any]) -> int | float:
    """Return the number that ``value`` stands for, within the limits.

    Text may have a sign, a decimal point, an exponent and underscores between digits: ``-1``, ``.0005``, ``1E-3``,
    ``1_000``. An integer may be written in any of these forms as long as it is whole.

    Args:
        key: name of the field, for the message.
        value: text or a number.
        schema: JSON schema of the field: ``type`` and the limits.

    Raises:
        InvalidValueError: no number, a comma in it, not finite, not whole where the field is an integer, or outside
            the limits.
    """
    if isinstance(value, str):
        text = value.strip()
        found: int | float = float(text) if _NUMBER.fullmatch(text) else math.nan
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        found = math.nan
    else:
        found = value if abs(value) < EXACT else math.inf
    whole = schema["type"] == "integer"
    inside = (
        found > schema.get("exclusiveMinimum", -math.inf)
        and found >= schema.get("minimum", -math.inf)
        and found < schema.get("exclusiveMaximum", math.inf)
        and found <= schema.get("maximum", math.inf)
    )
    if not math.isfinite(found) or (whole and not float(found).is_integer()) or not inside:
        comma = isinstance(value, str) and "," in value
        hint = ", written with a decimal point and without thousands separators" if comma else ""
        raise InvalidValueError(key, value, describe(schema) + hint)
    return int(found) if whole else found


def describe(schema: Mapping[str, Any]) -> str:
    """Return type and limits of a number in words."""
    limits = [f"{words} {schema[name]:.15g}" for name, words in LIMITS.items() if name in schema]
    kind = "a valid integer" if schema["type"] == "integer" else "a valid number"
    return " ".join([kind, " and ".join(limits)]).rstrip()


def setting_keys() -> tuple[str, ...]:
    """Return the dotted key of every setting, in the order of the sections."""
    return tuple(f"{section}.{name}" for section, name, _ in every_setting())


def every_setting() -> Iterable[tuple[str, str, FieldInfo]]:
    """Yield section, name and field of every setting, in order."""
    for section in RunConfig.model_fields:
        if section != "preset":
            for name, field in section_class(section).model_fields.items():
                yield section, name, field


def section_class(section: str) -> type[Section]:
    """Return the class of a section of ``RunConfig``."""
    return type(RunConfig.model_fields[section].default)


def field_of(section: str, name: str) -> FieldInfo:
    """Return a setting's field."""
    return section_class(section).model_fields[name]


def setting_schema(section: str, name: str) -> dict[str, Any]:
    """Return the JSON schema of a setting; of one that may be none, the schema of its other values."""
    properties = _properties(section)[name]
    other: dict[str, Any] = next((each for each in properties.get("anyOf", ()) if each.get("type") != "null"), {})
    return {**properties, **other}


@cache
def _properties(section: str) -> dict[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = section_class(section).model_json_schema()["properties"]
    return properties


def shown(field: FieldInfo, value: Any) -> str:
    """Return a setting's value as text for a person; an empty one in the words of its ``empty``."""
    if value is None or value in ("", (), []):
        extra = field.json_schema_extra
        return str(extra.get("empty", "none")) if isinstance(extra, dict) else "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def changed_settings(config: RunConfig) -> list[str]:
    """Return what a configuration changes against its preset: ``training.epochs: 3 (nightly: 12)``, in order.

    A preset that no longer exists has no settings to compare with: nothing is returned.
    """
    if config.preset not in PRESETS:
        return []
    base, found = preset(config.preset), []
    for section, name, field in every_setting():
        value, own = (getattr(getattr(each, section), name) for each in (config, base))
        if value != own:
            found.append(f"{section}.{name}: {shown(field, value)} ({config.preset}: {shown(field, own)})")
    return found


def is_list(field: FieldInfo) -> bool:
    """Return whether a setting holds several values."""
    return get_origin(field.annotation) is tuple


def form_fields() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of every field of the trigger form, keyed by ``preset`` or dotted setting.

    An empty field means "as the preset says", so every setting is nullable and defaults to null. Each schema has
    ``section``, ``title`` and ``description``, which states the limits and the presets' values. A number or a list
    takes text or its JSON type; the limits in the schema hold for JSON numbers.
    """
    fields: dict[str, dict[str, Any]] = {
        "preset": {
            "default": "nightly",
            "type": "string",
            "enum": list(PRESETS),
            "section": "Run",
            "title": "preset",
            "description": "Named preset; the fields below override single settings of it.",
        }
    }
    presets = {name: preset(name) for name in PRESETS}
    for section, name, field in every_setting():
        values = {each: getattr(getattr(config, section), name) for each, config in presets.items()}
        schema = setting_schema(section, name)
        limits = f" {describe(schema).capitalize()}." if schema.get("type") in KINDS else ""
        distinct = {each: value for each, value in values.items() if each == "nightly" or value != values["nightly"]}
        listed = "; ".join(f"{each}: {shown(field, value)}" for each, value in distinct.items())
        others = "" if len(distinct) == len(values) else "; others as nightly"
        fields[f"{section}.{name}"] = {
            "default": None,
            **_typed(schema, [shown(field, value) for value in values.values() if value not in (None, ())]),
            "section": section.capitalize(),
            "title": f"{section}.{name}",
            "description": f"{field.description}{limits} Empty: as the preset says ({listed}{others}).",
        }
    return fields


def number_field(schema: Mapping[str, Any], examples: Iterable[str] = ()) -> dict[str, Any]:
    """Return type, limits and examples of a field that takes a number as text or as JSON.

    Airflow draws one text input for several types only where there are examples; otherwise its input for several
    types turns ``1.0`` into ``1`` while it is being typed.
    """
    limits = {name: schema[name] for name in LIMITS if name in schema}
    return {"type": ["null", "string", schema["type"]], **limits, "examples": list(dict.fromkeys(examples))}


def _typed(schema: Mapping[str, Any], examples: Iterable[str]) -> dict[str, Any]:
    if schema.get("type") in KINDS:
        return number_field(schema, examples)
    if schema.get("type") == "array":
        return {"type": ["null", "string", "array", "number"], "examples": list(dict.fromkeys(examples))}
    return {
        "type": ["null", schema.get("type", "string")],
        **({"enum": [None, *schema["enum"]]} if "enum" in schema else {}),
        **({"examples": schema["examples"]} if "examples" in schema else {}),
    }
