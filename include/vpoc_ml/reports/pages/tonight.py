"""The landing page: champion, newest bar, last night's gates and decision, what to do next, and every night before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from vpoc_ml.artifacts.gate_report import Severity
from vpoc_ml.artifacts.night import Night, NightGate
from vpoc_ml.artifacts.stage_results import LiveRecord
from vpoc_ml.errors import RegistryError
from vpoc_ml.registry.ledger import refused_nights
from vpoc_ml.reports.champions import ReigningChampion, ledger_entries, reigning_champions
from vpoc_ml.reports.inline_svg import Cell, Tone
from vpoc_ml.reports.nights import all_nights
from vpoc_ml.reports.outcomes import MEANINGS, STYLES, Kind, ShownNight, is_nightly, shown_nights
from vpoc_ml.reports.pages.approvals import approval_url
from vpoc_ml.reports.run_state import ADVICE, OTHER_ADVICE
from vpoc_ml.reports.schedule import Schedule, WaitingTraining
from vpoc_ml.reports.sentences import FADED, money, waits_for
from vpoc_ml.reports.site import Query, Site
from vpoc_ml.reports.templating import age

STRIP = 60
LISTED = 400
LONGEST_GAP = timedelta(days=5)
"""Longest time between two nights: a long weekend, and a day more."""
REFUSED_IN_A_ROW = 10
TONES: dict[Severity, Tone] = {"critical": "bad", "warning": "warning", "info": "good"}


class TonightQuery(Query):
    """Filters of the list: ``outcome`` is one of ``MEANINGS``, ``preset`` a name; "" is no filter."""

    outcome: str = ""
    preset: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the page is about.

    Attributes:
        now: the time, aware.
        nights: every night, newest first.
        last: the newest live night that was not skipped; None before the first.
        waiting: the newest night whose candidate waits for approval; None without one.
        newest: the line with the newest bar; None before the first.
        champions: of each key.
        live: newest live record of a champion; None without one.
        refused: nights in a row on which candidates of the newest decision's key were refused.
        problem: what is wrong with the ledger; "" where nothing is.
        schedule: None where there is no scheduler.
        trainings: those of any run that have been waiting to start.
    """

    now: datetime
    nights: Sequence[ShownNight]
    last: ShownNight | None
    waiting: ShownNight | None
    newest: Night | None
    champions: tuple[ReigningChampion, ...]
    live: LiveRecord | None
    refused: int
    problem: str
    schedule: Schedule | None
    trainings: tuple[WaitingTraining, ...]


def tonight_page(site: Site, query: TonightQuery) -> str:
    """Return the landing page."""
    table, schedule = all_nights(site.lake, wanted=is_nightly), site.schedule()
    nights = shown_nights(table.nights, schedule, site.now)
    about = situation(nights, schedule, site)
    listed = [
        night
        for night in nights
        if query.outcome in ("", night.kind)
        and query.preset in ("", night.night.preset if night.night and night.night.preset else "")
    ]
    presets = sorted({night.night.preset for night in nights if night.night and night.night.preset})
    return site.render(
        "tonight.html",
        about=about,
        decision=decision_sentence(about.last),
        next_step=next_step(about),
        answer_url=approval_url(site, about.waiting.run) if about.waiting else "",
        last_url=run_url(site, about.last) if about.last else "",
        bar_age=site.now - datetime.fromisoformat(about.newest.newest_bar or "") if about.newest else None,
        gates=[(gate, gate_cell(gate), gate_url(site, about.last, gate)) for gate in _gates(site, about.last)],
        strip=[strip_cell(site, night) for night in reversed(nights[:STRIP])],
        legend=[
            (Cell(*STYLES[kind], words), words) for kind, words in MEANINGS.items() if _occurs(kind, nights[:STRIP])
        ],
        listed=[(night, _gate_cells(site, night), run_url(site, night)) for night in listed[:LISTED]],
        total=len(listed),
        unread=table.unread,
        outcomes=list(MEANINGS),
        presets=presets,
        query=query,
        faded=FADED,
    )


def situation(nights: Sequence[ShownNight], schedule: Schedule | None, site: Site) -> Situation:
    """Return what the page is about from the nights, newest first, and the registry."""
    entries, problem = [], ""
    try:
        entries = ledger_entries(site.registry)
    except RegistryError as error:
        problem = str(error)
    known = [each.night for each in nights if each.night is not None]
    key = next((night.decision.key for night in known if night.decision and not night.decision.simulated), None)
    with_bars = [night for night in known if night.newest_bar is not None and night.as_of is None]
    return Situation(
        now=site.now,
        nights=nights,
        last=next((each for each in nights if each.kind not in ("skipped", "simulated")), None),
        waiting=next((each for each in nights if each.kind == "waiting"), None),
        newest=max(with_bars, key=lambda night: datetime.fromisoformat(night.newest_bar or ""), default=None),
        champions=reigning_champions(entries),
        refused=refused_nights(entries, key) if key else 0,
        live=next((night.live for night in known if night.live is not None), None),
        problem=problem,
        schedule=schedule,
        trainings=site.waiting(),
    )


