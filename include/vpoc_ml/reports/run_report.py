"""The report of a run: one self-contained HTML file, for screen and paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from vpoc_ml.config import RunConfig
from vpoc_ml.config.settings import every_setting, shown
from vpoc_ml.evaluation.evaluate import read_metrics
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.reports import charts
from vpoc_ml.reports.sentences import after_costs, loss_sentence, skill_sentence
from vpoc_ml.reports.templating import render
from vpoc_ml.training.loop.log import read_progress


def write_report(
    run_dir: Path,
    config: RunConfig,
    *,
    session_bars: pl.DataFrame,
    session_levels: Mapping[str, Any],
    instrument: Instrument,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html`` of an evaluated run and return its path.

    Parameters
    ----------
    session_bars, session_levels
        Canonical bars of one session and its ``vpoc``, ``vah``, ``val`` (points), for the chart of the volume
        profile; an empty frame leaves the chart out.
    extra
        Optional parts that the caller knows: ``decision`` (of ``promotion.decide``, as JSON, with ``title``,
        ``tone`` and ``remarks`` of a later state), ``gates`` (verdicts as JSON), ``facts`` (label -> text,
        for the header), ``notes`` (sentences).

    Raises
    ------
    MissingInputError
        The run has not been evaluated.
    """
    metrics, extra, progress = read_metrics(run_dir), extra or {}, read_progress(run_dir)
    sections: dict[str, list[tuple[str, str]]] = {}
    for section, name, field in every_setting():
        sections.setdefault(section, []).append((name, shown(field, getattr(getattr(config, section), name))))
    has_session = not session_bars.is_empty()
    page = render(
        "report.html",
        run=run_dir.name,
        config=config,
        config_hash=config.digest(),
        settings=list(sections.items()),
        metrics=metrics,
        skill=skill_sentence(metrics),
        decision=extra.get("decision"),
        after_costs=after_costs(metrics),
        loss_sentence=loss_sentence(progress),
        gates=extra.get("gates", []),
        facts=extra.get("facts", {}),
        notes=extra.get("notes", []),
        session=f"{session_bars['contract'][-1]}, session {session_bars['session'][-1]}" if has_session else "",
        levels=session_levels,
        images={
            "training": charts.training_chart(progress) if progress else None,
            "gains": charts.gains_chart(metrics["versus"]),
            "calibration": charts.calibration_chart(metrics["calibration"]),
            "equity": charts.equity_chart(metrics["backtest"]["daily"]),
            "profile": charts.profile_chart(session_bars, session_levels, instrument) if has_session else None,
        },
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path
