"""Stage of the roll table: daily volumes or open interest of every contract -> front periods, gaps and ratios."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.manifest_details import RollDetails
from vpoc_ml.artifacts.stage_results import RollsResult
from vpoc_ml.errors import MissingInputError
from vpoc_ml.ingest.roll_inputs import StatedRoll, read_open_interest, read_stated_rolls
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.store import BuildKey
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.nights import CHICAGO
from vpoc_ml.market.roll_table import (
    ADJUSTED,
    ESTIMATED,
    STATED,
    RollStep,
    describe_steps,
    estimate_roll,
    front_periods,
    measure_roll,
    roll_problems,
    roll_table,
    stated_step,
)
from vpoc_ml.pipeline.run import Run, result_of_manifest, stage
from vpoc_ml.pipeline.run_sessions import refuse_too_few

_REMEDY = (
    "No stage makes these figures: name the exchange's with data.open_interest=FILE (a LEAN zip, or a CSV with the"
    " columns contract,session,open_interest), or choose data.roll_rule=volume."
)


@stage
def build_rolls(run: Run, contracts: list[str], *, last: str = "rolls") -> RollsResult:
    """Build ``roll/<instrument>.parquet`` from the daily figures of every contract of the lake.

    ``lost`` of the result says which front sessions no file holds and which rolls have no step, ``steps`` which steps
    were stated or estimated.
    ``last`` names the stage that the run ends with: where the front contracts hold too few sessions for it, the run
    ends here, before anything expensive is computed.

    Raises:
        MissingInputError: the roll rule needs open interest and there is none, or there is no file of ``data.rolls``.
        UnreadableFileError: the file of ``data.rolls`` cannot be read.
        InsufficientSessionsError: too few sessions for the stages up to ``last``.
    """
    rule, data, stated = roll_rule(run), run.config.data, stated_rolls(run)
    key = run.roll_key()
    with run.lake.writing("roll"):  # list the bars inside the lock: another run may have added a contract
        stored_bars = run.lake.keys(run.shared_key(f"bars/{run.config.data.instrument}"))
        bars = sorted({run.key("bars", contract) for contract in contracts} | set(stored_bars))
        inputs = {each: run.lake.content_hash(each) for each in bars}
        if data.open_interest and Path(data.open_interest).is_file():
            inputs["open_interest"] = hash_file(Path(data.open_interest))
        if data.rolls:
            inputs["rolls"] = hash_file(Path(data.rolls))
        code = code_digest(roll_table, sessions, read_open_interest, read_stated_rolls)
        config = f"{rule}/{data.open_interest}/{data.adjusted}/{run.instrument.digest}"
        build_key = BuildKey(inputs, config, code)
        reason = run.lake.stale_reason(key, build_key)
        if reason is None:
            made = run.lake.require_manifest(key)
        else:
            daily = with_open_interest(run, daily_volumes(run, bars))
            table = roll_table(front_periods(daily, rule), Measure(run, key, build_key, stated))
            days = [day for day in daily["session"].unique().sort() if day is not None]
            calendar = sessions(run.instrument.calendar, days[0], days[-1])["session"].to_list() if days else []
            lost = tuple(roll_problems(daily, table, calendar))
            steps = tuple(describe_steps(table).values())
            details = RollDetails(rows_in=daily.height, quarantined=0, lost=lost, steps=steps)
            made = run.lake.write_frame(key, table, build_key, details.to_json())
    refuse_too_few(run, contracts, last)
    return result_of_manifest(RollsResult, made, reason)


def daily_volumes(run: Run, keys: Sequence[str]) -> pl.DataFrame:
    """Return contract, session and volume of each session of the bars at ``keys``; read again only what changed."""

    def daily(bars: pl.DataFrame) -> str:  # sessions as days since 1970
        volumes = bars.group_by("contract", "session", maintain_order=True).agg(pl.col("volume").sum())
        return json.dumps(volumes.with_columns(pl.col("session").to_physical()).rows())

    columns = ("contract", "session", "volume")
    texts = [run.lake.cached(key, "daily volumes", columns, daily) for key in keys]
    rows = [row for text in texts for row in json.loads(text)]
    table = pl.DataFrame(rows, schema=dict(zip(columns, (pl.String, pl.Int32, pl.Int64), strict=True)), orient="row")
    return table.with_columns(pl.col("session").cast(pl.Date))


def roll_rule(run: Run) -> str:
    """Return the run's rule: the configuration's, else the instrument's."""
    setting = run.config.data.roll_rule
    return run.instrument.roll_rule if setting == "instrument" else setting