def decision_sentence(last: ShownNight | None) -> str:
    """Return the outcome of the newest night with the result after costs, or with the reason that decided."""
    if last is None:
        return "No night yet."
    night = last.night
    decision = night.decision if night else None
    words = f"{last.words[0].upper()}{last.words[1:]}"
    if night is not None and night.failure is not None and last.kind.startswith("failed"):
        return f"{words}: {night.failure.message.partition(chr(10))[0]}"
    if decision is None:
        return f"{words}."
    model = f"version {decision.version}" if decision.version is not None else "a model"
    result = decision.result or ("" if decision.net is None else f"after costs {money(decision.net)}")
    result = f" {result[0].upper()}{result[1:]}." if result else ""
    reason = f" {decision.reason}" if last.kind == "refused" and decision.reason else ""
    return f"{words}: {model} of {decision.key or 'the first release'}.{reason}{result}"


def next_step(about: Situation) -> str:
    """Return in one sentence what a person should do, the most urgent thing first."""
    last, schedule = about.last, about.schedule
    night = last.night if last else None
    if about.problem:
        return about.problem
    if about.waiting is not None:
        return f"Answer the request for approval of run {about.waiting.run}."
    if schedule is not None and schedule.paused:
        return "Unpause the DAG vpoc_nightly: while it is paused no night starts."
    if last is None:
        return "Put the vendor's files into raw/ of the lake, then trigger the DAG vpoc_nightly."
    waiting = next((each for each in about.trainings if each.run == last.run), None)
    if waiting is not None:
        span = age(about.now - waiting.since)
        return f"Open the page of the run: {waiting.task} has been waiting for {waits_for(waiting)} for {span}."
    if last.kind == "running":
        return "Wait: the run is in progress; its page shows how far it is."
    if last.kind.startswith("failed"):
        code = night.failure.exit_code if night and night.failure else 1
        return ADVICE.get(code, OTHER_ADVICE)
    if last.kind == "unfinished":
        return "Open the page of the run and its log: it ended without a decision. Start it again."
    return _quiet_step(about, last)


def _quiet_step(about: Situation, last: ShownNight) -> str:
    """Return what to do after a night that ended as it should."""
    if about.now - last.at > LONGEST_GAP:
        return "Check the scheduler: no night has started for more than five days."
    if about.newest is not None and about.newest.age_sessions:
        return f"Check the delivery: at the last run the newest bar was {about.newest.age_sessions} sessions old."
    if about.live is not None and about.live.log_fading is not None and about.live.log_fading >= FADED:
        return "Stop trading the champion's signal, or roll back: its live record says that the signal fades."
    if not about.champions:
        return "Nothing is promoted yet: read the reasons of the refusal, or wait for more sessions of evidence."
    if about.refused >= REFUSED_IN_A_ROW:
        return f"Search for other settings with the DAG vpoc_search: {about.refused} nights in a row were refused."
    return "Nothing: the next night starts by itself."


def gate_cell(gate: NightGate) -> Cell:
    """Return the coloured cell of a gate: passed, with warnings, or failed."""
    warnings = f"{gate.warning} warning{'s' if gate.warning != 1 else ''}"
    if not gate.passed:
        found = f"{gate.critical} critical, {warnings}" if gate.checks else "no check was made"
        return Cell("bad", "failed", f"{gate.gate}: failed, {found} of {gate.checks:,} checks")
    if gate.warning:
        return Cell("warning", warnings, f"{gate.gate}: passed with {warnings} of {gate.checks:,} checks")
    return Cell("good", "passed", f"{gate.gate}: passed, {gate.checks:,} checks")


def strip_cell(site: Site, night: ShownNight) -> Cell:
    """Return the cell of a night in the strip: a link to its page."""
    day = site.local_day(night.at)
    return Cell(night.tone, night.mark, f"{day}: {night.words}", run_url(site, night))


def run_url(site: Site, night: ShownNight) -> str:
    """Return the URL of a night's page: by its folder, or by the scheduler's names if it left none."""
    if night.night is None and night.scheduled is not None:
        return site.url(f"/run/{quote(night.scheduled.dag_id, safe='')}/{quote(night.scheduled.run_id, safe='')}")
    return site.url(f"/runs/{quote(night.run, safe='')}")


def gate_url(site: Site, shown: ShownNight | None, gate: NightGate) -> str:
    """Return the URL of the page of a night's gate; "" without a night."""
    return site.url(f"/gates/{quote(shown.run, safe='')}/{quote(gate.gate, safe='')}") if shown else ""


def _gates(site: Site, shown: ShownNight | None) -> list[NightGate]:
    """Return the gates of a night in the order in which they run; those of another version last."""
    order = {gate: place for place, gate in enumerate(site.gates)}
    found = shown.night.gates if shown and shown.night else ()
    return sorted(found, key=lambda gate: order.get(gate.gate, len(order)))


def _gate_cells(site: Site, night: ShownNight) -> list[Cell]:
    cells = [gate_cell(gate) for gate in _gates(site, night)]
    marks: dict[Tone, str] = {"good": "✓", "warning": "!", "bad": "✗"}
    return [Cell(cell.tone, marks[cell.tone], cell.label) for cell in cells]


def _occurs(kind: Kind, nights: Sequence[ShownNight]) -> bool:
    return any(night.kind == kind for night in nights)
