"""The trigger form of the DAGs, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from vpoc_ml.config.recipes import RECIPES
from vpoc_ml.config.settings import RunConfig, every_setting, is_list, section_class


def form_fields() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of every field of the trigger form, keyed by ``recipe`` or dotted setting.

    An empty field means "as the recipe says", so every setting is nullable and defaults to null.
    Each schema has ``section``, ``title``, ``description`` and the setting's own limits.
    """
    fields: dict[str, dict[str, Any]] = {
        "recipe": {
            "default": "nightly",
            "type": "string",
            "enum": list(RECIPES),
            "section": "Run",
            "title": "recipe",
            "description": "Named recipe; the fields below override single settings of it.",
        }
    }
    schema = RunConfig.model_json_schema()["$defs"]
    for section, name, field in every_setting():
        properties = _stated(schema[section_class(section).__name__]["properties"][name])
        limits = {key: value for key, value in properties.items() if key in _FORM_LIMITS}
        fields[f"{section}.{name}"] = {
            "default": None,
            "type": ["null", _form_type(field, properties)],
            "section": section.capitalize(),
            "title": f"{section}.{name}",
            "description": f"{field.description} Empty: as the recipe says (nightly: {_shown(field)}).",
            **limits,
            **({"enum": [None, *properties["enum"]]} if "enum" in properties else {}),
        }
    return fields


def _stated(properties: dict[str, Any]) -> dict[str, Any]:
    """Return a setting's schema; of one that may be none, the schema of what it may be else."""
    chosen: dict[str, Any] = next((each for each in properties.get("anyOf", ()) if each.get("type") != "null"), {})
    return {**properties, **chosen}


_FORM_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def _form_type(field: FieldInfo, properties: Mapping[str, Any]) -> str:
    return "string" if is_list(field) else str(properties.get("type", "string"))


def _shown(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, tuple):
        empty = "all" if "empty means all" in str(field.description) else "none"
        return ", ".join(map(str, default)) or empty
    return "none" if default is None else str(default)
