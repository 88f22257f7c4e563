"""Checks of plugins: measured beside those of a gate, validated and reported like them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from vpoc_ml.errors import PluginError
from vpoc_ml.plugins import registered
from vpoc_ml.plugins.declared import OwnCheck
from vpoc_ml.plugins.registered import Plugin
from vpoc_ml.quality.checks import KEPT, Check, Limit, Measurement
from vpoc_ml.quality.measure import EXAMPLES
from vpoc_ml.quality.owner_texts import has_text

REMEDY = "Correct its function defects and run again."


class OwnChecks(NamedTuple):
    """The own checks of a gate, what they measured, and meaning and action by name; None without own checks."""

    checks: list[Check]
    measurements: list[Measurement]
    texts: dict[str, tuple[str, str]] | None


def own_checks(gate: str | None = None) -> list[Plugin]:
    """Return the own checks of the active plugins, of one gate or of all.

    Raises:
        PluginError: a name is that of a check of the product.
    """
    found = []
    for plugin in registered.of_kind("checks"):
        own: OwnCheck = plugin.value
        if has_text(own.gate, own.name):
            expected = f"a name that gate {own.gate} does not use"
            raise PluginError(plugin.origin, expected, own.name, "Rename the check.")
        if gate in (None, own.gate):
            found.append(plugin)
    return found


def measure_own(gate: str, tables: Mapping[str, pl.LazyFrame]) -> OwnChecks:
    """Make the own checks of a gate.

    Args:
        gate: name of the gate.
        tables: Contract code -> the table that the gate validates. A table that cannot be read is left to the checks of
            the product.

    Raises:
        PluginError: a check raised an error, or its result has no defective rows.
    """
    found = OwnChecks([], [], None)
    plugins = own_checks(gate)
    for plugin in plugins:
        own: OwnCheck = plugin.value
        fail, warn = (None if most is None else Limit(count=most) for most in (own.fail_above, own.warn_above))
        found.checks.append(Check(own.name, own.column, own.expected, fail, warn))
    for contract, table in tables.items() if plugins else ():
        try:
            rows = table.select(pl.len()).collect(engine="streaming").item()
        except (pl.exceptions.PolarsError, OSError):
            continue
        found.measurements.extend(_measured(plugin, contract, table, rows) for plugin in plugins)
    texts = {each.value.name: (each.value.meaning, each.value.action) for each in plugins}
    return found._replace(texts=texts or None)


def _measured(plugin: Plugin, contract: str, table: pl.LazyFrame, rows: int) -> Measurement:
    own: OwnCheck = plugin.value
    key = "session" if own.gate == "sessions" else "ts"
    expected = f"a frame of defective rows with column {key} from check {own.name}"
    try:
        result = own.defects(table)
        defects = result.collect(engine="streaming") if isinstance(result, pl.LazyFrame) else result
    except Exception as error:
        raise PluginError(plugin.origin, expected, f"{type(error).__name__}: {error}", REMEDY) from error
    if not isinstance(defects, pl.DataFrame) or key not in defects.columns:
        found = f"columns {', '.join(defects.columns)}" if isinstance(defects, pl.DataFrame) else repr(defects)
        raise PluginError(plugin.origin, expected, found, REMEDY)
    value = pl.col("value") if "value" in defects.columns else pl.lit(None)
    kept = defects.select(key, value.cast(pl.Float64).alias("value")).head(KEPT)
    first: tuple[Any, ...] = tuple(kept[key].head(EXAMPLES))
    values = tuple(kept["value"].head(EXAMPLES).drop_nulls())
    return Measurement(contract, own.column, own.name, defects.height, rows, first, values, found=kept)
