"""What a finished night gives reason to alert about: stale data, a fading champion, refusals, nights without a run."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.alert import Alert, AlertKind, AlertRules
from vpoc_ml.artifacts.decision import Decision, DecisionState
from vpoc_ml.artifacts.stage_results import BarsGateResult, LiveResult, ScoreResult
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.exchange_calendar import reviewed_range, sessions
from vpoc_ml.market.nights import LONGEST_BREAK, night_of_session
from vpoc_ml.pipeline.alert_log import read_alerts
from vpoc_ml.pipeline.champion_stages import existing_registry
from vpoc_ml.pipeline.run import Run, open_run, read_artifact
from vpoc_ml.registry import ledger
from vpoc_ml.reports.sentences import FADED, live_sentence

GRACE = timedelta(hours=1)
"""How late a nightly run may start before its night counts as missed."""


def night_alerts(lake: Lake, run: str, rules: AlertRules) -> list[Alert] | None:
    """Return what a finished run of tonight gives reason to alert about.

    None for a run of a past night, and for one that was skipped because the day has no session.

    The alerts lack DAG, run and page, which the caller knows.

    Raises:
        ArtifactError: a record of the run is damaged.
    """
    if not lake.exists(layout.run_file(run, layout.INPUTS)):
        return None
    opened = open_run(str(lake.root), run)
    if opened.as_of is not None:
        return None
    found = (_stale(opened, rules), _decay(opened), _refused(opened, rules))
    return [alert for alert in found if alert is not None]


def _stale(run: Run, rules: AlertRules) -> Alert | None:
    """Return the alert about bars, VIX or features that are too old."""
    if run.config.quality.max_age_sessions == ANY_AGE:
        return None
    symbol = run.config.data.instrument
    cause, missing = f"{AlertKind.STALE_DATA}:{symbol}", ""
    if run.has_result("gate-bars"):
        bars = run.result("gate-bars", BarsGateResult)
        if rules.stale_sessions and bars.age_sessions >= rules.stale_sessions:
            missing = f"The newest bar is of {bars.newest_bar}; {bars.age_sessions} later session(s) are missing."
    if run.has_result("score"):
        score = run.result("score", ScoreResult)
        missing = f"{missing} Nothing was scored: {score.note}".strip() if score.refused else missing
    if not missing:
        return None
    remedy = (
        "Ask the vendor for the missing session or look at the job that delivers it. Put the files into the raw folder"
        " and run `vpoc-ml score`, or start the nightly run again."
    )
    return Alert(kind=AlertKind.STALE_DATA, cause=cause, title=f"{symbol} data are stale", found=missing, remedy=remedy)


def _decay(run: Run) -> Alert | None:
    """Return the alert about a champion whose live record has fallen below half of its track record."""
    records = run.result("live-record", LiveResult).records if run.has_result("live-record") else ()
    champion = next((each for each in records if each.champion), None)
    if champion is None or champion.log_fading is None or champion.log_fading < FADED:
        return None
    return Alert(
        kind=AlertKind.DECAY,
        cause=f"{AlertKind.DECAY}:{run.model_key}:{champion.preset}",
        title=f"Champion {run.model_key} version {champion.version} is decaying",
        found=live_sentence(champion),
        remedy="Decide whether to trade less or not at all. Roll back with the DAG vpoc_champion or `vpoc-ml rollback`,"
        " or search for other settings with vpoc_search.",
    )


def _refused(run: Run, rules: AlertRules) -> Alert | None:
    """Return the alert about refusals in a row; again after as many nights more."""
    key = layout.run_file(run.name, layout.DECISION)
    decision = read_artifact(run.lake, key, Decision, "a decision")
    if decision is None or decision.state != DecisionState.REFUSED or not rules.refused_nights:
        return None
    registry = existing_registry(run.lake)
    nights = ledger.refused_nights(registry.entries() if registry else [], str(run.model_key))
    if not nights or nights % rules.refused_nights:
        return None
    return Alert(
        kind=AlertKind.REFUSED,
        cause=f"{AlertKind.REFUSED}:{run.model_key}:{nights}",
        title=f"Candidates of {run.model_key} were refused on {nights} nights in a row",
        found=f"The champion stays. The newest reasons: {' '.join(decision.reasons[:3])}",
        remedy="Read the checks in the report. If the same check fails every night, search for other settings with"
        " vpoc_search, or change promotion.level knowingly.",
    )


def missed_nights(lake: Lake, dag: str, calendar: str, now: datetime) -> list[date]:
    """Return the sessions of the last two weeks whose night has no live run of a DAG, oldest first.

    A night lasts from 17:30 Chicago of its session until that of the next one. A run counts if it started in the night,
    or failed before it started. Nights before the lake's first run do not count, nor those that began less than an hour
    ago.
    """
    begun = []
    for key in lake.names(layout.RUNS, f"/{layout.INPUTS}"):
        if key.split("/")[1].startswith(layout.dag_run_name(dag, "")):
            inputs = lake.read_json(key) or {}
            if inputs.get("started") and not inputs.get("as_of"):
                begun.append(datetime.fromisoformat(inputs["started"]))
    begun += [datetime.fromisoformat(each.at) for each in read_alerts(lake) if each.dag == dag and each.run]
    if not begun:
        return []
    known, until = reviewed_range(calendar)
    first, last = max((now - LONGEST_BREAK).date(), known), min(now.date(), until)
    days: list[date] = sessions(calendar, first, last)["session"].to_list() if first <= last else []
    nights = [(day, night_of_session(day)) for day in days if min(begun) <= night_of_session(day) <= now - GRACE]
    ends = [*(night for _, night in nights[1:]), now]
    spans = zip(nights, ends, strict=False)  # one end too many where no night is due
    return [day for (day, night), end in spans if not any(night <= at <= end for at in begun)]


def missed_alert(nights: list[date], dag: str) -> Alert:
    """Return the alert about nights without a run."""
    listed = ", ".join(day.isoformat() for day in nights)
    return Alert(
        kind=AlertKind.MISSED_NIGHT,
        cause=f"{AlertKind.MISSED_NIGHT}:{dag}:{nights[-1]}",
        title=f"{dag} did not run on {len(nights)} night(s)",
        found=f"No run of {dag} started in the night of {listed}.",
        remedy="Look whether the DAG is paused and whether the scheduler was down. The next run reads all files that"
        " have arrived; `vpoc-ml run --session DATE` shows what a missed night would have decided.",
    )
