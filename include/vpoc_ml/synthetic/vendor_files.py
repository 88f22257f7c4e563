"""The files of a synthetic market: NinjaTrader minute exports and a Cboe VIX history."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import PRICES
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.exchange_calendar import contract_sessions, sessions
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.synthetic.trading_days import VIX_LEAD


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
