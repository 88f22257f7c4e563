"""A synthetic ES and VIX market, written as vendor files: NinjaTrader minute exports and a Cboe VIX history.

``mode="signal"`` plants a weak non-linear next-minute signal (see ``synthetic_path``) that linear rules and the
sign of the last return cannot see; ``mode="martingale"`` plants none. Same arguments, same bytes. Contracts are
written as soon as their minutes exist and the minutes then forgotten: memory does not grow with their number.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.lake.atomic import replacing, write_bytes, write_json, writing_to
from vpoc_ml.market.contracts import Contract
from vpoc_ml.synthetic import price_path
from vpoc_ml.synthetic.planted_faults import TRUNCATED, PlantedFault, check_kinds, damage
from vpoc_ml.synthetic.trading_days import LEAD, Plan, make_plan
from vpoc_ml.synthetic.vendor_files import export_lines, traded, vix_history

Mode = Literal["signal", "martingale"]
_GAP_TICKS = 144  # later contract minus earlier: 4000 points x (rate - dividend yield) / 4, in ticks
_DEFERRED = 4.0  # contracts a minute in a deferred month whose file begins early: nearly every minute has a bar
_TRUTH = ("ts", "contract", "session", "p_up", "attainable")
_NO_MINUTES = pl.DataFrame(schema={"ts": pl.Datetime("us", "UTC"), "session": pl.Date, "p_up": pl.Float64})


@dataclass(frozen=True)
class SyntheticMarket:
    """Written files: price files by contract code, the VIX file, the truth, and the answers if faults were planted.

    The truth has ts (START), contract, session, p_up, attainable; one row a minute.
    """

    files: dict[str, Path]
    vix: Path
    truth: Path
    faults: Path | None = None


def write_market(
    folder: Path,
    *,
    contracts: int = 3,
    seed: int = 7,
    mode: Mode = "signal",
    faults: Sequence[str] = (),
    lead: int = LEAD,
) -> SyntheticMarket:
    """Write ``contracts`` overlapping quarterly contracts, VIX closes and the truth under ``folder``.

    Up to 12 contracts begin with ESH23; more begin earlier and end with ESZ25, as far as the reviewed calendar
    goes. Each file starts ``lead`` sessions before its contract becomes front and ends at expiry; volume moves to
    the next contract over the roll week and crosses on its Monday.

    ``truth/truth.parquet`` has, for every minute of the front contract but a session's last: p_up, the
    probability that the next close is above this one given that it differs; and attainable, max(p_up, 1 - p_up),
    the accuracy of the best possible forecast of that row's direction. ``faults`` are kinds of
    ``synthetic_faults.KINDS``, planted into every file (``truncated``: the last one only) with the answers in
    ``truth/faults.json``; the market is otherwise the one without them.

    Raises:
        InvalidValueError: more contracts than the calendar holds, a lead outside 22..250, a seed below 0, an unknown
            mode or fault.
        StorageError: the file system refuses the folder.
    """
    if seed < 0:
        raise InvalidValueError("seed", str(seed), "0 or more")
    if mode not in ("signal", "martingale"):
        raise InvalidValueError("mode", mode, "signal or martingale")
    kinds = check_kinds(faults)
    plan = make_plan(contracts, lead)
    path_seed, volume_seed = np.random.SeedSequence([seed, contracts]).spawn(2)
    rng = np.random.default_rng(volume_seed)
    vix, truth = folder / "VIX_History.csv", folder / "truth" / "truth.parquet"
    closes: list[pl.DataFrame] = []
    answers: list[PlantedFault] = []
    files = {}
    with writing_to(folder), _truth_file(truth, plan) as add_truth:
        market = _recorded(_simulated(plan, path_seed, mode), closes, add_truth)
        for index, minutes in _by_contract(market, plan):
            path = files[plan.chain[index].code] = folder / _file_name(plan.chain[index])
            rows = traded(minutes, plan.chain[index], plan.es, *_volumes(plan, index, lead), rng)
            chosen = tuple(kind for kind in kinds if kind != TRUNCATED or index == contracts)
            answers += _write_contract(path, plan, index, rows, chosen, seed)
    write_bytes(vix, vix_history(pl.concat(closes), plan.table, plan.es, rng))
    return SyntheticMarket(files, vix, truth, _write_answers(folder, answers) if kinds else None)


def _simulated(plan: Plan, seed: np.random.SeedSequence, mode: Mode) -> Iterator[price_path.Path]:
    offsets = {day: _GAP_TICKS * front for day, front in plan.front.items()}
    return price_path.simulate(plan.table, offsets, seed, mode == "signal")


def _recorded(
    market: Iterator[price_path.Path], closes: list[pl.DataFrame], add_truth: Callable[[pl.DataFrame], None]
) -> Iterator[pl.DataFrame]:
    """Yield the minutes of each stretch; keep its VIX closes and its truth on the way."""
    for stretch in market:
        closes.append(stretch.vix)
        add_truth(stretch.minutes)
        yield stretch.minutes.drop("p_up")


def _by_contract(market: Iterator[pl.DataFrame], plan: Plan) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (index in the chain, its minutes) as soon as a contract has expired; forget minutes no later one needs."""
    days = plan.days
    held = next(market)
    for index, contract in enumerate(plan.chain[1:], start=1):
        first, last = days[plan.begins[index]], max(day for day in days if day <= contract.expiry)
        parts = [held.filter(pl.col("session") >= first)]
        while parts[-1]["session"][-1] < last:
            parts.append(next(market))
        held = pl.concat(parts)
        yield index, held


