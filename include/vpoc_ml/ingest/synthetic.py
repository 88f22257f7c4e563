"""A synthetic ES and VIX market, written as vendor files: NinjaTrader minute exports and a Cboe VIX history.

``mode="signal"`` plants a weak non-linear next-minute signal (see ``synthetic_path``) that linear rules and the
sign of the last return cannot see; ``mode="martingale"`` plants none. Same arguments, same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from vpoc_ml.errors import InvalidValueError
from vpoc_ml.ingest import synthetic_path
from vpoc_ml.ingest.synthetic_curves import later_share
from vpoc_ml.lake.atomic import write_bytes
from vpoc_ml.market.calendar import contract_sessions, sessions
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instruments import Instrument, instrument

_FIRST = Contract("ES", 2023, 3)
_MONTHS = (3, 6, 9, 12)
_LEAD = 22  # sessions of a file before its contract becomes front
_VIX_LEAD = 80  # sessions of VIX history before the first bar
_GAP_TICKS = 144  # later contract minus earlier: 4000 points x (rate - dividend yield) / 4, in ticks
MAX_CONTRACTS = 36


@dataclass(frozen=True)
class SyntheticMarket:
    """Written files: price files by contract code, the VIX file, the truth (ts, contract, session, p_up)."""

    files: dict[str, Path]
    vix: Path
    truth: Path


def write_market(
    folder: Path, *, contracts: int = 3, seed: int = 7, mode: Literal["signal", "martingale"] = "signal"
) -> SyntheticMarket:
    """Write ``contracts`` overlapping quarterly contracts from ESH23 on, VIX closes and the truth under ``folder``.

    Each file starts 22 sessions before its contract becomes front and ends at expiry; volume moves to the next
    contract over the roll week and crosses on its Monday. ``truth/truth.parquet`` has, for every minute of the
    front contract but a session's last, ts (START), contract, session, and p_up: the probability that the next
    close is above this one, given that it differs.

    Raises:
        InvalidValueError: contracts outside 1..36, or an unknown mode.
    """
    if not 1 <= contracts <= MAX_CONTRACTS:
        raise InvalidValueError("contracts", contracts, f"1 to {MAX_CONTRACTS}")
    if mode not in ("signal", "martingale"):
        raise InvalidValueError("mode", mode, "signal or martingale")
    es = instrument(_FIRST.root)
    chain = [Contract(_FIRST.root, _FIRST.year + n // 4, _MONTHS[n % 4]) for n in range(-1, contracts)]
    table = _sessions(chain, es)
    days = table["session"].to_list()
    shares = _shares(chain, days)
    fronts = {day: int(np.argmax(shares[:, row])) for row, day in enumerate(days)}
    offsets = {day: _GAP_TICKS * front for day, front in fronts.items()}
    path_seed, volume_seed = np.random.SeedSequence([seed, contracts]).spawn(2)
    path = synthetic_path.simulate(table, offsets, np.random.default_rng(path_seed), mode == "signal")
    rng = np.random.default_rng(volume_seed)
    files = {}
    for index, contract in enumerate(chain[1:], start=1):
        name = f"{contract.root} {contract.month:02d}-{contract.year % 100:02d}.Last.txt"
        traded = _traded(path.minutes, contract, es, dict(zip(days, shares[index], strict=True)), rng)
        write_bytes(folder / name, _export(traded, _GAP_TICKS * index))
        files[contract.code] = folder / name
    write_bytes(folder / "VIX_History.csv", _vix_history(path.vix, table, es, rng))
    codes = {day: chain[front].code for day, front in fronts.items()}
    write_bytes(folder / "truth" / "truth.parquet", _truth(path.minutes, codes))
    return SyntheticMarket(files, folder / "VIX_History.csv", folder / "truth" / "truth.parquet")


def _sessions(chain: list[Contract], es: Instrument) -> pl.DataFrame:
    """Return the sessions from the start of the first written file to the last expiry; ``chain[0]`` precedes it."""
    begin = chain[0].scheduled_roll
    table = sessions(es.calendar, begin - timedelta(days=60), chain[-1].expiry)
    front_from = table.select((pl.col("session") > begin).arg_max()).item()
    return table.slice(front_from - _LEAD)


def _shares(chain: list[Contract], days: list[date]) -> np.ndarray:
    """Return each contract's share of a session's volume, contracts x sessions; 0 where it has no file."""
    shares = np.zeros((len(chain), len(days)))
    shares[0] = 1.0
    for index in range(1, len(chain)):
        monday = next(row for row, day in enumerate([*days, date.max]) if day >= chain[index - 1].scheduled_roll)
        expired = chain[index - 1].expiry
        for row in range(max(monday + 1 - _LEAD, 0), len(days)):
            share = later_share(row - monday) if days[row] <= expired else 1.0
            shares[index, row] = shares[index - 1, row] * share
            shares[index - 1, row] *= 1.0 - share
    return shares


def _traded(
    minutes: pl.DataFrame, contract: Contract, es: Instrument, share: dict[date, float], rng: np.random.Generator
) -> pl.DataFrame:
    """Return the minutes in which the contract traded; a minute of few trades has few prices."""
    days = [day for day, part in share.items() if part > 0]
    table = contract_sessions(contract, es, days[0], days[-1]).select("session", stop="close")
    rows = minutes.join(table, on="session", how="inner", maintain_order="left").filter(pl.col("ts") < pl.col("stop"))
    expected = rows["volume"].to_numpy() * rows["session"].replace_strict(share, return_dtype=pl.Float64).to_numpy()
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


def _export(rows: pl.DataFrame, offset: int) -> bytes:
    """Return a NinjaTrader minute export: END stamps, UTC, CRLF, prices without trailing zeros."""
    stamp = (pl.col("ts") + pl.duration(minutes=1)).dt.strftime("%Y%m%d %H%M%S")
    prices = [_points(pl.col(name) + offset) for name in ("open", "high", "low", "close")]
    lines = rows.select(pl.concat_str([stamp, *prices, pl.col("volume").cast(pl.String)], separator=";"))
    return ("\r\n".join(lines.to_series().to_list()) + "\r\n").encode()


def _points(ticks: pl.Expr) -> pl.Expr:
    quarter = (ticks % 4).replace_strict({0: "", 1: ".25", 2: ".5", 3: ".75"}, return_dtype=pl.String)
    return pl.concat_str((ticks // 4).cast(pl.String), quarter)


def _vix_history(vix: pl.DataFrame, table: pl.DataFrame, es: Instrument, rng: np.random.Generator) -> bytes:
    """Return DATE,OPEN,HIGH,LOW,CLOSE as Cboe writes it: only days on which the stock market was open."""
    first = table["session"][0]
    lead = sessions(es.calendar, first - timedelta(days=2 * _VIX_LEAD), first - timedelta(days=1)).tail(_VIX_LEAD)
    steps = np.cumsum(0.06 * rng.standard_normal(lead.height))
    steps = np.clip(steps - steps[-1], -0.3, 0.3)
    earlier = vix["close"][0] * np.exp(steps)
    history = pl.concat([lead.select(date="session", close=pl.Series(np.round(earlier, 2))), vix])
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


def _truth(minutes: pl.DataFrame, codes: dict[date, str]) -> bytes:
    truth = minutes.filter(pl.col("session") == pl.col("session").shift(-1)).select(
        "ts", contract=pl.col("session").replace_strict(codes, return_dtype=pl.String), session="session", p_up="p_up"
    )
    buffer = io.BytesIO()
    truth.write_parquet(buffer)
    return buffer.getvalue()
