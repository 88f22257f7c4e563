"""The gates of a night, the last nights of one gate, and the difference between two nights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL, SEVERITIES, Cause, Failure, Severity, Verdict
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.nights import CHICAGO
from vpoc_ml.reports.gate_results import (
    NIGHTS,
    CheckKey,
    GateNight,
    Since,
    gate_nights,
    read_verdicts,
    scan_history,
    since,
    worst,
)
from vpoc_ml.reports.inline_svg import Cell, Chart, Tone, heat_map
from vpoc_ml.reports.pages.failing_rows import bars_around
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

SHOWN = 200
"""Failures that the page of a night lists; the page of a gate has all of its own."""
MAP_ROWS = 40
FEW_NIGHTS = 8
"""Nights that are read first to find since when a check has failed; most failures are younger."""
TONES: dict[Severity, Tone] = {"critical": "bad", "warning": "warning", "info": "info"}
WORDS: dict[Tone, str] = {
    "bad": "critical",
    "warning": "warning",
    "info": "remark",
    "good": "passed",
    "none": "not checked",
}


class GatesQuery(Query):
    """A night, and the gate of the map of the last nights; "" is the newest night and its first failed gate."""

    night: str = ""
    gate: str = ""


class CompareQuery(Query):
    """Two nights; "" is the newest one and the one before it."""

    night: str = ""
    other: str = ""


@dataclass(frozen=True, slots=True)
class ListedFailure:
    """A failure with its gate, since when it has failed, and the URL of its page."""

    gate: str
    failure: Failure
    since: Since | None
    url: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A bar that explains failures of a gate: the bars around it, and the URLs of the checks by (column, check)."""

    gate: str
    cause: Cause
    bars: list[dict[str, Any]]
    urls: dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Change:
    """A check that differs between two nights: its failure on each, None where it held."""

    gate: str
    key: CheckKey
    now: Failure | None
    before: Failure | None


def gates_page(site: Site, query: GatesQuery) -> str:
    """Return the verdicts of a night, its failures, and the map of the last nights of one gate.

    Raises:
        NoSuchPageError: there is no such night or gate.
    """
    nights = gate_nights(site.lake)
    if not nights and not query.night:
        return site.render("gate_nights.html", night=None)
    night = find_night(site, nights, query.night)
    verdicts = read_verdicts(site.lake, night)
    names = list(dict.fromkeys(gate for each in nights[:NIGHTS] for gate in reversed(each.gates)))
    failed = [verdict.gate for verdict in verdicts if not verdict.passed]
    gate = query.gate or (failed or [verdict.gate for verdict in verdicts if verdict.warning] or list(night.gates))[0]
    if gate not in names and gate not in night.gates:
        raise NoSuchPageError(f"Expected one of the gates {', '.join(names)}; found {gate}.")
    history = history_of(site, gate, nights, night)
    failing = {verdict.gate for verdict in verdicts if verdict.failures} - {gate}
    starts = {gate: history.since} | {each: since_of(site, each, nights, night) for each in failing}
    listed = [
        ListedFailure(verdict.gate, each, starts[verdict.gate].get(key_of(each)), check_url(site, verdict, each))
        for verdict in verdicts
        for each in verdict.failures
    ]
    listed.sort(key=lambda each: SEVERITIES.index(each.failure.severity))
    return site.render(
        "gate_nights.html",
        night=night,
        nights=nights[:NIGHTS],
        verdicts=verdicts,
        explanations=explanations(site, night, verdicts),
        contracts=contracts_of(verdicts),
        cells={verdict.gate: gate_cells(site, verdict, contracts_of(verdicts)) for verdict in verdicts},
        listed=listed[:SHOWN],
        left_out=len(listed[SHOWN:]),
        gate=gate,
        gates=list(dict.fromkeys([*night.gates, *names])),
        map=history.map(site, gate),
        shown_nights=len(history.nights),
    )