def _volumes(plan: Plan, index: int, lead: int) -> tuple[dict[date, float], dict[date, float]]:
    """Return the contract's share of the volume and the least it trades a minute, by session of its file."""
    begin, front = plan.begins[index], plan.front
    days = [day for day in plan.days[begin:] if day <= plan.chain[index].expiry]
    share = dict(zip(days, plan.shares[index, begin:].tolist(), strict=False))
    return share, {day: _DEFERRED if lead > LEAD and front[day] < index else 0.0 for day in days}


def _write_contract(
    path: Path, plan: Plan, index: int, rows: pl.DataFrame, kinds: tuple[str, ...], seed: int
) -> list[PlantedFault]:
    """Write one vendor file and return the faults planted into it."""
    code, lines = plan.chain[index].code, export_lines(rows, _GAP_TICKS * index)
    planted: list[PlantedFault] = []
    if kinds:
        rng = np.random.default_rng([seed, zlib.crc32(code.encode())])
        lines, planted = damage(lines, rows, kinds, path.name, code, rng)
    ending = "" if TRUNCATED in kinds else "\r\n"
    write_bytes(path, ("\r\n".join(lines) + ending).encode())
    return planted


def _file_name(contract: Contract) -> str:
    return f"{contract.root} {contract.month:02d}-{contract.year % 100:02d}.Last.txt"


def _write_answers(folder: Path, answers: list[PlantedFault]) -> Path:
    path = folder / "truth" / "faults.json"
    write_json(path, [answer.to_json() for answer in answers])
    return path


@contextmanager
def _truth_file(path: Path, plan: Plan) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield a function that adds the truth of whole sessions to ``path``."""
    codes = {day: plan.chain[front].code for day, front in plan.front.items()}

    def rows(minutes: pl.DataFrame) -> pa.Table:
        inside = minutes.filter(pl.col("session") == pl.col("session").shift(-1))
        contract = pl.col("session").replace_strict(codes, return_dtype=pl.String)
        attainable = pl.max_horizontal("p_up", 1 - pl.col("p_up"))
        return (
            inside.select("ts", "session", "p_up", contract=contract, attainable=attainable).select(_TRUTH).to_arrow()
        )

    with replacing(path) as temporary, pq.ParquetWriter(temporary, rows(_NO_MINUTES).schema) as writer:
        yield lambda minutes: writer.write_table(rows(minutes))
