"""What the command lines of this package share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vpoc_ml import environment

HomeOption = Annotated[Path, typer.Option("--home", help="Airflow's folder.")]
OverrideOption = Annotated[list[str], typer.Option("-o", metavar="KEY=VALUE", help="Setting to change; repeatable.")]


def new_app(description: str | None) -> typer.Typer:
    """Return an empty command line with ``description`` as its help text."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=description)


def run(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    """Run a command line and return its exit code.

    Args:
        app: its commands; each ends with ``typer.Exit(code)`` or returns, which is code 0.
        arguments: words of the command line; None: those of this process.
    """
    environment.accept_former_names()
    try:
        app(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
