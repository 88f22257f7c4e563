"""Gate ``monitoring``: the newest sessions against the champion's training rows, late data, live skill and coverage."""

from __future__ import annotations

import logging
from datetime import date

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.monitoring_reference import MonitoringReference
from vpoc_ml.artifacts.stage_results import LiveResult, MonitoringResult, ScoreResult
from vpoc_ml.config import MonitoringConfig
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.monitoring.limits import distance_limits
from vpoc_ml.monitoring.reference import LABEL, measure
from vpoc_ml.pipeline.champion_stages import current_champion
from vpoc_ml.pipeline.gate_stages import published_verdict
from vpoc_ml.pipeline.run import Run, stage
from vpoc_ml.pipeline.run_sessions import data_age
from vpoc_ml.quality.rules.monitoring_gate import Distance, Facts
from vpoc_ml.registry.store import Champion
from vpoc_ml.reports.sentences import FADED

log = logging.getLogger(__name__)


@stage
def gate_monitoring(run: Run) -> MonitoringResult:
    """Compare the newest sessions with the champion's training rows; check that data came and that the model holds.

    Without a champion only the age of the bars is checked, and ``note`` says so. The champion is the one after
    tonight's promotion: the model whose scores are used from now on.

    Raises:
        GateFailedError: something critical failed. Promotion and scores of the night stay.
    """
    from vpoc_ml.quality.gates import raise_if_failed, validate_monitoring

    champion, contracts = current_champion(run), run.plan().contracts
    note, reference, days = None, None, list[date]()
    late, allowed = data_age(run, contracts).age_sessions, run.config.quality.max_age_sessions
    allowed = allowed if allowed == ANY_AGE else 0
    if champion is None:
        note, facts = (
            f"there is no champion of {run.model_key} yet: only the age of the bars was checked",
            Facts(late, allowed),
        )
    else:
        reference = _reference(champion)
        found, days = _distances(run, reference) if reference else ((), [])
        live = run.result("live-record", LiveResult).records if run.has_result("live-record") else ()
        fading = [each.log_fading for each in live if each.champion and each.log_fading is not None]
        scores = run.result("score", ScoreResult) if run.has_result("score") else None
        coverage = None
        if scores is not None and scores.coverage is not None and scores.stated_coverage is not None:
            coverage = scores.coverage.share, scores.stated_coverage
        facts = Facts(
            late,
            allowed,
            found,
            has_reference=reference is not None,
            refused=None if scores is None else (scores.note or "") * scores.refused,
            fading=(fading[0], FADED) if fading else None,
            coverage=coverage,
            coverage_floor=run.config.monitoring.coverage_floor,
        )
    if note:
        log.info("%s", note)
    verdict = validate_monitoring(
        facts,
        contracts,
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
        config=run.config.monitoring,
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    return MonitoringResult.of(
        verdict,
        version=champion.version if champion else None,
        sessions=[str(day) for day in days],
        columns=len(reference.features) if reference else 0,
        note=note,
    )


def _reference(champion: Champion) -> MonitoringReference | None:
    """Return the champion's reference; None for a champion of a version that stored none."""
    path = champion.folder / layout.MONITORING_REFERENCE
    if not path.is_file():
        return None
    return MonitoringReference.read(path, what="the champion's monitoring reference", remedy="Restore the registry.")


def _distances(run: Run, reference: MonitoringReference) -> tuple[tuple[Distance, ...], list[date]]:
    """Return the distances of the newest front sessions and labels from the reference, and these sessions."""
    rows = newest_rows(run, reference.block_sessions)
    labels = _newest_labels(run, reference.block_sessions)
    config: MonitoringConfig = run.config.monitoring
    columns = [(each, rows) for each in reference.features if each.name in rows.columns]
    columns += [(reference.label, labels)] if labels is not None else []
    found = [
        Distance(column.name, name, value, distance_limits(column, name, config))
        for column, frame in columns
        for name, value in measure(
            column, frame[column.name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        ).items()
    ]
    return tuple(found), rows["session"].unique().sort().to_list()


def newest_rows(run: Run, sessions: int) -> pl.DataFrame:
    """Return the features of the newest front sessions; one contract is read at a time, from the newest on."""
    table = run.lake.read_frame(run.roll_key()).filter(pl.col("contract").is_in(run.plan().contracts))
    parts: list[pl.DataFrame] = []
    wanted = sessions
    for period in table.sort("first_session", descending=True).iter_rows(named=True):
        frame = run.lake.read_frame(run.key("features", period["contract"]))
        frame = frame.filter(pl.col("session").is_between(period["first_session"], period["last_session"]))
        days = frame["session"].unique().sort().tail(wanted)
        parts.append(frame.filter(pl.col("session").is_in(days.implode())))
        wanted -= days.len()
        if wanted == 0:
            break
    return pl.concat(parts, how="diagonal_relaxed")


def _newest_labels(run: Run, sessions: int) -> pl.DataFrame | None:
    """Return the returns of the newest labelled sessions of the run's training set; None in a run without one."""
    path = run.folder / layout.TRAINING_SET
    if not path.is_file():
        return None
    rows = pl.scan_parquet(path).select("session", LABEL).filter(pl.col(LABEL).is_finite())
    days = rows.select(pl.col("session").unique()).collect().sort("session")["session"].tail(sessions)
    return rows.filter(pl.col("session").is_in(days.implode())).collect(engine="streaming")
