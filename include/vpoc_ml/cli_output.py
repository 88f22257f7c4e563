"""What the command line prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from vpoc_ml.training.findings import Finding

progress = Console(stderr=True)
log = logging.getLogger(__name__)


def emit(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    for name, value in result.items():
        typer.echo(f"{name}: {'; '.join(map(str, value)) if isinstance(value, list) else value}")


def show_findings(findings: Iterable[Finding]) -> None:
    """Print what was looked at, one line each, with the remedy below."""
    colours = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}
    out = Console(soft_wrap=True)
    for finding in findings:
        sign = f"[{colours[finding.level]}]{finding.level:<8}[/]"
        out.print(f"{sign} {finding.subject:<26} ", end="")
        out.print(finding.found, markup=False, highlight=False)
        if finding.remedy:
            out.print(f"{'':<36}{finding.remedy}", markup=False, highlight=False)


def log_to_stderr() -> None:
    """Send the package's log records to stderr, with their time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    package = logging.getLogger("vpoc_ml")
    package.addHandler(handler)
    package.setLevel(logging.INFO)


def show_summary(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    from vpoc_ml.pipeline.table import render

    render(Console(), result)


def show_stage(result: dict[str, Any]) -> None:
    what = f"{result['stage']} {result.get('contract', '')}".strip()
    rows = f"{result['rows_in']:,} -> {result['rows_out']:,} rows" if "rows_out" in result else ""
    why = result.get("why")
    worked = f"{result.get('seconds', 0):.1f} s{f'  {why}' if why else ''}"
    state = "unchanged" if result.get("skipped") else worked
    progress.print(f"  {what:<28} {rows:<28} {state}", highlight=False)


def show_progress(record: dict[str, Any]) -> None:
    """Print an epoch; log a window of steps, which is seen with --verbose."""
    if record.get("kind") == "window":
        log.info("step %s: loss %s, learning rate %.3g", record["step"], record["loss"], record["lr"])
    if record.get("kind") == "epoch":
        progress.print(
            f"    epoch {record['epoch']}: validation loss {record['validation_loss']:.6f}"
            f" (constant {record['validation_constant']:.6f})",
            highlight=False,
        )