def stated_rolls(run: Run) -> dict[str, StatedRoll]:
    """Return the steps of the file that ``data.rolls`` names by contract; nothing where none is named.

    Raises:
        MissingInputError: the file is not there.
        UnreadableFileError: it cannot be read.
    """
    named = run.config.data.rolls
    return read_stated_rolls(Path(named), run.instrument) if named else {}


def open_interest_file(run: Run) -> Path | None:
    """Return the file that ``data.open_interest`` names; None where none is named and the roll rule needs none.

    Raises:
        MissingInputError: the file is not there, or the rule ``open_interest`` has none.
    """
    named = run.config.data.open_interest
    if named and Path(named).is_file():
        return Path(named)
    if named or roll_rule(run) == "open_interest":
        expected = f"daily open interest of {run.instrument.symbol}, by which this run rolls"
        raise MissingInputError(named or "data.open_interest", expected, _REMEDY)
    return None


def with_open_interest(run: Run, daily: pl.DataFrame) -> pl.DataFrame:
    """Add the open interest of the file ``data.open_interest`` names, null where it has none.

    Raises:
        InputError: the file is missing or unreadable, or holds no figure of the sessions though the run rolls by it.
    """
    path = open_interest_file(run)
    if path is None:
        return daily
    interest = read_open_interest(path, run.instrument, run.config.ingest)
    if run.as_of is not None:  # the exchange publishes a session's figure the next morning
        interest = interest.filter(pl.col("session") < run.as_of.astimezone(CHICAGO).date())
    joined = daily.join(interest, on=["contract", "session"], how="left")
    if roll_rule(run) == "open_interest" and joined.height and joined["open_interest"].is_null().all():
        codes = ", ".join(joined["contract"].unique().sort())
        raise MissingInputError(path, f"open interest of {codes} in the sessions of their bars", _REMEDY)
    return joined


class Measure:
    """Finds the step of a roll: the stated one, else the measured one, else an estimate.

    A stored step is taken where it was not stated and both contracts' bars and the code are unchanged.
    """

    def __init__(self, run: Run, key: str, build_key: BuildKey, stated: Mapping[str, StatedRoll]) -> None:
        self._run, self._build_key, self._stated = run, build_key, stated
        stored = run.lake.manifest(key)
        if stored is not None and stored.code == build_key.code:
            made_with = BuildKey(stored.inputs, stored.config, stored.code)
            self._before = stored if run.lake.up_to_date(key, made_with) else None
        else:
            self._before = None
        rows = run.lake.read_frame(key).iter_rows(named=True) if self._before else ()
        self._steps = {
            (row["predecessor"], row["contract"], row["first_session"]): RollStep(
                row["gap"], row["ratio"], row["source"], row["uncertainty"]
            )
            for row in rows
            if row["source"] not in STATED
        }

    def __call__(self, old: str, new: str, switch: date) -> RollStep:
        """Return the step from the front contract before ``switch`` to the one from it on."""
        if self._run.config.data.adjusted:
            return RollStep(0.0, 1.0, ADJUSTED)
        if new in self._stated:
            return stated_step(*self._stated[new], self._bars(old), switch)
        known = self._steps.get((old, new, switch))
        if known is not None and self._same(old) and self._same(new):
            return known
        before, after = self._bars(old), self._bars(new)
        measured = measure_roll(before, after, switch)
        return measured if measured.gap is not None else estimate_roll(before, after, switch)

    def _same(self, contract: str) -> bool:
        key = self._run.key("bars", contract)
        return self._before is not None and self._before.inputs.get(key) == self._build_key.inputs[key]

    def _bars(self, contract: str) -> pl.DataFrame:
        return self._run.lake.read_frame(self._run.key("bars", contract), ["ts", "session", "open", "close", "volume"])


def with_exact_ratios(front: pl.DataFrame) -> pl.DataFrame:
    """Return front periods without estimated ratios, for labels over sessions.

    An estimated step hides the market's move at the roll, so a label that reads one would be wrong.
    """
    exact = pl.when(pl.col("source") != ESTIMATED).then("ratio")
    return front.with_columns(exact.alias("ratio"))
