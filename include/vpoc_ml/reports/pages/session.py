"""One session of a contract: picture, levels, nodes, and the bars as a download."""

from __future__ import annotations

from datetime import date
from typing import Literal

from vpoc_ml.errors import VpocError
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.reports.session_chart import SessionData, read_session, session_days, session_svg, stored_contracts
from vpoc_ml.reports.site import Download, NoSuchPageError, Query, Site, csv_download, parquet_download
from vpoc_ml.reports.terminal_tables import PARTS, PRICES, VOLUMES

LEVELS = (*PRICES, *VOLUMES)


class SessionQuery(Query):
    """A contract and one of its sessions; "" and None are the newest ones."""

    contract: str = ""
    session: date | None = None


class BarsQuery(SessionQuery):
    """A session whose bars are downloaded."""

    format: Literal["csv", "parquet"] = "csv"


def session_page(site: Site, query: SessionQuery) -> str:
    """Return the page of a session.

    Raises:
        NoSuchPageError: the lake has no such contract or session.
    """
    contracts = stored_contracts(site.lake)
    if not contracts and not query.contract:
        return site.render("session.html", data=None, contracts=[])
    contract = query.contract or contracts[-1]
    days = _days(site.lake, contract)
    data = _data(site.lake, contract, query.session or days[-1])
    at = days.index(data.session)
    traded = instrument(parse_contract(contract).root)
    return site.render(
        "session.html",
        data=data,
        contracts=contracts,
        first=days[0],
        last=days[-1],
        earlier=days[at - 1] if at else None,
        later=days[at + 1] if at + 1 < len(days) else None,
        picture=session_svg(data, traded, style=False),
        parts={name: {level: data.levels[f"{prefix}{level}"] for level in LEVELS} for prefix, name in PARTS.items()},
    )


def session_bars(site: Site, query: BarsQuery) -> Download:
    """Return the bars of a session with the developing levels.

    Raises:
        NoSuchPageError: the lake has no such contract or session.
    """
    days = _days(site.lake, query.contract)
    data = _data(site.lake, query.contract, query.session or days[-1])
    made = csv_download if query.format == "csv" else parquet_download
    return made(f"{data.contract}-{data.session}", data.table())


def _days(lake: Lake, contract: str) -> list[date]:
    try:
        days = session_days(lake, parse_contract(contract).code)
    except VpocError as error:
        raise NoSuchPageError(str(error)) from error
    if not days:
        raise NoSuchPageError(f"Expected a contract with sessions in the lake; found none of {contract}.")
    return days


def _data(lake: Lake, contract: str, session: date) -> SessionData:
    try:
        return read_session(lake, parse_contract(contract).code, session)
    except VpocError as error:
        raise NoSuchPageError(str(error)) from error
