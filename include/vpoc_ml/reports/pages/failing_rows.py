"""The rows in which a check failed: with the bars around them on its page, all of them as a download."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import polars as pl

from vpoc_ml.artifacts.gate_report import Cause, Verdict
from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.quality.failing_rows import AROUND, SHOWN
from vpoc_ml.reports.gate_results import CheckKey, failing_bars, failing_rows, gate_nights
from vpoc_ml.reports.site import Download, NoSuchPageError, Query, Site, csv_download, parquet_download


class RowsQuery(Query):
    """Failing rows of a gate and night; "" for contract, column and check: of all of them."""

    run: str
    gate: str
    contract: str = ""
    column: str = ""
    check: str = ""
    format: Literal["csv", "parquet"] = "csv"


@dataclass(frozen=True, slots=True)
class ShownRows:
    """Rows of a check: ``rows`` (ts, session, value), how many are kept, and the bars around them in ``blocks``.

    A block is a stretch of bars without a gap; a bar has the columns of ``schemas.FAILING_BARS``, ``failing`` and
    ``value``. ``column`` is the column of the bar that holds the value, "" if it is no column of a bar.
    """

    rows: list[dict[str, Any]]
    kept: int
    blocks: list[list[dict[str, Any]]]
    column: str


def failing_rows_download(site: Site, query: RowsQuery) -> Download:
    """Return the failing rows that a gate kept.

    Raises:
        NoSuchPageError: there are none, or no such night or gate.
    """
    if not any(night.run == query.run and query.gate in night.gates for night in gate_nights(site.lake)):
        raise NoSuchPageError(f"Expected a gate of a run of {site.lake.root}; found {query.gate} of {query.run}.")
    rows = failing_rows(site.lake, query.gate, query.run)
    for name in ("contract", "column", "check"):
        if wanted := getattr(query, name):
            rows = rows.filter(pl.col(name) == wanted)
    found = rows.collect()
    if found.is_empty():
        raise NoSuchPageError(f"Expected failing rows of gate {query.gate} on {query.run}; it kept none like these.")
    parts = [query.run, query.gate, query.contract, query.column, query.check]
    name = "-".join(part.replace("*", "all") for part in parts if part)
    return csv_download(name, found) if query.format == "csv" else parquet_download(name, found)


def shown_rows(site: Site, verdict: Verdict, run: str, key: CheckKey) -> ShownRows:
    """Return the first rows of a check with the bars around them."""
    contract, column, check = key
    stored = failing_rows(site.lake, verdict.gate, run)
    rows = stored.filter(contract=contract, column=column, check=check).select("ts", "session", "value").collect()
    first = rows.head(SHOWN)
    times = dict(first.filter(pl.col("ts").is_not_null()).select("ts", "value").iter_rows())
    bars = failing_bars(site.lake, verdict.gate, run).filter(contract=contract).sort("row").collect() if times else None
    blocks = [] if bars is None else row_blocks(bars, times)
    return ShownRows(list(first.iter_rows(named=True)), rows.height, blocks, column if column in OHLCV else "")


def bars_around(site: Site, verdict: Verdict, run: str, cause: Cause) -> list[dict[str, Any]]:
    """Return the bars around the bar of a cause, as those of a block."""
    bars = failing_bars(site.lake, verdict.gate, run).filter(contract=cause.contract).sort("row").collect()
    blocks = row_blocks(bars, {datetime.fromisoformat(cause.ts): None})
    return [bar for block in blocks for bar in block]


def row_blocks(bars: pl.DataFrame, times: dict[datetime, float | None]) -> list[list[dict[str, Any]]]:
    """Return the bars within ``AROUND`` rows of these times, split where rows are missing between them."""
    wanted = pl.Series(list(times), dtype=bars.schema["ts"])
    at = bars.filter(pl.col("ts").is_in(wanted.implode()))["row"].to_list()
    near = {row + step for row in at for step in range(-AROUND, AROUND + 1)}
    blocks: list[list[dict[str, Any]]] = []
    for bar in bars.iter_rows(named=True):
        if bar["row"] in near:
            bar |= {"failing": bar["ts"] in times, "value": times.get(bar["ts"])}
            if blocks and blocks[-1][-1]["row"] == bar["row"] - 1:
                blocks[-1].append(bar)
            else:
                blocks.append([bar])
    return blocks
