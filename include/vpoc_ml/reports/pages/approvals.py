"""Requests for approval: the evidence about a candidate, where to answer, and who answered what and when."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.metrics import Metrics
from vpoc_ml.reports.nights import all_nights
from vpoc_ml.reports.outcomes import ShownNight, is_nightly, shown_nights
from vpoc_ml.reports.schedule import ApprovalRequest
from vpoc_ml.reports.sentences import money
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

DECIDED_BY_PERSON = ("waiting", "rejected", "expired")


class ApprovalQuery(Query):
    """``run`` is the name of the run's folder."""

    run: str


@dataclass(frozen=True, slots=True)
class ListedRequest:
    """A night with a request: how it ended, the request in Airflow (None: of the command line), URL of its page."""

    night: ShownNight
    request: ApprovalRequest | None
    url: str


def approvals_page(site: Site, query: Query) -> str:
    """Return every request for approval, the newest night first."""
    requests = {request.run: request for request in reversed(site.approvals())}  # the newest of a run stays
    nights = shown_nights(all_nights(site.lake, wanted=is_nightly).nights, site.schedule(), site.now)
    listed = [
        ListedRequest(night, requests.get(night.run), approval_url(site, night.run))
        for night in nights
        if night.run in requests or needed_person(night)
    ]
    return site.render(
        "approvals.html", waiting=[each for each in listed if each.night.kind == "waiting"], listed=listed
    )


def approval_page(site: Site, query: ApprovalQuery) -> str:
    """Return the decision box of a run.

    Raises:
        NoSuchPageError: the run has no decision.
    """
    names = (layout.DECISION, layout.METRICS)
    stored = site.lake.read_many([layout.run_file(query.run, name) for name in names])
    decision, metrics = (stored.get(layout.run_file(query.run, name)) for name in names)
    if decision is None:
        raise NoSuchPageError(
            f"Expected a run of {site.lake.root} with a decision; found {query.run}. Open it from Approvals."
        )
    requests = [each for each in site.approvals() if each.run == query.run]
    return site.render(
        "approval.html",
        run=query.run,
        decision=Decision.model_validate_json(decision),
        metrics=None if metrics is None else Metrics.model_validate_json(metrics),
        requests=requests,
        money=money,
        open=next((each for each in requests if each.answered is None), None),
    )


def needed_person(night: ShownNight) -> bool:
    """Return whether a person answered about the candidate of a night, or was requested to."""
    decision = night.night.decision if night.night else None
    return night.kind in DECIDED_BY_PERSON or bool(decision and decision.person and not decision.override)


def approval_url(site: Site, run: str) -> str:
    """Return the URL of the decision box of a run."""
    return site.url(f"/approvals/{quote(run, safe='')}")
