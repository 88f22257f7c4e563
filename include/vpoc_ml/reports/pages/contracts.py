"""All contracts of an instrument: what was delivered, what was built, what is stale, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.manifest_details import BarsDetails
from vpoc_ml.artifacts.stage_results import Plan
from vpoc_ml.artifacts.track_record import LabelledSessions
from vpoc_ml.lake.manifest import Manifest
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.reports.inline_svg import Cell
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

MADE_OF = {
    layout.BARS: (),
    layout.SESSIONS: (layout.BARS,),
    layout.DEVELOPING: (layout.BARS,),
    layout.FEATURES: (layout.BARS, layout.SESSIONS, layout.DEVELOPING),
}
"""Artifacts of a contract, and those of the same contract that each is made of."""
BUILT, STALE, MISSING = "built", "stale", "missing"
FEW = 0.5
"""A contract is young if warm-ups leave fewer than this share of its front sessions usable."""


class ContractsQuery(Query):
    """Root symbol of an instrument; "" is the first one in the lake."""

    symbol: str = ""


@dataclass(frozen=True, slots=True)
class ContractState:
    """State of one contract.

    Attributes:
        code: such as ``ESH25``.
        front: first and last session as the front contract; None where the roll table does not have it.
        files: delivered files that the newest run found.
        bars: manifest of its bars; None before they are built.
        details: counts of its bars.
        artifacts: ``built``, ``stale`` or ``missing`` by artifact.
        front_sessions: sessions of its front period in the newest run; 0 where unknown.
        usable: how many of them the warm-up of the features leaves.
    """

    code: str
    front: tuple[date, date] | None
    files: tuple[str, ...]
    bars: Manifest | None
    details: BarsDetails | None
    artifacts: Mapping[str, str]
    front_sessions: int
    usable: int

    @property
    def young(self) -> bool:
        """Whether warm-ups leave few of its front sessions."""
        return self.front_sessions > 0 and self.usable < FEW * self.front_sessions

    @property
    def absent(self) -> bool:
        """Whether there is neither a file nor an artifact of it."""
        return not self.files and self.bars is None

    def cell(self) -> Cell:
        """Return its cell in the strip of contracts."""
        url = f"#{self.code}"
        if self.absent:
            return Cell("bad", self.code, "not delivered", url)
        if missing := [kind for kind, state in self.artifacts.items() if state == MISSING]:
            return Cell("bad", self.code, f"delivered, without {', '.join(missing)}", url)
        if stale := [kind for kind, state in self.artifacts.items() if state == STALE]:
            return Cell("warning", self.code, f"stale: {', '.join(stale)}", url)
        if not self.files:
            return Cell("info", self.code, "built; the newest run found no file of it", url)
        if self.young:
            return Cell("warning", self.code, f"young: {self.usable} of {self.front_sessions} sessions usable", url)
        return Cell("good", self.code, "built", url)


def contracts_page(site: Site, query: ContractsQuery) -> str:
    """Return the page of an instrument's contracts.

    Raises:
        NoSuchPageError: the lake holds nothing of the instrument.
    """
    symbols = site.lake.storage.folders(layout.BARS)
    symbol = query.symbol or next(iter(symbols), "")
    if query.symbol and query.symbol not in symbols:
        found = ", ".join(symbols) or "none"
        raise NoSuchPageError(f"Expected an instrument with bars in the lake, of {found}; found {query.symbol}.")
    run = newest_planned_run(site.lake)
    states = contract_states(site.lake, symbol, run) if symbol else []
    missing = [parse_contract(state.code) for state in states if state.absent]
    return site.render(
        "contracts.html",
        symbol=symbol,
        symbols=symbols,
        states=states[::-1],
        cells=[state.cell() for state in states],
        run=run,
        rolls=(missing[0].scheduled_roll, missing[-1].scheduled_roll) if missing else None,
    )


def contract_states(lake: Lake, symbol: str, run: str | None) -> list[ContractState]:
    """Return the state of each contract of ``symbol``, oldest first, including those missing in between.

    Args:
        lake: the lake.
        symbol: root of the instrument.
        run: run whose plan and usable sessions are shown; None without one.
    """
    plan = _plan(lake, run)
    delivered = {code: sources for code, sources in plan.sources.items() if parse_contract(code).root == symbol}
    names = lake.storage.written(layout.contract_folder(layout.BARS, symbol))
    built = {name.rsplit("/", 1)[-1].removesuffix(".parquet") for name in names if name.endswith(".parquet")}
    rolls = _rolls(lake, symbol)
    codes = list(_without_holes(map(parse_contract, {*built, *delivered, *rolls})))
    usable = _usable_sessions(lake, run)
    sessions = {} if usable is None else _front_sessions(lake, symbol, rolls, built)

    def state(code: str) -> ContractState:
        manifests = {kind: lake.manifest(layout.contract_key(kind, symbol, code)) for kind in MADE_OF}
        bars = manifests[layout.BARS]
        return ContractState(
            code=code,
            front=rolls.get(code),
            files=tuple(source.name for source in delivered.get(code, ())),
            bars=bars,
            details=bars.details_as(BarsDetails) if bars else None,
            artifacts=artifact_states(manifests),
            front_sessions=sessions.get(code, 0),
            usable=(usable or {}).get(code, 0),
        )

    with ThreadPoolExecutor(8) as pool:  # an object store answers each request in its own time
        return list(pool.map(state, codes))


def artifact_states(manifests: Mapping[str, Manifest | None]) -> dict[str, str]:
    """Return ``built``, ``stale`` or ``missing`` by artifact.

    An artifact is stale if one that it is made of is stale or has another content since. Whether a vendor file has
    changed since is known to the next run only.
    """
    found: dict[str, str] = {}
    for kind, sources in MADE_OF.items():
        manifest = manifests[kind]
        if manifest is None:
            found[kind] = MISSING
            continue
        made_of = [(found[source], manifests[source], manifest.inputs.get(source)) for source in sources]
        fresh = all(state == BUILT and each and each.sha256 == used for state, each, used in made_of)
        found[kind] = BUILT if fresh else STALE
    return found


def newest_planned_run(lake: Lake) -> str | None:
    """Return the run that has planned its contracts last; None without one."""
    ending = f"/{layout.stage_key('', 'plan').rsplit('/', 1)[-1]}"
    plans = {key: at for key, at in lake.storage.written(layout.RUNS).items() if key.endswith(ending)}
    return max(plans, key=lambda key: plans[key]).split("/")[1] if plans else None


def _plan(lake: Lake, run: str | None) -> Plan:
    content = None if run is None else lake.storage.read(layout.stage_key(run, "plan"))
    if content is None:
        return Plan(contracts=(), sources={}, raw="", vix=None)
    return Plan.model_validate_json(content)


def _rolls(lake: Lake, symbol: str) -> dict[str, tuple[date, date]]:
    key = layout.roll_key(symbol)
    if lake.manifest(key) is None:
        return {}
    rows = lake.read_frame(key, ["contract", "first_session", "last_session"]).rows()
    return {contract: (first, last) for contract, first, last in rows}


def _usable_sessions(lake: Lake, run: str | None) -> dict[str, int] | None:
    """Return the number of usable sessions of each contract in a run; None before its training set."""
    content = None if run is None else lake.storage.read(layout.run_file(run, layout.LABELLED_SESSIONS))
    if content is None:
        return None
    counts: dict[str, int] = {}
    for day in LabelledSessions.model_validate_json(content).sessions:
        counts[day.contract] = counts.get(day.contract, 0) + 1
    return counts


def _front_sessions(
    lake: Lake, symbol: str, rolls: Mapping[str, tuple[date, date]], built: Iterable[str]
) -> dict[str, int]:
    """Return the number of sessions with bars in the front period of each contract."""

    def count(code: str) -> int:
        key = layout.contract_key(layout.SESSIONS, symbol, code)
        if lake.manifest(key) is None:
            return 0
        days = lake.read_frame(key, ["session"])
        return days.filter(pl.col("session").is_between(*rolls[code])).height

    codes = [code for code in built if code in rolls]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(codes, pool.map(count, codes), strict=True))


def _without_holes(known: Iterable[Contract]) -> Iterator[str]:
    """Yield the codes of all delivery months of the roll cycle from the first to the last known, oldest first."""
    ordered: Sequence[Contract] = sorted(known)
    if not ordered:
        return
    chain, at = {*ordered}, ordered[-1]
    while at > ordered[0]:
        chain.add(at)
        at = at.previous
    yield from (contract.code for contract in sorted(chain))
