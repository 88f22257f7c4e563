"""Daily figures of every contract that the lake holds, by which the gate ``bars`` compares contracts."""

from __future__ import annotations

import json

import polars as pl

from vpoc_ml.artifacts.schemas import DAILY_FIGURES
from vpoc_ml.pipeline.run import Run

_COLUMNS = ("contract", "session", "ts", "open", "high", "low", "close", "volume")


def daily_figures(run: Run) -> pl.DataFrame:
    """Return one row a contract and session (``schemas.DAILY_FIGURES``); only bars that changed are read again."""
    keys = run.lake.keys(run.shared_key(f"bars/{run.config.data.instrument}"))
    texts = [run.lake.cached(key, "daily figures", _COLUMNS, _daily) for key in keys]
    rows = [row for text in texts for row in json.loads(text)]
    plain: dict[str, pl.DataType] = DAILY_FIGURES | {"session": pl.Int32(), "last": pl.Int64()}
    return pl.DataFrame(rows, schema=plain, orient="row").cast(pl.Schema(DAILY_FIGURES))


def _daily(bars: pl.DataFrame) -> str:
    """Return the figures as JSON; sessions as days, timestamps as microseconds since 1970."""
    daily = bars.group_by("contract", "session", maintain_order=True).agg(
        pl.col("ts").last().to_physical().alias("last"),
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum().cast(pl.Float64),
        pl.len().alias("bars"),
    )
    return json.dumps(daily.with_columns(pl.col("session").to_physical()).select(DAILY_FIGURES.keys()).rows())
