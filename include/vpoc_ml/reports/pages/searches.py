"""Searches for settings: their trials, what the best one has, and how much of it may be luck."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.stage_results import SearchResult
from vpoc_ml.artifacts.studies import SearchSummary, TrialRecord
from vpoc_ml.reports.inline_svg import Chart, Threshold, Tone, bar_chart, line_chart, three_digits
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

TONES: dict[str, Tone] = {"scored": "info", "unstable": "bad", "impossible": "none"}


class SearchQuery(Query):
    """``run`` is the name of the folder of the run that searched."""

    run: str


def searches_page(site: Site, query: Query) -> str:
    """Return the list of all searches, newest first."""
    return site.render("searches.html", found=[(run, at, _summary(site, run)) for run, at in _searched(site)])


def search_page(site: Site, query: SearchQuery) -> str:
    """Return the page of one search.

    Raises:
        NoSuchPageError: the run has not searched.
    """
    if query.run not in (run for run, _ in _searched(site)):
        raise NoSuchPageError(f"Expected a run that has searched; found {query.run}. Open it from Search.")
    summary = _summary(site, query.run)
    content = site.lake.storage.read(layout.stage_key(query.run, "search"))
    result = None if content is None else _finished(content)
    return site.render(
        "search.html",
        run=query.run,
        summary=summary,
        result=result,
        own=next((record for record in summary.records if record.own), None),
        charts=[*progress_chart(summary.records), *setting_charts(summary.records)],
        settings=None if summary.best is None else json.dumps(summary.best.params, indent=2),
        flags=None if summary.best is None else " ".join(f"-o {each}" for each in summary.best.overrides),
        tones=TONES,
        names=list(summary.records[0].params) if summary.records else [],
    )


def progress_chart(records: Sequence[TrialRecord]) -> list[Chart]:
    """Return the rank IC of each trial and the best so far; nothing before the first scored trial."""
    if not any(record.value is not None for record in records):
        return []
    best: list[float | None] = []
    for record in records:
        earlier = best[-1] if best else None
        known = [value for value in (earlier, record.value) if value is not None]
        best.append(max(known, default=None))
    own = [record.value for record in records if record.own and record.value is not None]
    lines = {"trial": [record.value for record in records], "best so far": best}
    labels = [f"trial {record.number}" for record in records]
    thresholds = [Threshold(own[0], "own settings", "info")] if own else []
    return [line_chart("Rank IC on validation rows by trial", labels, lines, thresholds)]


def setting_charts(records: Sequence[TrialRecord]) -> list[Chart]:
    """Return for each varied setting the rank IC of the scored trials, ordered by the setting's value."""
    charts, scored = [], [record for record in records if record.value is not None]
    for name in scored[0].params if len(scored) > 1 else ():
        ordered = sorted(scored, key=lambda record: _order(record.params[name]))
        labels = [_text(record.params[name]) for record in ordered]
        top = max(record.value or 0.0 for record in ordered)
        tones: list[Tone] = ["good" if record.value == top else "info" for record in ordered]
        title = f"Rank IC by {name}, trials in the order of its value"
        charts.append(bar_chart(title, labels, [record.value for record in ordered], tones))
    return charts


def _searched(site: Site) -> list[tuple[str, datetime]]:
    """Return the runs that have searched and when they wrote their result last, newest first."""
    ending = f"/{layout.SEARCH_RESULT}"
    written = site.lake.storage.written(layout.RUNS)
    found = [(key.split("/")[1], at) for key, at in written.items() if key.endswith(ending)]
    return sorted(found, key=lambda each: each[1], reverse=True)


def _summary(site: Site, run: str) -> SearchSummary:
    content = site.lake.storage.read(layout.run_file(run, layout.SEARCH_RESULT))
    if content is None:
        raise NoSuchPageError(f"Expected the result of the search {run}; found none. It has been deleted meanwhile.")
    return SearchSummary.model_validate_json(content)


def _finished(content: bytes) -> SearchResult | None:
    """Return the record of the stage; None of a failed one, which lacks the fields of a result."""
    record = json.loads(content)
    return None if "error" in record else SearchResult.model_validate(record)


def _order(value: str | float | None) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return not number, float(value) if isinstance(value, (int, float)) else 0.0, str(value)


def _text(value: str | float | None) -> str:
    return three_digits(value) if isinstance(value, float) else str(value)
