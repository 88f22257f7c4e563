"""The trigger form of the DAGs, made from the settings.

Airflow draws a number as a widget that drops what is no digit, so that ``1e-4`` becomes 14, and then moves the value
to the nearest limit. Numbers are therefore text fields here, which ``resolve`` reads and validates. The conf of a run
that is started over REST may still hold JSON numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vpoc_ml.config.presets import PRESETS, preset
from vpoc_ml.config.schema import KINDS, LIMITS, describe, every_setting, setting_schema, shown


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
        fields[f"{section}.{name}"] = {
            "default": None,
            **_typed(schema, [shown(field, value) for value in values.values() if value not in (None, ())]),
            "section": section.capitalize(),
            "title": f"{section}.{name}",
            "description": f"{field.description}{limits} Empty: as the preset says ({listed}).",
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
