"""The report of a run: one self-contained HTML file, for screen and paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import Verdict
from vpoc_ml.artifacts.metrics import read_metrics
from vpoc_ml.artifacts.track_record import TrackRecord
from vpoc_ml.artifacts.training_progress import read_progress
from vpoc_ml.config import RunConfig
from vpoc_ml.config.schema import every_setting, shown
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.reports import charts
from vpoc_ml.reports.sentences import (
    after_costs,
    bounce_sentence,
    loss_sentence,
    policy_rule,
    policy_sentence,
    skill_sentence,
    track_sentence,
)
from vpoc_ml.reports.templating import render


@dataclass(frozen=True, slots=True)
class DecisionSummary:
    """The decision about a run's candidate, as the report shows it.

    Args:
        title: Headline, such as "Promoted".
        tone: Colour of the box: "good", "bad", or "" for a decision that is open or simulated.
        reasons: Reasons of the promotion rule.
        remarks: Who requested or answered it.
    """

    title: str
    tone: str
    reasons: Sequence[str]
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What the report of a run shows beside the files in the run's folder.

    Args:
        instrument: The futures that the run is about.
        session_bars: Bars of the session whose volume profile is drawn; an empty frame leaves the chart out.
        session_levels: ``vpoc``, ``vah``, ``val`` of that session in points; empty for a session without volume.
        decision: The decision so far; None: the promotion rule has not been applied.
        gates: Verdicts of the run's gates.
        facts: Label -> text, for the header.
        notes: Sentences below the decision.
    """

    instrument: Instrument
    session_bars: pl.DataFrame
    session_levels: Mapping[str, float]
    decision: DecisionSummary | None = None
    gates: Sequence[Verdict] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(run_dir: Path, config: RunConfig, context: ReportContext) -> Path:
    """Write ``report.html`` of an evaluated run and return its path.

    Raises:
        MissingInputError: the run has not been evaluated.
    """
    metrics, progress = read_metrics(run_dir), read_progress(run_dir)
    track = None
    if metrics.folds:
        what = "the track record of the run"
        track = TrackRecord.read(run_dir / layout.TRACK_RECORD, what=what, remedy="Run the stage track-record again.")
    bars, levels = context.session_bars, context.session_levels
    sections: dict[str, list[tuple[str, str]]] = {}
    for section, name, setting in every_setting():
        sections.setdefault(section, []).append((name, shown(setting, getattr(getattr(config, section), name))))
    has_session = not bars.is_empty()
    page = render(
        "report.html",
        run=run_dir.name,
        config=config,
        config_hash=config.digest(),
        settings=list(sections.items()),
        metrics=metrics,
        skill=skill_sentence(metrics),
        track=track,
        track_sentence=track_sentence(track) if track else None,
        bounce=bounce_sentence(metrics),
        policy=policy_sentence(metrics.policy) if metrics.policy else None,
        policy_rule=policy_rule(metrics.policy) if metrics.policy else None,
        decision=context.decision,
        after_costs=after_costs(metrics.backtest, metrics.candidate.rank_ic),
        loss_sentence=loss_sentence(progress),
        gates=context.gates,
        facts=context.facts,
        notes=context.notes,
        session=f"{bars['contract'][-1]}, session {bars['session'][-1]}" if has_session else "",
        levels=levels,
        images={
            "training": charts.training_chart(progress) if progress else None,
            "track": charts.track_chart(track.cumulative) if track else None,
            "learning": charts.learning_chart(track.folds) if track else None,
            "gains": charts.gains_chart(metrics.versus),
            "calibration": charts.calibration_chart(metrics.calibration),
            "equity": charts.equity_chart(metrics.backtest.daily),
            "policy": charts.equity_chart(metrics.policy.daily)
            if metrics.policy and metrics.policy.round_turns
            else None,
            "profile": charts.profile_chart(bars, levels, context.instrument) if has_session else None,
        },
    )
    path = run_dir / layout.REPORT
    write_text(path, page)
    return path
