"""The quarantine: delivered rows that are no bars, with reason, file, line and text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.schemas import QUARANTINE
from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.reports.session_chart import stored_contracts
from vpoc_ml.reports.site import Download, NoSuchPageError, Query, Site, csv_download, parquet_download

SHOWN = 500
"""Rows that the page lists; the download has all."""
COLUMNS = {"contract": pl.String(), **QUARANTINE}


class QuarantineQuery(Query):
    """Rows of a contract with a reason; "" is every contract, every reason."""

    contract: str = ""
    reason: str = ""


class QuarantineDownload(QuarantineQuery):
    """Rows that are downloaded."""

    format: Literal["csv", "parquet"] = "csv"


def quarantine_page(site: Site, query: QuarantineQuery) -> str:
    """Return the number of rows by contract and reason, and the rows."""
    contracts = stored_contracts(site.lake, layout.QUARANTINE)
    rows = quarantined_rows(site.lake, contracts)
    counts = rows.group_by("contract", "reason").agg(pl.len()).rows()
    reasons = sorted({reason for _, reason, _ in counts})
    chosen = _chosen(rows, query)
    return site.render(
        "quarantine.html",
        query=query,
        contracts=contracts,
        reasons=reasons,
        counts={(contract, reason): count for contract, reason, count in counts},
        rows=chosen.head(SHOWN).rows(named=True),
        found=chosen.height,
        total=rows.height,
    )


def quarantine_download(site: Site, query: QuarantineDownload) -> Download:
    """Return the rows of the quarantine.

    Raises:
        NoSuchPageError: there are none like these.
    """
    chosen = _chosen(quarantined_rows(site.lake, stored_contracts(site.lake, layout.QUARANTINE)), query)
    if chosen.is_empty():
        raise NoSuchPageError("Expected rows in the quarantine; found none like these.")
    name = "-".join(filter(None, ("quarantine", query.contract, query.reason)))
    return csv_download(name, chosen) if query.format == "csv" else parquet_download(name, chosen)


def quarantined_rows(lake: Lake, contracts: list[str]) -> pl.DataFrame:
    """Return the quarantine of these contracts (``COLUMNS``), by contract, file and line; a damaged one is left out."""

    def read(code: str) -> pl.DataFrame:
        try:
            rows = lake.read_frame(layout.contract_key(layout.QUARANTINE, parse_contract(code).root, code))
        except ArtifactError:  # the next run builds it again
            return pl.DataFrame(schema=COLUMNS)
        return rows.with_columns(contract=pl.lit(code)).select(*COLUMNS).sort("file", "line")

    with ThreadPoolExecutor(8) as pool:  # an object store answers each request in its own time
        return pl.concat([pl.DataFrame(schema=COLUMNS), *pool.map(read, contracts)])


def _chosen(rows: pl.DataFrame, query: QuarantineQuery) -> pl.DataFrame:
    of_contract = pl.lit(value=True) if not query.contract else pl.col("contract") == query.contract
    of_reason = pl.lit(value=True) if not query.reason else pl.col("reason") == query.reason
    return rows.filter(of_contract & of_reason)
