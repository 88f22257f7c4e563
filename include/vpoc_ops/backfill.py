"""``python -m vpoc_ops.backfill``: contracts of a range of dates, or one contract, on the running Airflow.

Exit codes: 0 every run succeeded, 1 a run failed or did not end in time, 2 refused or not up.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from airflow_client.client import BackfillPostBody, DAGRunResponse, ReprocessBehavior
from rich.console import Console
from rich.table import Table

from vpoc_ml import config
from vpoc_ml.artifacts.layout import dag_run_name
from vpoc_ml.config.renamed import current_names
from vpoc_ml.errors import ConfigError, InvalidValueError, VpocError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.run import read_failures
from vpoc_ops import command_line
from vpoc_ops.airflow_home import UP_HOME
from vpoc_ops.client import FINISHED, Airflow, NotUpError, RefusedError, connect
from vpoc_ops.command_line import HomeOption, OverrideOption

DAG = "vpoc_contracts"
ALREADY_RUN = "there already"
BACKFILL_END_SECONDS = 60.0
"""Time in which Airflow notices that a backfill has ended; until then it refuses the next one."""

ConfOption = Annotated[str, typer.Option("--conf", help="Conf of the runs, a JSON object.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the end of the runs.")]
app = command_line.new_app(__doc__)


class Reprocess(StrEnum):
    """What to do with contracts that have a run already."""

    NONE = "none"
    FAILED = "failed"
    COMPLETED = "completed"


class ContractRun(NamedTuple):
    """A contract and its newest run; ``run_id`` is empty if Airflow has none."""

    contract: str
    run_id: str
    existed: bool = False
    """Whether the run existed before this command."""


@app.command("range")
def range_command(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First roll day.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last roll day, inclusive.")],
    reprocess: Annotated[
        Reprocess, typer.Option("--reprocess", help="Which contracts that have a run already get a second one.")
    ] = Reprocess.NONE,
    parallel: Annotated[int, typer.Option("--parallel", help="Runs at the same time.")] = 4,
    conf: ConfOption = "{}",
    overrides: OverrideOption = [],  # noqa: B006 - typer copies it
    home: HomeOption = UP_HOME,
    timeout: TimeoutOption = 6 * 3600.0,
) -> None:
    """Run every contract whose roll day lies in a range of dates."""

    def start(airflow: Airflow, checked: dict[str, Any]) -> list[ContractRun]:
        backfill = BackfillPostBody(
            dag_id=DAG,
            from_date=first.replace(tzinfo=UTC),
            to_date=last.replace(tzinfo=UTC),
            dag_run_conf=checked,
            max_active_runs=parallel,
            reprocess_behavior=ReprocessBehavior(reprocess.value),
        )
        return start_backfill(airflow, backfill)

    span = f"FROM={first:%Y-%m-%d} TO={last:%Y-%m-%d}"
    raise typer.Exit(_run(start, conf, overrides, home, timeout, f"make backfill {span} REPROCESS=failed"))


@app.command("one")
def one_command(
    key: Annotated[str, typer.Argument(help="Contract, such as ESH25.")],
    conf: ConfOption = "{}",
    overrides: OverrideOption = [],  # noqa: B006 - typer copies it
    home: HomeOption = UP_HOME,
    timeout: TimeoutOption = 6 * 3600.0,
) -> None:
    """Run one contract by its partition key."""

    def start(airflow: Airflow, checked: dict[str, Any]) -> list[ContractRun]:
        run_id = f"manual__{key}__{datetime.now(UTC).isoformat()}"
        return [ContractRun(key, airflow.trigger(DAG, run_id, checked, key).dag_run_id)]

    raise typer.Exit(_run(start, conf, overrides, home, timeout, f"make contract KEY={key}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return command_line.run(app, arguments)


def _run(
    start: Callable[[Airflow, dict[str, Any]], list[ContractRun]],
    conf: str,
    overrides: Sequence[str],
    home: Path,
    timeout: float,
    again: str,
) -> int:
    """Start runs with ``start``, wait for their end, print a table and return the exit code.

    ``again`` is the command that repeats failed runs.
    """
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)

    def report(run: DAGRunResponse) -> None:
        console.print(f"{datetime.now(UTC):%H:%M:%S} {run.partition_key} {run.state.value:8} {run.dag_run_id}")

    try:
        checked = checked_conf(conf, overrides)
        airflow = connect(home.absolute())
        if airflow.is_paused(DAG):
            raise ConfigError(f"{DAG} is paused: its runs would only wait. Switch it on in the browser.")
        contracts = start(airflow, checked)
        runs = airflow.wait_for(DAG, [each.run_id for each in contracts if each.run_id], timeout, report)
    except (NotUpError, RefusedError, VpocError) as error:
        console.print(f"[bold red]Refused.[/] {error}", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print(f"No longer waiting; the runs go on. See {DAG} in the browser.")
        return 1
    console.print(_table(airflow, contracts, runs))
    failed = [each.contract for each in contracts if each.existed and runs[each.run_id].state.value == "failed"]
    if failed:
        console.print(
            f"The run of {', '.join(failed)} failed earlier and was not started again."
            f" Correct the cause, then: {again}",
            soft_wrap=True,
        )
    return int(any(not each.run_id or runs[each.run_id].state.value != "success" for each in contracts))


def checked_conf(text: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the conf of the runs: the JSON object ``text``, with every ``key=value`` in its ``overrides``.

    Raises:
        ConfigError: not a JSON object, or an override that no run could use.
    """
    try:
        conf = json.loads(text or "{}")
    except json.JSONDecodeError:
        conf = None
    if not isinstance(conf, dict):
        raise InvalidValueError("CONF", text, 'a JSON object such as {"profile.value_area": 0.68}')
    conf = current_names(conf, "CONF")
    settings = dict(config.parse_override(each) for each in overrides)
    config.resolve(conf.get("preset") or "nightly", settings)
    return conf | ({"overrides": (conf.get("overrides") or {}) | settings} if settings else {})


