"""``python -m vpoc_ops.backfill``: contracts of a range of dates, or one contract, on the running Airflow.

Exit codes: 0 every run succeeded, 1 a run failed or was not over in time, 2 refused or not up.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from vpoc_airflow import env
from vpoc_ml import config
from vpoc_ml.errors import InvalidValueError, VpocError
from vpoc_ops.client import FINISHED, Airflow, Json, NotUpError, RefusedError

DAG = "vpoc_contracts"
THERE = "there already"
NOTICED = 60.0
"""Seconds in which Airflow notices that a backfill is over; until then it refuses the next one."""


class Chosen(NamedTuple):
    """A contract of the range and its newest run; ``run_id`` is empty where Airflow has none."""

    contract: str
    run_id: str
    earlier: bool = False
    """Whether the run was there before."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start what is asked, wait for its end, print a table and return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    try:
        conf = _conf(options)
        airflow = Airflow(options.home.absolute())
        _ready(airflow)
        chosen = _contract(airflow, options, conf) if options.command == "one" else _range(airflow, options, conf)
        runs = airflow.finished(DAG, [each.run_id for each in chosen if each.run_id], options.timeout, _teller(console))
    except (NotUpError, RefusedError, VpocError) as error:
        console.print(f"[bold red]Refused.[/] {error}", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print(f"No longer waiting; the runs go on. See {DAG} in the browser.")
        return 1
    console.print(_table(airflow, chosen, runs))
    if earlier := [each.contract for each in chosen if each.earlier and runs[each.run_id]["state"] == "failed"]:
        console.print(
            f"The run of {', '.join(earlier)} failed earlier and was not started again. Correct the cause, then:"
            f" make backfill FROM={options.first} TO={options.last} REPROCESS=failed",
            soft_wrap=True,
        )
    return int(any(not each.run_id or runs[each.run_id]["state"] != "success" for each in chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vpoc_ops.backfill", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    span = commands.add_parser("range", help="every contract whose roll day lies in a range")
    span.add_argument("--from", dest="first", type=date.fromisoformat, required=True, help="first roll day, YYYY-MM-DD")
    span.add_argument("--to", dest="last", type=date.fromisoformat, required=True, help="last roll day, inclusive")
    span.add_argument(
        "--reprocess", choices=("none", "failed", "completed"), default="none", help="contracts that have a run already"
    )
    span.add_argument("--parallel", type=int, default=4, help="runs at the same time")
    one = commands.add_parser("one", help="one contract by its partition key")
    one.add_argument("key", help="contract, such as ESH25")
    for command in (span, one):
        command.add_argument("--conf", default="{}", help="conf of the runs, JSON")
        command.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
        command.add_argument("--home", type=Path, default=env.PROJECT / ".airflow" / "up", help="Airflow's folder")
        command.add_argument("--timeout", type=float, default=6 * 3600.0, help="seconds to wait for the end")
    return parser


def _conf(options: argparse.Namespace) -> Json:
    """Return the conf of the runs: ``--conf``, with every ``-o`` in its ``overrides``.

    Raises:
        ConfigError: not a JSON object, or an override that no run could use.
    """
    try:
        conf = json.loads(options.conf or "{}")
    except json.JSONDecodeError:
        conf = None
    if not isinstance(conf, dict):
        raise InvalidValueError("CONF", options.conf, 'a JSON object such as {"profile.value_area": 0.68}')
    settings = dict(config.parse_override(text) for text in options.overrides)
    config.resolve(conf.get("preset") or "nightly", settings)
    return conf | ({"overrides": (conf.get("overrides") or {}) | settings} if settings else {})


def _ready(airflow: Airflow) -> None:
    dag = airflow.call("GET", f"/api/v2/dags/{DAG}")
    if dag["is_paused"]:
        raise RefusedError(409, f"{DAG} is paused: its runs would only wait. Switch it on in the browser.")


def _contract(airflow: Airflow, options: argparse.Namespace, conf: Mapping[str, Any]) -> list[Chosen]:
    run_id = f"manual__{options.key}__{datetime.now(UTC).isoformat()}"
    return [Chosen(options.key, airflow.trigger(DAG, run_id, conf, options.key)["dag_run_id"])]


def _range(airflow: Airflow, options: argparse.Namespace, conf: Mapping[str, Any]) -> list[Chosen]:
    """Create the backfill; return the run of each contract of the range: the new one, else the newest that is there."""
    asked = {
        "dag_id": DAG,
        "from_date": f"{options.first}T00:00:00Z",
        "to_date": f"{options.last}T00:00:00Z",
        "dag_run_conf": dict(conf),
        "max_active_runs": options.parallel,
    }
    whole = airflow.call("POST", "/api/v2/backfills/dry_run", asked | {"reprocess_behavior": "completed"})
    if not whole["backfills"]:
        raise RefusedError(422, f"No contract has its roll day in {options.first}..{options.last} and is ready.")
    before = {run["dag_run_id"] for run in airflow.runs(DAG)}
    _create(airflow, asked | {"reprocess_behavior": options.reprocess})
    newest: dict[str, Chosen] = {}
    for run in sorted(airflow.runs(DAG), key=lambda run: (run["dag_run_id"] not in before, run["queued_at"] or "")):
        if key := run["partition_key"]:
            newest[key] = Chosen(key, run["dag_run_id"], run["dag_run_id"] in before)
    keys = [info["partition_key"] for info in whole["backfills"]]
    made = [key for key, each in newest.items() if not each.earlier and key not in keys]
    return [newest.get(key, Chosen(key, "")) for key in [*keys, *made]]


def _create(airflow: Airflow, asked: Mapping[str, Any]) -> None:
    """Create a backfill; try again where the one before is over and Airflow has not noticed yet, or where the
    database was locked (503: Airflow has removed what it had made)."""
    deadline = time.monotonic() + NOTICED
    while True:
        try:
            airflow.call("POST", "/api/v2/backfills", asked)
            return
        except RefusedError as error:
            running = any(run["state"] not in FINISHED for run in airflow.runs(DAG, run_type="backfill"))
            passing = error.status == 503 or (error.status == 409 and not running)
            if not passing or time.monotonic() > deadline:
                raise
        time.sleep(3)


def _teller(console: Console) -> Callable[[Json], None]:
    def tell(run: Json) -> None:
        console.print(f"{datetime.now(UTC):%H:%M:%S} {run['partition_key']} {run['state']:8} {run['dag_run_id']}")

    return tell


def _table(airflow: Airflow, chosen: Sequence[Chosen], runs: Mapping[str, Json]) -> Table:
    table = Table("contract", "state", "seconds", "rows", "configuration", "what was done")
    for contract, run_id, earlier in chosen:
        if not run_id:
            table.add_row(contract, "no run", "", "", "", "Airflow made none: see its scheduler's log")
            continue
        run = runs[run_id]
        result = airflow.result(DAG, run_id, "outcome") or {}
        rows = f"{result['rows']:,}" if result else ""
        done = _done(result) if result else _failure(airflow.lake, run_id)
        if earlier:
            done = THERE if result else f"{THERE}: {done}"
        seconds = f"{run['duration']:.0f}" if run["duration"] else ""
        table.add_row(contract, run["state"], seconds, rows, result.get("config_hash", ""), done)
    return table


def _done(result: Json) -> str:
    """Return the stages that ran and why, or that everything was there."""
    stages = {name: stage for name, stage in result["stages"].items() if not stage.get("skipped")}
    return ", ".join(f"{name}: {stage.get('why', 'made')}" for name, stage in stages.items()) or "unchanged"


def _failure(lake: str, run_id: str) -> str:
    from vpoc_airflow.stage_tasks import failures

    return "; ".join(str(record["message"]) for record in failures(lake, DAG, run_id)) or "see the log of the run"


if __name__ == "__main__":
    sys.exit(main())