def compare_page(site: Site, query: CompareQuery) -> str:
    """Return the checks that failed on one of two nights, or differ in severity or count.

    Raises:
        NoSuchPageError: there is no such night.
    """
    nights = gate_nights(site.lake)
    now = find_night(site, nights, query.night)
    at = nights.index(now)
    before = find_night(site, nights, query.other or nights[min(at + 1, len(nights) - 1)].run)
    found = [read_verdicts(site.lake, night) for night in (now, before)]
    return site.render(
        "gate_compare.html",
        now=now,
        before=before,
        nights=nights[: 5 * NIGHTS],
        changes=list(differences(*found)),
        only=[(verdict, verdict in found[0]) for verdict in one_sided(*found)],
    )


def one_sided(now: Sequence[Verdict], before: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts of gates that ran on one of two nights only."""
    common = {verdict.gate for verdict in now} & {verdict.gate for verdict in before}
    return [verdict for verdict in (*now, *before) if verdict.gate not in common]


def differences(now: Iterable[Verdict], before: Iterable[Verdict]) -> Iterable[Change]:
    """Yield the checks that failed differently on two nights, worst first; gates of one night only are left out."""
    earlier = {verdict.gate: verdict for verdict in before}
    for verdict in now:
        if verdict.gate not in earlier:
            continue
        failures = [{key_of(each): each for each in side.failures} for side in (verdict, earlier[verdict.gate])]
        keys = list(dict.fromkeys([*failures[0], *failures[1]]))
        changes = [Change(verdict.gate, key, failures[0].get(key), failures[1].get(key)) for key in keys]
        different = [each for each in changes if _shown(each.now) != _shown(each.before)]
        yield from sorted(different, key=lambda each: SEVERITIES.index((each.now or each.before).severity))  # type: ignore[union-attr]


def _shown(failure: Failure | None) -> tuple[str, int, int] | None:
    return None if failure is None else (failure.severity, failure.count, failure.rows)


@dataclass(frozen=True, slots=True)
class GateHistory:
    """The last nights of a gate: run and time of each, newest first, the rows that failed, and since when."""

    nights: list[tuple[str, datetime]]
    failed: pl.DataFrame
    since: dict[CheckKey, Since]

    def map(self, site: Site, gate: str) -> Chart | None:
        """Return the map of columns and nights by worst severity, the worst columns first; None where all passed.

        A cell with a failure leads to the page of the check that failed worst.
        """
        severity = pl.col("failed").replace_strict(list(SEVERITIES), range(len(SEVERITIES)), return_dtype=pl.Int64)
        worst_first = self.failed.with_columns(severity.alias("at")).sort("at", "contract", "check")
        per_cell = worst_first.group_by("column", "run", maintain_order=True).first()
        columns = per_cell.group_by("column").agg(pl.col("at").min(), pl.len().alias("nights"))
        order = (
            columns.sort("at", "nights", "column", descending=[False, True, False])["column"].head(MAP_ROWS).to_list()
        )
        if not order:
            return None
        runs = [run for run, _ in reversed(self.nights)]
        labels = [f"{at.astimezone(CHICAGO):%Y-%m-%d}" for _, at in reversed(self.nights)]
        cells = {(each["column"], each["run"]): each for each in per_cell.iter_rows(named=True)}
        tones: list[list[Tone]] = [["good"] * len(runs) for _ in order]
        links = {}
        for m, column in enumerate(order):
            for n, run in enumerate(runs):
                if found := cells.get((column, run)):
                    tones[m][n] = TONES[SEVERITIES[found["at"]]]
                    links[m, n] = _check_url(site, run, gate, (found["contract"], column, found["check"]))
        names = ["file or run" if column == ALL else column for column in order]
        more = f", the worst {MAP_ROWS} of {columns.height} columns" if columns.height > MAP_ROWS else ""
        return heat_map(f"Gate {gate}: columns with failures by night{more}", names, labels, tones, WORDS, links)


def history_of(site: Site, gate: str, nights: Sequence[GateNight], night: GateNight) -> GateHistory:
    """Return the last ``NIGHTS`` nights of a gate up to ``night``."""
    return read_history(site, gate, [each for each in nights[nights.index(night) :] if gate in each.gates][:NIGHTS])


def since_of(site: Site, gate: str, nights: Sequence[GateNight], night: GateNight) -> dict[CheckKey, Since]:
    """Return since when the failures of a gate on ``night`` exist: the nights before are read only where needed."""
    ran = [each for each in nights[nights.index(night) :] if gate in each.gates][:NIGHTS]
    recent = read_history(site, gate, ran[:FEW_NIGHTS]).since
    older = any(each.open for each in recent.values()) and len(ran) > FEW_NIGHTS
    return read_history(site, gate, ran).since if older else recent


def read_history(site: Site, gate: str, ran: Sequence[GateNight]) -> GateHistory:
    """Return the history of a gate on these nights."""
    rows = scan_history(site.lake, gate, ran)
    times = rows.group_by("run").agg(pl.col("time").first()).sort("time", "run", descending=True)
    failed = rows.filter(pl.col("failed").is_not_null()).select("run", "contract", "column", "check", "failed")
    both = pl.collect_all([times, failed])
    newest = [(run, at) for run, at in both[0].select("run", "time").iter_rows()]
    return GateHistory(newest, both[1], since(both[1], newest))


def explanations(site: Site, night: GateNight, verdicts: Iterable[Verdict]) -> list[Explanation]:
    """Return the bars that explain failures of these gates."""
    found = []
    for verdict in verdicts:
        for cause in verdict.causes:
            urls = {each: _check_url(site, verdict.run, verdict.gate, (cause.contract, *each)) for each in cause.checks}
            found.append(Explanation(verdict.gate, cause, bars_around(site, verdict, night.run, cause), urls))
    return found


def find_night(site: Site, nights: Sequence[GateNight], run: str) -> GateNight:
    """Return the night of ``run``; "" is the newest one.

    Raises:
        NoSuchPageError: there is none.
    """
    found = next((night for night in nights if run in ("", night.run)), None)
    if found is None:
        raise NoSuchPageError(f"Expected a run of {site.lake.root} whose gates ran; found {run or 'none'}.")
    return found


def contracts_of(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the contracts of the verdicts by delivery month, and ``ALL`` if one of them failed as a whole."""
    verdicts = list(verdicts)
    whole = any(failure.contract == ALL for verdict in verdicts for failure in verdict.failures)
    codes = {code for verdict in verdicts for code in verdict.contracts}
    return [*sorted(codes, key=parse_contract), *([ALL] if whole else [])]


def gate_cells(site: Site, verdict: Verdict, contracts: Sequence[str]) -> list[Cell]:
    """Return a cell per contract with its number of critical failures and warnings, a link to the gate's page."""
    cells = []
    for code in contracts:
        counts = [verdict.count(severity, code) for severity in SEVERITIES]
        severity = worst([name for name, count in zip(SEVERITIES, counts, strict=True) if count])
        if code != ALL and code not in verdict.contracts:
            cells.append(Cell("none", "-", f"{code}: not checked"))
            continue
        words = [
            f"{count} {name}" for name, count in zip(("critical", "warning", "remark"), counts, strict=True) if count
        ]
        mark = f"{counts[0] or counts[1] or counts[2]}" if severity else "ok"
        label = f"{'whole run' if code == ALL else code}: {', '.join(words) or 'all checks hold'}"
        cells.append(Cell(TONES[severity] if severity else "good", mark, label, gate_url(site, verdict, contract=code)))
    return cells


def gate_url(site: Site, verdict: Verdict, **query: str) -> str:
    """Return the URL of a gate of a night."""
    return site.url(f"/gates/{quote(verdict.run)}/{quote(verdict.gate)}", **query)


def check_url(site: Site, verdict: Verdict, failure: Failure) -> str:
    """Return the URL of a check of a night."""
    return _check_url(site, verdict.run, verdict.gate, key_of(failure))


def _check_url(site: Site, run: str, gate: str, key: CheckKey) -> str:
    contract, column, check = key
    path = f"/gates/{quote(run)}/{quote(gate)}/check"
    return site.url(path, contract=contract, column=column, check=check)


def key_of(failure: Failure) -> CheckKey:
    """Return what identifies a check within a gate."""
    return failure.contract, failure.column, failure.check
