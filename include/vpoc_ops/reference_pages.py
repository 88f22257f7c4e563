"""A hook of MkDocs that fills the reference pages from the code; ``mkdocs.yml`` names this file.

A page of ``docs/reference/`` has a line such as ``{{ settings }}``. The function of that name returns what replaces it.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

import polars as pl

from vpoc_ml import environment, errors
from vpoc_ml.artifacts import schemas
from vpoc_ml.config import PRESETS, DatasetConfig, QualityConfig, QualityThresholds, form_fields, preset
from vpoc_ml.config.schema import every_setting, section_class, shown
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.pipeline.stages import STAGES
from vpoc_ml.quality.checks import Check, MarketFacts
from vpoc_ml.quality.owner_texts import owner_text
from vpoc_ml.quality.rules import (
    bars_gate,
    candidate_gate,
    features_gate,
    predictions_gate,
    sessions_gate,
    training_set_gate,
)

FEW = 4
"""Columns that a row of the table of checks names; of more it gives the number."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the lines ``{{ name }}`` of a page by what the function of that name returns.

    Raises:
        KeyError: no such function.
    """
    return re.sub(r"^{{ (\w+) }}$", lambda found: TABLES[found[1]](), markdown, flags=re.MULTILINE)


def settings() -> str:
    """Every setting by section: key, what it means, and the presets' values."""
    fields, parts = form_fields(), []
    for section, members in groupby(every_setting(), key=lambda each: each[0]):
        text = inspect.getdoc(section_class(section)) or ""
        rows = []
        for _, name, _ in members:
            meaning = fields[f"{section}.{name}"]["description"].replace(" Empty: as the preset says", "")
            rows.append((f"`{section}.{name}`", meaning.replace("[", "\\[")))
        parts.append(f"## {section}\n\n{text}\n\n{table(('setting', 'meaning'), rows)}")
    return "\n\n".join(parts)


def presets() -> str:
    """The settings in which the presets differ."""
    configs = {name: preset(name) for name in PRESETS}
    rows = []
    for section, name, field in every_setting():
        values = [shown(field, getattr(getattr(config, section), name)) for config in configs.values()]
        if len(set(values)) > 1:
            rows.append((f"`{section}.{name}`", *values))
    return table(("setting", *configs), rows)


def command_line() -> str:
    """Every command with its arguments and options, as ``typer`` documents them."""
    from typer.cli import app

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        app(["vpoc_ml.cli", "utils", "docs", "--name", "vpoc-ml"], standalone_mode=False)
    return out.getvalue().split("\n", 1)[1]


def stages() -> str:
    """The stages in their order: how often each is called, what it needs and what it writes."""
    rows = [
        (stage.name, stage.scope, ", ".join(stage.needs) or "-", ", ".join(f"`{key}`" for key in stage.produces) or "-")
        for stage in STAGES
    ]
    return table(("stage", "once per", "needs", "writes"), rows)


def tables() -> str:
    """The stored tables: columns, types and what a row is."""
    source = inspect.getsource(schemas)
    parts = []
    for name in re.findall(r"^([A-Z_]+): Schema", source, flags=re.MULTILINE):
        columns: Mapping[str, pl.DataType] = getattr(schemas, name)
        text = re.search(rf"^{name}: Schema = (?:{{.*?^}}|[^\n]*)\n\"\"\"(.*?)\"\"\"", source, re.MULTILINE | re.DOTALL)
        rows = [(f"`{column}`", str(dtype)) for column, dtype in columns.items()]
        parts.append(f"## {name}\n\n{text[1] if text else ''}\n\n{table(('column', 'type'), rows)}")
    return "\n\n".join(parts)


def checks() -> str:
    """The checks of each gate with the default limits: severity, meaning and what to do."""
    thresholds, market = QualityThresholds(), MarketFacts(0.25, price_range=(1.0, 1e5), equity_index=True)
    gates: dict[str, Iterable[Check]] = {
        "bars": bars_gate.checks(QualityConfig(), market),
        "sessions": sessions_gate.checks(thresholds),
        "features": features_gate.checks(REGISTRY, thresholds),
        "training-set": training_set_gate.checks(tuple(REGISTRY), DatasetConfig(), thresholds),
        "candidate": candidate_gate.CHECKS,
        "predictions": predictions_gate.CHECKS,
    }
    return "\n\n".join(f"## {gate}\n\n{_checks_of(gate, own)}" for gate, own in gates.items())


def _checks_of(gate: str, own: Iterable[Check]) -> str:
    """Return the table of a gate, one row for each name of a check."""
    rows = []
    named: dict[str, list[Check]] = {}
    for check in own:
        named.setdefault(check.name, []).append(check)
    for name, same in named.items():
        first, text = same[0], owner_text(gate, name)
        columns = list(dict.fromkeys(check.column for check in same))
        listed = ", ".join(f"`{column}`" for column in columns) if len(columns) <= FEW else f"{len(columns)} columns"
        limits = {"critical": first.error_if, "warning": first.warn_if, "info": first.info_if}
        severity = "; ".join(f"{level}{limit.text}" for level, limit in limits.items() if limit is not None)
        rows.append((name, listed, first.expected, severity, f"{text.meaning} {text.action}"))
    return table(("check", "column", "expected", "severity", "meaning and what to do"), rows)


def variables() -> str:
    """Every environment variable with its meaning, as the docstrings of ``vpoc_ml.environment`` say."""
    known = re.findall(
        r'^[A-Z_]+ = "(VPOC_\w+)"[^\n]*\n"""(.*?)"""', inspect.getsource(environment), re.MULTILINE | re.DOTALL
    )
    return table(("variable", "meaning"), [(f"`{name}`", text.replace("``", "`")) for name, text in known])


def exit_codes() -> str:
    """The typed errors with the exit code of ``vpoc-ml`` and what each says."""
    found = [
        each
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, errors.VpocError) and each is not errors.VpocError
    ]
    rows = [(each.exit_code, f"`{each.__name__}`", inspect.getdoc(each) or "") for each in found]
    return table(("exit code", "error", "meaning"), sorted(rows))


def table(heads: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a Markdown table; line breaks and bars in a cell are escaped."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")


TABLES: Mapping[str, Callable[[], str]] = {
    each.__name__: each for each in (settings, presets, command_line, stages, tables, checks, variables, exit_codes)
}
