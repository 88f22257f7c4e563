"""The gap calendar of a contract: missing minutes by session and hour, and as ranges."""

from __future__ import annotations

from typing import Literal

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.errors import VpocError
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.exchange_calendar import clip_to_reviewed, contract_sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.reports.gap_calendar import Gaps, find_gaps
from vpoc_ml.reports.inline_svg import Cell, Chart, Tone, heat_map
from vpoc_ml.reports.session_chart import stored_contracts
from vpoc_ml.reports.site import Download, NoSuchPageError, Query, Site, csv_download, parquet_download

SHOWN = 300
"""Ranges that the page lists, the longest first; the download has all."""
HOURS = (*range(17, 24), *range(17))
"""Hours of a session in Chicago, in their order."""
SOME, MANY = 0.1, 0.5
"""Share of the minutes of an hour that may be missing before its cell is a warning, and before it is bad."""
WORDS: dict[Tone, str] = {
    "good": "complete",
    "info": "up to 10 % missing",
    "warning": "up to half missing",
    "bad": "more than half missing",
    "none": "closed",
}


class GapsQuery(Query):
    """A contract, "" is the newest one; ``all`` covers its time before and after it was the front contract too."""

    contract: str = ""
    all: bool = False


class RangesQuery(GapsQuery):
    """A contract whose ranges are downloaded."""

    format: Literal["csv", "parquet"] = "csv"


def gaps_page(site: Site, query: GapsQuery) -> str:
    """Return the gap calendar of a contract.

    Raises:
        NoSuchPageError: the lake has no bars of it.
    """
    contracts = stored_contracts(site.lake, layout.BARS)
    if not contracts and not query.contract:
        return site.render("gaps.html", contract="", contracts=[])
    contract = query.contract or contracts[-1]
    gaps = _gaps(site, contract, query.all)
    return site.render(
        "gaps.html",
        contract=contract,
        contracts=contracts,
        all=query.all,
        cells=_cells(site, contract, gaps),
        missing=int(gaps.sessions["missing"].sum()),
        minutes=int(gaps.sessions["minutes"].sum()),
        map=_map(contract, gaps),
        ranges=gaps.ranges.sort("minutes", "first", descending=[True, False]).head(SHOWN).rows(named=True),
        left_out=max(gaps.ranges.height - SHOWN, 0),
    )


def gap_ranges(site: Site, query: RangesQuery) -> Download:
    """Return all ranges of missing minutes of a contract.

    Raises:
        NoSuchPageError: the lake has no bars of it.
    """
    made = csv_download if query.format == "csv" else parquet_download
    return made(f"{query.contract}-missing-minutes", _gaps(site, query.contract, query.all).ranges)


def _gaps(site: Site, code: str, all_sessions: bool) -> Gaps:
    """Return the gaps between the first and the last bar of a contract, those of its front period if it had one.

    Raises:
        NoSuchPageError: the lake has no bars of it.
    """
    try:
        contract = parse_contract(code)
        key = layout.contract_key(layout.BARS, contract.root, contract.code)
        bars = site.lake.read_frame(key, ["ts", "session"])
        calendar = _calendar(contract, bars)
    except VpocError as error:
        raise NoSuchPageError(f"Expected a contract with bars in {site.lake.root}; found {code}.") from error
    front = calendar.filter(pl.col("session").is_between(contract.previous.scheduled_roll, contract.scheduled_roll))
    return find_gaps(bars, calendar if all_sessions or front.is_empty() else front)


def _calendar(contract: Contract, bars: pl.DataFrame) -> pl.DataFrame:
    """Return the sessions from the first to the last one with bars; the last one ends with its last bar.

    Raises:
        VpocError: there are no bars.
    """
    if bars.is_empty():
        raise VpocError(f"{contract.code}: expected bars, found none")
    traded = instrument(contract.root)
    first, last = (clip_to_reviewed(traded.calendar, day) for day in bars["session"].sort()[[0, -1]])
    known = contract_sessions(contract, traded, first, last)
    absent = [name for name in ("halt_start", "halt_end") if name not in known.columns]
    newest = pl.lit(bars["ts"].max()) + pl.duration(minutes=1)
    none = (pl.lit(None, dtype=bars.schema["ts"]).alias(name) for name in absent)
    return known.with_columns(*none, close=pl.min_horizontal("close", newest))


def _cells(site: Site, contract: str, gaps: Gaps) -> list[Cell]:
    """Return a cell per session with its missing minutes and a link to its picture."""
    cells = []
    for session, minutes, missing in gaps.sessions.select("session", "minutes", "missing").iter_rows():
        label = f"{session}: {missing:,} of {minutes:,} minutes without a bar"
        url = site.url("/sessions", contract=contract, session=str(session)) if missing < minutes else ""
        cells.append(Cell(_tone(missing, minutes), f"{missing}" if missing else "ok", label, url))
    return cells


def _map(contract: str, gaps: Gaps) -> Chart:
    """Return the map of hours and sessions."""
    days = gaps.sessions["session"].to_list()
    tones = {
        (session, hour): _tone(missing, minutes)
        for session, hour, minutes, missing in gaps.hours.select("session", "hour", "minutes", "missing").iter_rows()
    }
    grid: list[list[Tone]] = [[tones.get((day, hour), "none") for day in days] for hour in HOURS]
    names = [f"{hour:02}:00" for hour in HOURS]
    return heat_map(f"{contract}: missing minutes by hour (Chicago) and session", names, [*map(str, days)], grid, WORDS)


def _tone(missing: int, minutes: int) -> Tone:
    share = missing / minutes if minutes else 0.0
    return "good" if not missing else "info" if share <= SOME else "warning" if share <= MANY else "bad"
