"""Options and arguments that several commands share, and what the shell completes for them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from vpoc_ml import environment
from vpoc_ml.config import PRESETS, setting_keys

LAKE = "data"
"""Default of ``--lake``."""


def _runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the lake's runs that begin with what was typed."""
    from vpoc_ml.artifacts import layout
    from vpoc_ml.lake.store import Lake

    found = Lake(context.params.get("lake") or LAKE).storage.folders(layout.RUNS)
    return [name for name in found if name.startswith(incomplete)]


def contracts(context: typer.Context, incomplete: str) -> list[str]:
    """Return the contracts with sessions in the lake that begin with what was typed."""
    from vpoc_ml.lake.store import Lake
    from vpoc_ml.reports.session_chart import stored_contracts

    found = stored_contracts(Lake(context.params.get("lake") or LAKE))
    return [code for code in found if code.startswith(incomplete.upper())]


def _settings(incomplete: str) -> list[str]:
    return [f"{key}=" for key in setting_keys() if key.startswith(incomplete)]


def _presets(incomplete: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(incomplete)]


LakeOption = Annotated[
    str,
    typer.Option(
        "--lake",
        envvar=environment.LAKE,
        metavar="LAKE",
        help="The lake: a folder, or s3://bucket/es in an object store.",
    ),
]
RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="Name of the run.", show_default=False, autocompletion=_runs),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="RUN", help="Name of the run; the same as RUN.", show_default=False, autocompletion=_runs
    ),
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        help=f"The preset that the run starts from: {', '.join(PRESETS)}.",
        autocompletion=_presets,
    ),
]
OverrideOption = Annotated[
    list[str],
    typer.Option(
        "-o",
        "--override",
        metavar="KEY=VALUE",
        help="A setting that differs from the preset; repeatable. vpoc-ml config lists them.",
        autocompletion=_settings,
    ),
]
RawOption = Annotated[
    Path | None,
    typer.Option(
        "--raw",
        metavar="FOLDER",
        help="Folder of vendor files. Default: LAKE/raw; if that is empty, the folder that the newest run named.",
        show_default=False,
    ),
]
VixOption = Annotated[
    Path | None,
    typer.Option(
        "--vix",
        metavar="FILE",
        help="VIX file. Default: the file that the newest run with this folder named, else the one in the folder.",
        show_default=False,
    ),
]
LikeOption = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="RUN",
        help="Earlier run whose settings and input are used. Default: the newest run that scored.",
        show_default=False,
        autocompletion=_runs,
    ),
]
NewRawOption = Annotated[
    Path | None,
    typer.Option(
        "--raw", metavar="FOLDER", help="Folder of vendor files. Default: that of the earlier run.", show_default=False
    ),
]
NewVixOption = Annotated[
    Path | None,
    typer.Option("--vix", metavar="FILE", help="VIX file. Default: that of the earlier run.", show_default=False),
]
SessionOption = Annotated[
    datetime | None,
    typer.Option(
        "--session",
        formats=["%Y-%m-%d"],
        metavar="YYYY-MM-DD",
        help="A past session: the run knows what was known at 17:30 Chicago time of that day.",
    ),
]
ContractOption = Annotated[
    list[str],
    typer.Option(
        "--contract",
        metavar="CODE",
        help="A contract to use, such as ESH25; repeatable. Default: all.",
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs",
        metavar="COUNT",
        min=1,
        help="Contracts, and later folds, that are worked on at the same time, each in a process of its own. The"
        " results are the same bytes; the memory is COUNT times as much.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON line on stdout.")]
VaryOption = Annotated[
    list[str],
    typer.Option(
        "--vary",
        metavar="RANGE",
        help="What to vary: key=low..high, 'key=low..high log', or 'key=a|b'; repeatable. Default: a set that suits"
        " most runs.",
        autocompletion=_settings,
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Instrument, horizon and target, such as ES-1m-rank. Default: the only one of the lake.",
        show_default=False,
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason; the ledger keeps it.")]
NameOption = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Your name; the ledger keeps it.", show_default=False)
]
SignedOption = Annotated[str, typer.Option("--as", metavar="NAME", help="Your name; ledger and report keep it.")]
