"""``python -m vpoc_ops.demo``: one whole run of the DAG in this process, its final table and an exit code.

Exit codes: 0 the run succeeded (a refused promotion is a success), 1 something unexpected, 2 configuration,
3 a gate failed, 4 training unstable, 5 input missing or unreadable.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from vpoc_airflow import env
from vpoc_ml import config
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.errors import InvalidValueError, MissingInputError, VpocError
from vpoc_ml.pipeline.run_names import run_folder
from vpoc_ml.reports.terminal_tables import render
from vpoc_ops.console_capture import Progress, quiet

DAG = "vpoc_nightly"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        conf = _conf(options)
        lake = _lake(options)
        conf |= _input(options, lake)
    except VpocError as error:
        console.print(f"[bold red]{type(error).__name__}[/] {error}", highlight=False, soft_wrap=True)
        return error.exit_code
    env.apply(env.airflow_env(options.home.absolute(), lake))
    log_file = lake / "logs" / f"demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
    begin = time.monotonic()
    console.print(f"lake {lake}\nlog  {log_file}", highlight=False, soft_wrap=True)
    with quiet(log_file) as terminal:
        run, state, unfinished = _run_dag(conf, Progress(terminal))
    code = _conclude(console, lake, run, state, unfinished, log_file)
    console.print(f"run {run}: {state} in {time.monotonic() - begin:.1f} s, exit code {code}", highlight=False)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vpoc_ops.demo", description="Run the nightly DAG here and now.")
    parser.add_argument("--data", type=Path, help="folder of vendor files; absent: a synthetic market is made")
    parser.add_argument("--vix", type=Path, help="file of VIX closes; absent: the one in the lake's raw folder")
    parser.add_argument("--mode", choices=("signal", "martingale"), default="signal", help="kind of synthetic market")
    parser.add_argument("--preset", default="nightly", help="named preset")
    parser.add_argument("--lake", type=Path, help="lake folder; absent: one of its own under data/")
    parser.add_argument("--home", type=Path, default=env.PROJECT / ".airflow" / "demo", help="Airflow's folder")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="one setting")
    return parser


def _conf(options: argparse.Namespace) -> dict[str, Any]:
    overrides = dict(config.parse_override(text) for text in options.overrides)
    overrides.setdefault("quality.max_age_sessions", ANY_AGE)  # its own market is of past years
    if config.resolve(options.preset, overrides).promotion.require_approval:
        raise InvalidValueError("promotion.require_approval", True, "false here: nobody can approve without `make up`")
    return {"preset": options.preset, "overrides": overrides}


def _lake(options: argparse.Namespace) -> Path:
    if options.lake:
        return Path(options.lake).absolute()
    if options.data:
        return env.PROJECT / "data" / f"demo-{options.data.absolute().name}"
    return env.PROJECT / "data" / ("demo" if options.mode == "signal" else f"demo-{options.mode}")


def _input(options: argparse.Namespace, lake: Path) -> dict[str, Any]:
    """Return the conf's ``raw`` and ``vix``; without data make the synthetic market once."""
    for path, expected in ((options.data, "a folder of contract files"), (options.vix, "a file of VIX closes")):
        if path and not path.exists():
            raise MissingInputError(path, expected, "Check the path.")
    if options.data:
        return {"raw": str(options.data.absolute()), "vix": options.vix and str(options.vix.absolute())}
    raw = lake / "raw"
    if not raw.is_dir() or not any(raw.iterdir()):
        from vpoc_ml.synthetic.generate import write_market

        write_market(raw, contracts=3, seed=7, mode=options.mode)
    return {"raw": None, "vix": options.vix and str(options.vix.absolute())}


def _run_dag(conf: dict[str, Any], progress: Progress) -> tuple[str, str, list[str]]:
    """Run the DAG with ``dag.test``; return the run's folder name, its state and the tasks that failed."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    from vpoc_airflow import stage_tasks

    initdb()
    bag = DagBag()
    if bag.import_errors:
        raise ImportError("\n".join(bag.import_errors.values()))
    stage_tasks.observers.append(progress)
    try:
        run = bag.dags[DAG].test(run_conf=conf)
    finally:
        stage_tasks.observers.remove(progress)
    failed = [ti.task_id for ti in run.get_task_instances() if ti.state == "failed"]
    return run_folder(DAG, run.run_id), str(getattr(run.state, "value", run.state)), failed


def _conclude(console: Console, lake: Path, run: str, state: str, failed: list[str], log_file: Path) -> int:
    """Print what the run left behind and return the exit code: that of the first failure on record."""
    from vpoc_ml import pipeline
    from vpoc_ml.lake.atomic import write_json

    folder = lake / "runs" / run
    if (folder / "config.json").is_file():
        try:
            summary = pipeline.summarize(str(lake), run)
        except VpocError as error:
            summary = {}
            console.print(f"no summary: {error}", highlight=False, soft_wrap=True, markup=False)
        render(console, summary)
        write_json(folder / "summary.json", summary | {"run": run, "state": state})
    failures = sorted((folder / "failures").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    records = [json.loads(path.read_text()) for path in failures]
    for record in records:
        console.print(f"[bold red]FAILED[/] {record['stage']} {record['label']}", highlight=False)
        console.print(f"{record['error']}: {record['message']}", highlight=False, soft_wrap=True, markup=False)
    if state == "success":
        return 0
    if not records:
        console.print(f"[bold red]FAILED[/] {', '.join(failed)}: the log says why: {log_file}", soft_wrap=True)
    return int(records[0]["exit_code"]) if records else 1


if __name__ == "__main__":
    sys.exit(main())
