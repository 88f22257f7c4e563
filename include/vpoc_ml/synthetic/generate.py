"""A synthetic ES and VIX market, written as vendor files: NinjaTrader minute exports and a Cboe VIX history.

The mode is the rule that is planted (see ``planted_rules``): ``signal`` is a weak non-linear next-minute signal that
linear rules and the sign of the last return do not detect, ``linear``, ``overlap`` and ``drifting`` are weak linear
ones, and ``martingale`` plants none. Bid-ask bounce can be added. Equal arguments give equal bytes. A contract is
written as soon as its minutes exist, then its minutes are released: memory does not depend on the number of contracts.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vpoc_ml.artifacts.schemas import PRICES
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.lake.atomic import replacing, write_bytes, write_json, writing_to
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import contract_sessions, reviewed_range, sessions
from vpoc_ml.market.instruments import Instrument, instrument
from vpoc_ml.synthetic import price_path
from vpoc_ml.synthetic.planted_faults import TRUNCATED, PlantedFault, check_kinds, plant_faults
from vpoc_ml.synthetic.planted_rules import YEAR, Mode, Planted
from vpoc_ml.synthetic.price_path import next_contract_share

ROOT = "ES"
LEAD = 22  # sessions over which volume moves to a contract before it is the front one
VIX_LEAD = 80  # sessions of VIX history before the first bar
_MONTHS = (3, 6, 9, 12)
_USUAL_FIRST = (2023, 3)
_USUAL_LAST = (2025, 12)  # if more contracts are needed than fit from the usual first one, they begin earlier


@dataclass(frozen=True)
class MarketPlan:
    """The plan of a market. ``chain[0]`` is never written: it trades before the first contract and during its roll.

    ``table`` has the sessions of the market (as ``exchange_calendar.sessions``). ``shares`` is each contract's share of
    a session's volume, contracts x sessions. ``begins`` is the first row of ``table`` in each contract's file.
    """

    chain: list[Contract]
    table: pl.DataFrame
    shares: np.ndarray
    begins: list[int]
    es: Instrument

    @property
    def days(self) -> list[date]:
        """The sessions."""
        return self.table["session"].to_list()

    @property
    def front(self) -> dict[date, int]:
        """Index in ``chain`` of the contract with the largest share, by session."""
        return {day: int(np.argmax(self.shares[:, row])) for row, day in enumerate(self.days)}


def most_contracts(lead: int = LEAD) -> int:
    """Return the number of contracts that fit into the sessions whose hours were reviewed."""
    return _ordinal(reviewed_range(instrument(ROOT).calendar)[1].year, _MONTHS[-1]) - _first_possible(lead) + 1


def plan_market(contracts: int, lead: int = LEAD) -> MarketPlan:
    """Return the plan of ``contracts`` contracts whose files begin ``lead`` sessions before they become front.

    The first contract is ESH23. If they do not fit up to ESZ25, they begin earlier; if that is not enough, they also
    end later.

    Raises:
        InvalidValueError: so many contracts do not fit into the reviewed calendar, or a lead outside 22..250.
    """
    if not LEAD <= lead <= 250:
        raise InvalidValueError("lead", lead, f"{LEAD} to 250 sessions")
    if not 1 <= contracts <= most_contracts(lead):
        raise InvalidValueError("contracts", contracts, f"1 to {most_contracts(lead)}")
    first = min(_ordinal(*_USUAL_FIRST), _ordinal(*_USUAL_LAST) - contracts + 1)
    first = max(first, _first_possible(lead))
    chain = [_contract(first + n) for n in range(-1, contracts)]
    es = instrument(ROOT)
    begin = chain[0].scheduled_roll
    table = sessions(es.calendar, begin - timedelta(days=lead * 2 + 16), chain[-1].expiry)
    front_from = table.select((pl.col("session") > begin).arg_max()).item()
    table = table.slice(front_from - lead)
    days = table["session"].to_list()
    mondays = [bisect_left(days, contract.scheduled_roll) for contract in chain]
    begins = [max(mondays[max(index - 1, 0)] + 1 - lead, 0) for index in range(len(chain))]
    shares = np.zeros((len(chain), len(days)))
    shares[0] = 1.0
    for index in range(1, len(chain)):
        expired = chain[index - 1].expiry
        for row in range(max(mondays[index - 1] + 1 - LEAD, 0), len(days)):
            share = next_contract_share(row - mondays[index - 1]) if days[row] <= expired else 1.0
            shares[index, row] = shares[index - 1, row] * share
            shares[index - 1, row] *= 1.0 - share
    return MarketPlan(chain, table, shares, begins, es)


def _ordinal(year: int, month: int) -> int:
    return year * 4 + _MONTHS.index(month)


def _contract(ordinal: int) -> Contract:
    return Contract(ROOT, ordinal // 4, _MONTHS[ordinal % 4])


def _first_possible(lead: int) -> int:
    """Return the first contract whose sessions and VIX history the calendar holds."""
    needed = reviewed_range(instrument(ROOT).calendar)[0] + timedelta(days=lead * 2 + 16 + VIX_LEAD * 2)
    ordinal = _ordinal(needed.year, _MONTHS[0])
    while _contract(ordinal - 1).scheduled_roll < needed:
        ordinal += 1
    return ordinal


def traded(
    minutes: pl.DataFrame,
    contract: Contract,
    es: Instrument,
    share: dict[date, float],
    floor: dict[date, float],
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Return the minutes in which the contract traded; a minute with few trades has few prices.

    ``share`` is the contract's share of the volume by session, ``floor`` its smallest volume a minute.
    """
    days = list(share)
    table = contract_sessions(contract, es, days[0], days[-1]).select("session", stop="close")
    rows = minutes.join(table, on="session", how="inner", maintain_order="left").filter(pl.col("ts") < pl.col("stop"))
    part, least = (rows["session"].replace_strict(each, return_dtype=pl.Float64).to_numpy() for each in (share, floor))
    expected = np.maximum(rows["volume"].to_numpy() * part, least)
    volume = np.where(expected < 50, rng.poisson(np.minimum(expected, 50)), np.rint(expected)).astype(np.int64)
    single, few = pl.col("volume") == 1, pl.col("volume") < 4
    return (
        rows.with_columns(volume=volume)
        .filter(pl.col("volume") > 0)
        .with_columns(open=pl.when(single).then("close").otherwise("open"))
        .with_columns(
            high=pl.when(few).then(pl.max_horizontal("open", "close")).otherwise("high"),
            low=pl.when(few).then(pl.min_horizontal("open", "close")).otherwise("low"),
        )
    )


