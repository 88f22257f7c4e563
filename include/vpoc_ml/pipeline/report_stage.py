"""Reports of a run: the evaluation's page, the gates' page, Data Docs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.metrics import read_metrics
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.artifacts.stage_results import (
    EvaluateResult,
    GateResult,
    LiveResult,
    ReportsResult,
    RollsResult,
    ScoreResult,
    TrainingSetResult,
    TrainResult,
)
from vpoc_ml.config.schema import changed_settings
from vpoc_ml.errors import ArtifactError
from vpoc_ml.pipeline.fold_stages import fold_plan
from vpoc_ml.pipeline.run import Run, read_artifact, stage
from vpoc_ml.pipeline.run_sessions import data_age
from vpoc_ml.pipeline.stages import GATES
from vpoc_ml.registry.promotion import selection_sentence, title_of, tone_of
from vpoc_ml.reports.nights import record_night
from vpoc_ml.reports.sentences import live_sentence, scores_sentence
from vpoc_ml.reports.terminal_tables import age_text

if TYPE_CHECKING:
    from vpoc_ml.registry.store import Champion

LEVELS = ("vpoc", "vah", "val")


@stage
def publish_reports(run: Run, now: datetime) -> ReportsResult:
    """Build Data Docs once from all stored results, and the evaluation's page if the run got that far.

    A run that a gate ended has its gates' page and Data Docs all the same. The run gets its line in the table of all
    nights.
    """
    from vpoc_ml.reports.gate_pages import publish_data_docs

    docs = publish_data_docs(run.reports, limit=run.config.machine.docs_limit)
    published = {"data docs": run.lake.uri(docs)}
    if (run.folder / layout.METRICS).is_file():
        published["evaluation"] = run.lake.uri(write_evaluation_report(run))
    run.push()
    record_night(run.lake, run.name, now)
    return ReportsResult(published=published, at=now.isoformat())


def write_evaluation_report(run: Run, rival: Champion | None = None) -> Path:
    """Write ``report.html`` from what is known so far: metrics always, verdicts and decision when they exist.

    ``rival`` is the champion the run was compared with; None: the one that stage ``evaluate`` recorded.
    """
    from vpoc_ml.reports.run_report import DecisionSummary, ReportContext, write_report

    bars, levels = _last_test_session(run)
    decision = read_artifact(run.lake, layout.run_file(run.name, layout.DECISION), Decision, "a decision")
    summary = None
    if decision is not None:
        remarks = [*decision.remarks, *([selection_sentence(decision.selection)] if decision.selection else [])]
        summary = DecisionSummary(title_of(decision), tone_of(decision), list(decision.reasons), remarks)
    trained, plan = run.result("train", TrainResult), run.plan()
    facts = {
        "changed settings": "; ".join(changed_settings(run.config)) or f"none: preset {run.config.preset}",
        "model": str(run.model_key),
        "contracts": ", ".join(plan.contracts),
        "raw files": plan.raw,
        "newest bar": age_text(data_age(run, plan.contracts)),
        "training fingerprint": trained.fingerprint,
        "device": trained.device,
        "parameters": f"{trained.parameters:,}",
    }
    scores = _scores(run)
    if scores is not None:
        facts["scores"] = scores_sentence(scores)
    if trained.trained_in != run.name:
        facts["model reused from"] = trained.trained_in
    stages = [f"gate-{gate}" for gate in GATES]
    context = ReportContext(
        run.instrument,
        bars,
        levels,
        decision=summary,
        gates=[run.result(stage, GateResult) for stage in stages if run.has_result(stage)],
        facts=facts,
        notes=_notes(run, rival),
    )
    return write_report(run.folder, run.config, context)


def _scores(run: Run) -> ScoreResult | None:
    """Return the result of stage ``score``; None before it, and if it failed."""
    stored = run.lake.read_json(layout.stage_key(run.name, "score"))
    return None if stored is None or "error" in stored else run.result("score", ScoreResult)


def _last_test_session(run: Run) -> tuple[pl.DataFrame, dict[str, float]]:
    """Return bars and levels of the newest predicted session; no level where it has no volume."""
    if fold_plan(run) is not None:
        rows = pl.scan_parquet(run.folder / layout.TRACK_RECORD_PREDICTIONS)
    else:
        rows = pl.scan_parquet(run.folder / layout.TRAINING_SET).filter(pl.col("split") == "test")
    contract, session = rows.select("contract", "session", "ts").sort("ts").last().collect().row(0)[:2]
    bars = run.lake.read_frame(run.key("bars", contract)).filter(pl.col("session") == session)
    found = run.lake.read_frame(run.key("sessions", contract)).filter(pl.col("session") == session)
    levels = {name: found[name].item() for name in LEVELS}
    return bars, {name: float(level) for name, level in levels.items() if level is not None}


def _notes(run: Run, rival: Champion | None) -> list[str]:
    """Return what a reader must know: data lost at rolls, steps that were not measured, a flattering comparison."""
    metrics = read_metrics(run.folder)
    rolls = run.result("rolls", RollsResult)
    lost = [f"Lost at a roll: {each}." for each in rolls.lost]
    lost += [f"Step at a roll, not measured: {each}." for each in rolls.steps]
    lost += [f"Lost to warm-ups: {each}." for each in run.result("training-set", TrainingSetResult).lost_rows]
    if run.has_result("live-record"):
        lost += [live_sentence(record) for record in run.result("live-record", LiveResult).records]
    if "champion" not in metrics.models or metrics.folds:  # in a track record every prediction is out of sample
        return lost
    champion = rival
    if champion is None:  # the one that stage evaluate recorded, which the run may have replaced since
        from vpoc_ml.pipeline.champion_stages import model_store  # imports mlflow: seconds, for a champion only

        version = run.result("evaluate", EvaluateResult).champion
        if version is None:
            raise ArtifactError(run.uri(layout.METRICS), "metrics of the comparison that was recorded", "another one")
        champion = model_store(run.lake, run.model_key).get(version)
    described = champion.folder / layout.BEST_MODEL_CARD
    learned = ModelCard.read(described, what="the champion's model", remedy="Restore the registry.").learned_until()
    if learned <= datetime.fromisoformat(metrics.first):
        return lost
    note = (
        f"The champion (version {champion.version}) learned from rows up to {learned:%Y-%m-%d %H:%M} UTC, which lie"
        " among this run's test rows: the comparison flatters the champion."
    )
    return [*lost, note]