def start_backfill(airflow: Airflow, backfill: BackfillPostBody) -> list[ContractRun]:
    """Create a backfill; return the newest run of each contract in its range, new or not.

    Raises:
        ConfigError: no contract has its roll day in the range and is ready.
        RefusedError: Airflow refuses the backfill.
    """
    keys = airflow.partitions_of(backfill.model_copy(update={"reprocess_behavior": ReprocessBehavior.COMPLETED}))
    if not keys:
        span = f"{backfill.from_date:%Y-%m-%d}..{backfill.to_date:%Y-%m-%d}"
        raise ConfigError(f"No contract has its roll day in {span} and is ready.")
    before = {run.dag_run_id for run in airflow.runs(DAG)}
    _create(airflow, backfill)
    newest: dict[str, ContractRun] = {}
    ordered = sorted(airflow.runs(DAG), key=lambda run: (run.dag_run_id not in before, str(run.queued_at or "")))
    for run in ordered:
        if run.partition_key:
            newest[run.partition_key] = ContractRun(run.partition_key, run.dag_run_id, run.dag_run_id in before)
    more = [key for key, each in newest.items() if not each.existed and key not in keys]
    return [newest.get(key, ContractRun(key, "")) for key in [*keys, *more]]


def _create(airflow: Airflow, backfill: BackfillPostBody) -> None:
    """Create a backfill; try again for up to a minute while the cause of the refusal passes by itself.

    Two causes do: Airflow has not noticed yet that the previous backfill has ended (409), and the database was locked
    (503: Airflow has removed what it had created).
    """
    deadline = time.monotonic() + BACKFILL_END_SECONDS
    while True:
        try:
            airflow.create_backfill(backfill)
            return
        except RefusedError as error:
            running = any(run.state.value not in FINISHED for run in airflow.runs(DAG, run_type="backfill"))
            passing = error.status == 503 or (error.status == 409 and not running)
            if not passing or time.monotonic() > deadline:
                raise
        time.sleep(3)


def _table(airflow: Airflow, contracts: Sequence[ContractRun], runs: Mapping[str, DAGRunResponse]) -> Table:
    """Return a row for each run: the stages that ran, each with its reason, or why the run failed."""
    table = Table("contract", "state", "seconds", "rows", "configuration", "what was done")
    for contract, run_id, existed in contracts:
        if not run_id:
            table.add_row(contract, "no run", "", "", "", "Airflow made none: see its scheduler's log")
            continue
        run = runs[run_id]
        result = airflow.result(DAG, run_id, "contract_result") or {}
        rows = f"{result['rows']:,}" if result else ""
        if result:
            stages = {name: stage for name, stage in result["stages"].items() if not stage.get("skipped")}
            reasons = {name: stage.get("reason", stage.get("why", "made")) for name, stage in stages.items()}
            done = ", ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "unchanged"
        else:
            failures = read_failures(Lake(airflow.lake), dag_run_name(DAG, run_id)) if airflow.lake else []
            done = "; ".join(failure.message for failure in failures) or "see the log of the run"
        if existed:
            done = ALREADY_RUN if result else f"{ALREADY_RUN}: {done}"
        seconds = f"{run.duration:.0f}" if run.duration else ""
        table.add_row(contract, run.state.value, seconds, rows, result.get("config_hash", ""), done)
    return table


if __name__ == "__main__":
    sys.exit(main())
