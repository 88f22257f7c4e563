"""The report of a run: one HTML file that needs nothing else, on screen or on paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vpoc_ml.config import RunConfig
from vpoc_ml.config.settings import every_setting, shown
from vpoc_ml.evaluation.evaluate import read_metrics
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.reports import charts
from vpoc_ml.reports.sentences import after_costs, loss_sentence
from vpoc_ml.training.loop.log import read_progress

CONTAINS_ZERO = "interval contains zero: no evidence of skill"


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
        Canonical bars of one session and its ``vpoc``, ``vah``, ``val`` (points), for the picture of the
        volume profile; an empty frame leaves the picture out.
    extra
        What the layers above know, all optional: ``decision`` (of ``promotion.decide``, as JSON, with ``title``,
        ``tone`` and ``remarks`` where it has gone further), ``gates`` (verdicts as JSON), ``facts`` (label -> text,
        for the header), ``notes`` (sentences).

    Raises
    ------
    MissingInputError
        The run has not been evaluated.
    """
    metrics, extra, progress = read_metrics(run_dir), extra or {}, read_progress(run_dir)
    page = (
        environment()
        .get_template("report.html")
        .render(
            run=run_dir.name,
            config=config,
            config_hash=config.digest(),
            settings=_settings(config),
            metrics=metrics,
            skill=skill_sentence(metrics),
            decision=extra.get("decision"),
            after_costs=after_costs(metrics),
            loss_sentence=loss_sentence(progress),
            gates=extra.get("gates", []),
            facts=extra.get("facts", {}),
            notes=extra.get("notes", []),
            session=_session_title(session_bars),
            levels=session_levels,
            images=_images(progress, metrics, session_bars, session_levels, instrument),
        )
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def verdict_on(gain: Mapping[str, float] | None) -> str:
    """Say in words what an interval of a gain allows to say."""
    if gain is None:
        return "not measurable"
    if gain["low"] > 0:
        return "better"
    return "worse" if gain["high"] < 0 else CONTAINS_ZERO


def skill_sentence(metrics: Mapping[str, Any]) -> str:
    """Say in one sentence whether the candidate showed skill on the test rows."""
    beaten = [
        name for name, gains in metrics["versus"].items() if verdict_on(gains["direction_accuracy_gain"]) == "better"
    ]
    unbeaten = [name for name in metrics["versus"] if name not in beaten]
    ic = metrics["models"]["candidate"]["rank_ic"]
    rank = f"The rank IC is {verdict_text(ic)}"
    if not unbeaten:
        return f"{rank}. In direction the candidate is better than {_listed(beaten)}."
    also = f"; better than {_listed(beaten)}" if beaten else ""
    return f"{rank}. In direction there is no evidence that the candidate is better than {_listed(unbeaten)}{also}."


def verdict_text(ic: Mapping[str, float] | None) -> str:
    """Describe a rank IC and what its interval allows to say."""
    if ic is None:
        return "not measurable: the predictions do not vary"
    words = {"better": "above zero", "worse": "below zero: the model is wrong more often than right"}
    verdict = verdict_on(ic)
    return f"{ic['value']:.4f} [{ic['low']:.4f}, {ic['high']:.4f}], {words.get(verdict, verdict)}"


def _images(
    progress: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    bars: pl.DataFrame,
    levels: Mapping[str, Any],
    instrument: Instrument,
) -> dict[str, str | None]:
    return {
        "training": charts.training_picture(progress) if progress else None,
        "gains": charts.gains_picture(metrics["versus"]),
        "calibration": charts.calibration_picture(metrics["calibration"]),
        "equity": charts.equity_picture(metrics["backtest"]["daily"]),
        "profile": None if bars.is_empty() else charts.profile_picture(bars, levels, instrument),
    }


def environment() -> Environment:
    """Return the environment of the reports: their templates and filters."""
    environment = Environment(
        loader=PackageLoader("vpoc_ml.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": _interval_filter,
        "dollars": _or_dash(lambda value: f"{value:,.2f}"),
        "count": _or_dash(lambda value: f"{value:,}"),
        "percent": _or_dash(lambda value: f"{100 * value:.2f} %"),
        "verdict_on": verdict_on,
    }
    return environment


def _or_dash(show: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "n/a" if value is None else show(value)


def _interval_filter(value: Mapping[str, float] | None, digits: int, factor: float = 1.0) -> str:
    if value is None:
        return "n/a"
    shown, low, high = (f"{factor * value[key]:.{digits}f}" for key in ("value", "low", "high"))
    return Markup("{} <small>[{}, {}]</small>").format(shown, low, high)


def _settings(config: RunConfig) -> list[tuple[str, list[tuple[str, str]]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for section, name, field in every_setting():
        sections.setdefault(section, []).append((name, shown(field, getattr(getattr(config, section), name))))
    return list(sections.items())


def _session_title(bars: pl.DataFrame) -> str:
    return "" if bars.is_empty() else f"{bars['contract'][-1]}, session {bars['session'][-1].isoformat()}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
