"""A gate of a night with all of its checks, and one check: text, limits, counts, trend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from pydantic import Field

from vpoc_ml.artifacts.gate_report import ALL, SEVERITIES, Verdict
from vpoc_ml.market.nights import CHICAGO
from vpoc_ml.quality.owner_texts import OwnerText, owner_text
from vpoc_ml.reports.gate_results import (
    NIGHTS,
    GateNight,
    failing_rows,
    gate_nights,
    read_verdicts,
    scan_history,
    since,
    worst,
)
from vpoc_ml.reports.inline_svg import Chart, Threshold, Tone, line_chart
from vpoc_ml.reports.pages.failing_rows import shown_rows
from vpoc_ml.reports.pages.gates import check_url, explanations, find_night, key_of, since_of
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

LIMITS: tuple[tuple[str, str, Tone], ...] = (("warn", "warns", "warning"), ("error", "fails", "bad"))
"""Prefix of the columns of a limit, its word and its colour."""


class GateQuery(Query):
    """A gate of a night; ``contract`` limits its failures, "" shows all."""

    run: str
    gate: str
    contract: str = ""


class CheckQuery(Query):
    """A check of a gate and night. ``contract`` "" is the one that failed worst, ``nights`` the length of the trend."""

    run: str
    gate: str
    column: str = ALL
    check: str = ""
    contract: str = ""
    nights: int = Field(NIGHTS, ge=1, le=400)


@dataclass(frozen=True, slots=True)
class ListedCheck:
    """A check of one column over all contracts.

    Attributes:
        column, check, expected: as in the history; ``expected`` is "" in results of earlier versions.
        failed: worst severity that failed, "" if none did.
        contracts: contracts in which it failed, and in which it was made.
        warn, error: limits in words.
        share: largest share of a contract, 0 to 1; None where nothing could be measured.
    """

    column: str
    check: str
    expected: str
    failed: str
    contracts: tuple[int, int]
    warn: str
    error: str
    share: float | None


def gate_page(site: Site, query: GateQuery) -> str:
    """Return a gate of a night: its failures, its checks with their limits.

    Raises:
        NoSuchPageError: there is no such night, or the gate did not run.
    """
    nights = gate_nights(site.lake)
    night, verdict = find_verdict(site, nights, query.run, query.gate)
    rows = scan_history(site.lake, verdict.gate, [night]).collect()
    failures = [each for each in verdict.failures if query.contract in ("", each.contract)]
    kept = failing_rows(site.lake, verdict.gate, night.run)
    kept = kept.filter(contract=query.contract) if query.contract else kept
    return site.render(
        "gate.html",
        night=night,
        verdict=verdict,
        contract=query.contract,
        time=rows["time"].max() or night.written,
        failures=sorted(failures, key=lambda each: SEVERITIES.index(each.severity)),
        urls={key_of(each): check_url(site, verdict, each) for each in failures},
        since=since_of(site, verdict.gate, nights, night) if failures else {},
        texts={each.check: text_of(verdict, each.check) for each in failures},
        key=key_of,
        checks=list_checks(rows),
        explanations=explanations(site, night, [verdict]),
        rows_kept=not kept.head(1).collect().is_empty(),
    )


def check_page(site: Site, query: CheckQuery) -> str:
    """Return a check of a night: what it means, its limits and counts by contract, its trend.

    Raises:
        NoSuchPageError: there is no such night, gate or check.
    """
    nights = gate_nights(site.lake)
    night, verdict = find_verdict(site, nights, query.run, query.gate)
    ran = [each for each in nights[nights.index(night) :] if verdict.gate in each.gates][: query.nights]
    wanted = pl.col("column") == query.column, pl.col("check") == query.check
    rows = scan_history(site.lake, verdict.gate, ran).filter(*wanted).collect().sort("time", "contract")
    tonight = rows.filter(run=verdict.run)
    if tonight.is_empty():
        raise NoSuchPageError(
            f"Expected a check of gate {verdict.gate} on {night.run}; found {query.check} of {query.column}."
        )
    failures = {each.contract: each for each in verdict.failures if key_of(each)[1:] == (query.column, query.check)}
    by_severity = sorted(failures, key=lambda code: SEVERITIES.index(failures[code].severity))
    contract = query.contract or next(iter(by_severity), str(tonight["contract"][0]))
    times = rows.group_by("run").agg(pl.col("time").first()).sort("time", "run", descending=True)
    starts = since(rows.filter(pl.col("failed").is_not_null()), list(times.iter_rows()))
    return site.render(
        "check.html",
        night=night,
        verdict=verdict,
        query=query,
        contract=contract,
        failure=failures.get(contract),
        rows=list(tonight.iter_rows(named=True)),
        failures=failures,
        limits=limits_of(tonight.row(0, named=True)),
        expected=tonight["expected"][0] or "",
        text=text_of(verdict, query.check),
        since=starts.get((contract, query.column, query.check)),
        trend=trend(rows, contract),
        shown=shown_rows(site, verdict, night.run, (contract, query.column, query.check)),
    )


def text_of(verdict: Verdict, check: str) -> OwnerText:
    """Return the text of a check; that of a plugin comes from the verdict, because pages load no plugin."""
    own = (verdict.own_texts or {}).get(check)
    return OwnerText(*own) if own else owner_text(verdict.gate, check)


def find_verdict(site: Site, nights: Sequence[GateNight], run: str, gate: str) -> tuple[GateNight, Verdict]:
    """Return a night and the verdict of one of its gates.

    Raises:
        NoSuchPageError: there is no such night, or the gate did not run.
    """
    night = find_night(site, nights, run)
    verdict = next((each for each in read_verdicts(site.lake, night) if each.gate == gate), None)
    if verdict is None:
        raise NoSuchPageError(f"Expected one of the gates {', '.join(night.gates)} of {run}; found {gate}.")
    return night, verdict


def list_checks(rows: pl.DataFrame) -> list[ListedCheck]:
    """Return the checks of a gate (rows of its history of one night), failed ones first."""
    grouped = rows.group_by("column", "check", maintain_order=True).agg(
        pl.col("expected").first().fill_null(""),
        pl.col("failed"),
        pl.col("share").max(),
        *(pl.col(name).first() for name in ("warn_count", "warn_share", "error_count", "error_share")),
    )
    found = []
    for row in grouped.iter_rows(named=True):
        failed, limits = [each for each in row["failed"] if each], limits_of(row)
        found.append(
            ListedCheck(
                column=row["column"],
                check=row["check"],
                expected=row["expected"],
                failed=worst(failed) or "",
                contracts=(len(failed), len(row["failed"])),
                warn=limits["warning"],
                error=limits["critical"],
                share=row["share"],
            )
        )
    order = {name: at for at, name in enumerate((*SEVERITIES, ""))}
    return sorted(found, key=lambda each: order[each.failed])


def limits_of(row: dict[str, int | float | str | None]) -> dict[str, str]:
    """Return the limits of a row of the history in words, by severity; "-" where there is none."""
    words = {}
    for severity, name in (("warning", "warn"), ("critical", "error")):
        count, share = row[f"{name}_count"], row[f"{name}_share"]
        sides = ["any" if count == 0 else f"more than {count:,}"] if count is not None else []
        sides += [f"more than {100 * float(share):.3g} %"] if share is not None else []
        words[severity] = " or ".join(sides) or "-"
    return words


def trend(rows: pl.DataFrame, contract: str) -> Chart:
    """Return the share of defects by night, in percent: of a contract, and the largest of the others, with the limits.

    Args:
        rows: The history of one check, by time.
        contract: The contract of the first line.
    """
    nights = rows.group_by("run", maintain_order=True).agg(
        pl.col("time").first(),
        pl.col("share").filter(contract=contract).first().alias("own"),
        pl.col("share").filter(pl.col("contract") != contract).max().alias("others"),
    )
    labels = [f"{at.astimezone(CHICAGO):%Y-%m-%d}" for at in nights["time"]]
    name = "whole run" if contract == ALL else contract
    lines, title = {name: (100 * nights["own"]).to_list()}, f"Share of defects by night, %: {name}"
    if nights["others"].count():
        lines["largest of the others"] = (100 * nights["others"]).to_list()
        title += " (line), the largest of the other contracts (dashes)"
    newest = rows.row(-1, named=True)
    limits = [
        Threshold(100 * newest[f"{side}_share"], f"{word} above {100 * newest[f'{side}_share']:.3g} %", tone)
        for side, word, tone in LIMITS
        if newest[f"{side}_share"] is not None
    ]
    return line_chart(title, labels, lines, limits)