def export_lines(rows: pl.DataFrame, offset: int) -> list[str]:
    """Return the lines of a minute export: END timestamps, UTC, prices without trailing zeros; ``offset`` in ticks."""
    timestamp = (pl.col("ts") + pl.duration(minutes=1)).dt.strftime("%Y%m%d %H%M%S")
    ticks = [pl.col(name) + offset for name in PRICES]
    fraction = {0: "", 1: ".25", 2: ".5", 3: ".75"}
    quarters = [(each % 4).replace_strict(fraction, return_dtype=pl.String) for each in ticks]
    prices = [pl.concat_str((each // 4).cast(pl.String), part) for each, part in zip(ticks, quarters, strict=True)]
    lines = rows.select(pl.concat_str([timestamp, *prices, pl.col("volume").cast(pl.String)], separator=";"))
    return lines.to_series().to_list()


def vix_history(vix: pl.DataFrame, table: pl.DataFrame, es: Instrument, rng: np.random.Generator) -> bytes:
    """Return DATE,OPEN,HIGH,LOW,CLOSE as Cboe writes it: only days on which the stock market was open."""
    first = table["session"][0]
    lead = sessions(es.calendar, first - timedelta(days=2 * VIX_LEAD), first - timedelta(days=1)).tail(VIX_LEAD)
    steps = np.cumsum(0.06 * rng.standard_normal(lead.height))
    steps = np.clip(steps - steps[-1], -0.3, 0.3)
    before_first = vix["close"][0] * np.exp(steps)
    history = pl.concat([lead.select(date="session", close=pl.Series(np.round(before_first, 2))), vix])
    # half days of 210 RTH minutes are holidays of the stock market
    hours = pl.concat([lead, table]).select(date="session", minutes="rth_minutes")
    history = history.join(hours, on="date").filter(pl.col("minutes") > 210).sort("date")
    before = pl.col("close").shift(1, fill_value=pl.col("close").first())
    columns = [
        before,
        pl.max_horizontal(before, "close") * 1.01,
        pl.min_horizontal(before, "close") * 0.99,
        pl.col("close"),
    ]
    values = [column.map_elements(lambda value: f"{value:.6f}", return_dtype=pl.String) for column in columns]
    lines = history.select(pl.concat_str([pl.col("date").dt.strftime("%m/%d/%Y"), *values], separator=","))
    return ("DATE,OPEN,HIGH,LOW,CLOSE\r\n" + "\r\n".join(lines.to_series().to_list()) + "\r\n").encode()


_GAP_TICKS = 144  # next contract minus this one: 4000 points x (rate - dividend yield) / 4, in ticks
_DEFERRED = 4.0  # contracts a minute in a deferred month whose file begins early: nearly every minute has a bar
_TRUTH = ("ts", "contract", "session", "p_up", "attainable")
_NO_MINUTES = pl.DataFrame(schema={"ts": pl.Datetime("us", "UTC"), "session": pl.Date, "p_up": pl.Float64})


@dataclass(frozen=True)
class SyntheticMarket:
    """Written files: price files by contract code, the VIX file, the truth, and the list of planted faults if any.

    The truth has ts (START), contract, session, p_up, attainable; one row per minute.
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
    switch: int = YEAR,
    bounce: float = 0.0,
) -> SyntheticMarket:
    """Write ``contracts`` overlapping quarterly contracts, VIX closes and the truth under ``folder``.

    Up to 12 contracts begin with ESH23; more begin earlier and end with ESZ25, within the reviewed calendar. Each file
    starts ``lead`` sessions before its contract becomes front and ends at expiry. Volume moves to the next contract
    over the roll week and crosses on its Monday.

    ``truth/truth.parquet`` has, for every minute of the front contract but a session's last: p_up, the
    probability that the next close is above this one given that it differs; and attainable, max(p_up, 1 - p_up),
    the accuracy of the best possible forecast of that row's direction. ``faults`` are some of
    ``planted_faults.FAULT_KINDS``; they are planted into every file (``truncated``: the last one only) and listed in
    ``truth/faults.json``. The rest of the market is the same as without them.

    ``switch`` is the session of the market, counted from its first, from which on the sign of ``drifting`` is reversed:
    3 contracts have 212 sessions, 5 have 338. ``bounce`` is the probability that a print is on the other side of the
    spread of one tick than the print before it (see ``Planted``); p_up does not know it.

    Raises:
        InvalidValueError: more contracts than the calendar holds, a lead outside 22..250, a seed or a switch below 0, a
            bounce outside 0..1, an unknown mode or fault.
        StorageError: the file system refuses the folder.
    """
    if seed < 0:
        raise InvalidValueError("seed", str(seed), "0 or more")
    planted = Planted(mode, switch, bounce)
    kinds = check_kinds(faults)
    plan = plan_market(contracts, lead)
    path_seed, volume_seed = np.random.SeedSequence([seed, contracts]).spawn(2)
    rng = np.random.default_rng(volume_seed)
    vix, truth = folder / "VIX_History.csv", folder / "truth" / "truth.parquet"
    closes: list[pl.DataFrame] = []
    answers: list[PlantedFault] = []
    files = {}
    with writing_to(folder), _truth_file(truth, plan) as add_truth:
        offsets = {day: _GAP_TICKS * front for day, front in plan.front.items()}
        simulated = price_path.simulate(plan.table, offsets, path_seed, planted)
        for index, minutes in _by_contract(_recorded(simulated, closes, add_truth), plan):
            contract = plan.chain[index]
            name = f"{contract.root} {contract.month:02d}-{contract.year % 100:02d}.Last.txt"
            path = files[contract.code] = folder / name
            rows = traded(minutes, contract, plan.es, *_volumes(plan, index, lead), rng)
            chosen = tuple(kind for kind in kinds if kind != TRUNCATED or index == contracts)
            lines = export_lines(rows, _GAP_TICKS * index)
            if chosen:
                fault_rng = np.random.default_rng([seed, zlib.crc32(contract.code.encode())])
                lines, found = plant_faults(lines, rows, chosen, name, contract.code, fault_rng)
                answers += found
            ending = "" if TRUNCATED in chosen else "\r\n"
            write_bytes(path, ("\r\n".join(lines) + ending).encode())
    write_bytes(vix, vix_history(pl.concat(closes), plan.table, plan.es, rng))
    answer_file = folder / "truth" / "faults.json" if kinds else None
    if answer_file:
        write_json(answer_file, [answer.to_json() for answer in answers])
    return SyntheticMarket(files, vix, truth, answer_file)


def _recorded(
    market: Iterator[price_path.MarketBlock], closes: list[pl.DataFrame], add_truth: Callable[[pl.DataFrame], None]
) -> Iterator[pl.DataFrame]:
    """Yield the minutes of each block; store its VIX closes and its truth."""
    for block in market:
        closes.append(block.vix)
        add_truth(block.minutes)
        yield block.minutes.drop("p_up")


def _by_contract(market: Iterator[pl.DataFrame], plan: MarketPlan) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (index in the chain, minutes) of each contract once it has expired; release minutes that are not needed."""
    days = plan.days
    held = next(market)
    for index, contract in enumerate(plan.chain[1:], start=1):
        first, last = days[plan.begins[index]], max(day for day in days if day <= contract.expiry)
        parts = [held.filter(pl.col("session") >= first)]
        while parts[-1]["session"][-1] < last:
            parts.append(next(market))
        held = pl.concat(parts)
        yield index, held


def _volumes(plan: MarketPlan, index: int, lead: int) -> tuple[dict[date, float], dict[date, float]]:
    """Return the contract's share of the volume and its smallest volume a minute, by session of its file."""
    begin, front = plan.begins[index], plan.front
    days = [day for day in plan.days[begin:] if day <= plan.chain[index].expiry]
    share = dict(zip(days, plan.shares[index, begin:].tolist(), strict=False))
    return share, {day: _DEFERRED if lead > LEAD and front[day] < index else 0.0 for day in days}


@contextmanager
def _truth_file(path: Path, plan: MarketPlan) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield a function that appends the truth of complete sessions to ``path``."""
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
