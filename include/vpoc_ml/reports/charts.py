"""Charts of the run report and of the feature analysis. Each is a self-contained SVG in a data URI, reproducible to
the byte."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import polars as pl
from matplotlib import dates, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vpoc_ml.artifacts.metrics import CalibrationBin, Gains, SessionGain, SessionResult
from vpoc_ml.artifacts.track_record import FoldMetrics
from vpoc_ml.artifacts.training_progress import ProgressRecord, split_records
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.histogram import volume_profile
from vpoc_ml.reports.inline_svg import BLUE, GREEN, GREY, INK, ORANGE, RED

DRIFT_FULL = 0.5
"""Population stability index at the end of the colour scale."""
MEASURED_FOLDS = 3
"""Folds that a learning curve needs."""

STYLE = {
    "svg.hashsalt": "vpoc_ml",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#E4E7EB",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
}


def training_chart(progress: Sequence[ProgressRecord]) -> str:
    """Draw loss, gradient norm, updates and events over the steps of ``progress.jsonl``; return a data URI."""
    windows, epochs = split_records(progress)
    with rc_context(STYLE):
        figure, (loss, norm, update, events) = axes(2, 2, 9.0, 5.4)
        _line(loss, windows, "loss", GREY, "training, window")
        _line(loss, epochs, "train_loss", BLUE, "training, epoch", "o")
        _line(loss, epochs, "validation_loss", ORANGE, "validation", "o")
        _line(loss, epochs, "validation_constant", INK, "validation, constant", "", "--")
        loss.set(title="Loss", xlabel="step")
        loss.legend(fontsize=7.5)
        _line(norm, windows, "grad_norm_max", RED, "largest")
        _line(norm, windows, "grad_norm_mean", BLUE, "mean")
        norm.set(title="Gradient norm by window", xlabel="step")
        if any((window.grad_norm_max or 0) > 0 for window in windows):
            norm.set_yscale("log")
        norm.legend(fontsize=7.5)
        _line(update, windows, "update_ratio_max", BLUE, "largest")
        update.set(title="Update over weights by window; 1e-4 to 1e-2 is healthy", xlabel="step")
        if any((window.update_ratio_max or 0) > 0 for window in windows):
            update.set_yscale("log")
        _line(events, windows, "clip_share", ORANGE, "share of steps clipped")
        _line(events, windows, "skipped", RED, "steps skipped")
        _line(events, windows, "rollbacks", INK, "rollbacks so far")
        events.set(title="Clipped, skipped, rolled back", xlabel="step")
        events.legend(fontsize=7.5)
        return data_uri(figure)


def gains_chart(versus: Mapping[str, Gains]) -> str:
    """Draw the paired gains in direction accuracy with their intervals; return a data URI."""
    gains = {name: each.direction_accuracy_gain for name, each in versus.items() if each.direction_accuracy_gain}
    names = list(gains)
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 0.7 + 0.38 * max(len(names), 2))
        axis.axvline(0, color=INK, linewidth=1)
        for row, gain in enumerate(gains.values()):
            colour = GREEN if gain.low > 0 else RED if gain.high < 0 else GREY
            axis.plot([100 * gain.low, 100 * gain.high], [row, row], color=colour, linewidth=3, solid_capstyle="round")
            axis.plot([100 * gain.value], [row], "o", color=INK, markersize=5)
        axis.set_yticks(range(len(names)), [f"over {name}" for name in names])
        axis.set(xlabel="gain in direction accuracy, points", ylim=(len(names) - 0.5, -0.5))
        axis.grid(axis="y", visible=False)
        return data_uri(figure)


def calibration_chart(bins: Sequence[CalibrationBin]) -> str:
    """Draw the realised rank and the up share over the predicted rank by decile; return a data URI."""
    prediction = [np.nan if item.prediction is None else item.prediction for item in bins]
    with rc_context(STYLE):
        figure, (rank, share) = axes(1, 2, 9.0, 2.9)
        span = [min(prediction), max(prediction)]
        rank.plot(span, span, "--", color=GREY, label="perfect")
        rank.plot(prediction, [item.realised for item in bins], "o-", color=BLUE, label="candidate")
        rank.set(title="Mean realised rank", xlabel="mean predicted rank, by decile")
        rank.legend(fontsize=7.5)
        up = [np.nan if item.up_share is None else 100 * item.up_share for item in bins]
        share.axhline(50, linestyle="--", color=GREY)
        share.plot(prediction, up, "o-", color=GREEN)
        share.set(title="Rises among the bars that moved, %", xlabel="mean predicted rank, by decile")
        return data_uri(figure)


def equity_chart(daily: Sequence[SessionResult]) -> str:
    """Draw cumulated gross and net dollars by session; return a data URI."""
    days = [np.datetime64(day.session) for day in daily]
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 2.9)
        axis.axhline(0, color=INK, linewidth=0.8)
        for name, colour in (("gross", GREY), ("net", BLUE)):
            axis.plot(days, np.cumsum([getattr(day, name) for day in daily]), color=colour, label=name)
        axis.set(title="Cumulated result of one contract, dollars")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _dates(axis)
        axis.legend(fontsize=8)
        return data_uri(figure)


def track_chart(cumulative: Mapping[str, Sequence[SessionGain]]) -> str:
    """Draw the cumulated Huber gain over each baseline, session by session; return a data URI."""
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 2.9)
        axis.axhline(0, color=INK, linewidth=0.8)
        for (name, gains), colour in zip(cumulative.items(), cycle((GREY, GREEN, BLUE, ORANGE, RED))):
            days = [np.datetime64(each.session) for each in gains]
            axis.plot(days, [1e5 * each.gain for each in gains], color=colour, label=f"over {name}")
        axis.set(title="Cumulated Huber gain of the candidate, mean of each session times 1e-5")
        _dates(axis)
        axis.legend(fontsize=8)
        return data_uri(figure)


def learning_chart(folds: Sequence[FoldMetrics]) -> str | None:
    """Draw the rank IC of candidate and ridge over the sessions that trained each fold; return a data URI.

    None with fewer than three measured folds.
    """
    measured = [each for each in folds if each.models]
    if len(measured) < MEASURED_FOLDS:
        return None
    sessions = [each.fold.train.sessions for each in measured]
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 2.6)
        axis.axhline(0, color=INK, linewidth=0.8)
        for name, colour in (("ridge", GREY), ("candidate", BLUE)):
            skills = [each.models[name].rank_ic for each in measured]
            values = [np.nan if ic is None else ic.value for ic in skills]
            axis.plot(sessions, values, "o-", color=colour, label=name)
        low, high = ([np.nan if ic is None else getattr(ic, end) for ic in skills] for end in ("low", "high"))
        axis.vlines(sessions, low, high, color=BLUE, linewidth=1)
        axis.set(title="Rank IC of the folds", xlabel="training sessions")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=8)
        return data_uri(figure)


def profile_chart(bars: pl.DataFrame, levels: Mapping[str, float], instrument: Instrument) -> str:
    """Draw one session: its closes beside its volume profile with VPOC and value area; return a data URI.

    ``levels`` is empty for a session without volume, which has none.
    """
    histogram = volume_profile(bars, instrument)
    low, high = levels.get("val", np.inf), levels.get("vah", -np.inf)
    inside = (histogram.prices >= low) & (histogram.prices <= high)
    with rc_context(STYLE):
        figure, (price, profile) = axes(1, 2, 9.0, 3.6, sharey=True, width_ratios=[3, 2])
        price.plot(bars["ts"].dt.replace_time_zone(None).to_numpy(), bars["close"].to_numpy(), color=INK, linewidth=0.9)
        price.set(title="Close, points (time in UTC)")
        _dates(price)
        colours = np.where(inside, BLUE, GREY).tolist()
        profile.barh(histogram.prices, histogram.volume, height=instrument.tick_size, color=colours)
        profile.set(title="Contracts at each price")
        profile.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for axis in (price, profile) if levels else ():
            axis.axhspan(low, high, color=BLUE, alpha=0.08, linewidth=0)
            axis.axhline(levels["vpoc"], color=RED, linewidth=1.2)
        sides = {"vah": "bottom", "vpoc": "center", "val": "top"}  # apart in a narrow value area
        for name, side in sides.items() if levels else ():
            text, where = f" {name.upper()} {levels[name]:,.2f}", (1.0, levels[name])
            profile.annotate(text, where, xycoords=("axes fraction", "data"), fontsize=8, va=side)
        return data_uri(figure)


def correlation_chart(clusters: Mapping[str, Any]) -> str:
    """Draw the ordered correlation matrix with the clusters framed; return a data URI."""
    names, size = clusters["order"], 2.2 + 0.15 * len(clusters["order"])
    with rc_context(STYLE | {"axes.grid": False}):
        figure, (axis,) = axes(1, 1, min(size + 1.0, 10.5), min(size, 9.8))
        shown = axis.imshow(clusters["rho"], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axis.set_yticks(range(len(names)), names, fontsize=7 if len(names) > 30 else 8)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7 if len(names) > 30 else 8)
        start = 0
        for group in clusters["groups"]:
            count = len(group["members"])
            if count > 1:
                edges = [start - 0.5, start + count - 0.5]
                axis.fill([edges[0], edges[1], edges[1], edges[0]], np.repeat(edges, 2), fill=False, edgecolor=INK)
            start += count
        figure.colorbar(shown, ax=axis, shrink=0.5, label="Spearman correlation")
        return data_uri(figure)


def drift_chart(features: Mapping[str, Any], contracts: Sequence[str]) -> str:
    """Draw the population stability index of every feature and contract; return a data URI."""
    index = np.array(
        [[feature["drift"][code]["psi"] for code in contracts] for feature in features.values()], dtype=float
    )
    with rc_context(STYLE | {"axes.grid": False}):
        figure, (axis,) = axes(1, 1, min(3.4 + 0.55 * len(contracts), 10.5), 1.0 + 0.17 * len(features))
        shown = axis.imshow(index, cmap="YlOrRd", vmin=0, vmax=DRIFT_FULL, aspect="auto", interpolation="nearest")
        axis.set_yticks(range(len(features)), list(features), fontsize=7)
        axis.set_xticks(range(len(contracts)), contracts, rotation=45 if len(contracts) > 6 else 0, fontsize=8)
        if len(contracts) <= 12:
            for (row, column), value in np.ndenumerate(index):
                colour = "white" if value > 0.6 * DRIFT_FULL else INK
                axis.annotate(f"{value:.2f}", (column, row), ha="center", va="center", fontsize=6, color=colour)
        figure.colorbar(shown, ax=axis, shrink=0.5, extend="max", label="PSI against the other contracts")
        return data_uri(figure)


def skill_chart(features: Mapping[str, Any]) -> str:
    """Draw the rank IC of every feature on training and validation rows with intervals; return a data URI."""
    rows = [(name, feature["skill"]) for name, feature in features.items() if feature["skill"]["validation_ic"]]
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 0.9 + 0.19 * max(len(rows), 2))
        axis.axvline(0, color=INK, linewidth=0.8)
        for row, (_, skill) in enumerate(rows):
            train, validation = skill["train_ic"], skill["validation_ic"]
            colour = BLUE if skill["stands"] else GREY
            axis.plot([validation["low"], validation["high"]], [row, row], color=colour, linewidth=2.5)
            axis.plot(validation["value"], row, "o", color=INK, markersize=3.5, label="validation" * (row == 0))
            if train:
                axis.plot(train["value"], row, "|", color=ORANGE, markersize=8, mew=2, label="train" * (row == 0))
        axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
        axis.set(xlabel="rank IC with the label's return", ylim=(len(rows) - 0.4, -0.6))
        axis.legend(fontsize=8, loc="upper right")
        return data_uri(figure)


def ablation_chart(results: Sequence[Mapping[str, Any]]) -> str:
    """Draw what each group adds in rank IC, one panel a model; return a data URI."""
    count = max(len(result["groups"]) for result in results)
    with rc_context(STYLE):
        figure, panels = axes(1, len(results), 9.0, 1.0 + 0.24 * max(count, 2), sharey=True)
        for panel, result in zip(panels, results, strict=True):
            panel.axvline(0, color=INK, linewidth=0.8)
            for row, group in enumerate(result["groups"].values()):
                if (gain := group["gain"]["rank_ic_gain"]) is not None:
                    colour = GREY if not group["stands"] else GREEN if gain["value"] > 0 else RED
                    panel.plot([gain["low"], gain["high"]], [row, row], color=colour, linewidth=3)
                    panel.plot(gain["value"], row, "o", color=INK, markersize=4)
            panel.set(title=result["model"], xlabel="rank IC lost without the group", ylim=(count - 0.4, -0.6))
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.set_yticks(range(len(result["groups"])), list(result["groups"]), fontsize=8)
        return data_uri(figure)


def axes(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``width`` by ``height`` inches and its axes, row by row; call it under ``STYLE``."""
    if "width_ratios" in options:
        options["gridspec_kw"] = {"width_ratios": options.pop("width_ratios")}
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns, **options)))


def _line(
    axis: Axes,
    records: Sequence[ProgressRecord],
    name: str,
    colour: str,
    label: str,
    marker: str = "",
    style: str = "-",
) -> None:
    values = [np.nan if (value := getattr(record, name)) is None else value for record in records]
    axis.plot(
        [record.step for record in records], values, style, marker=marker, markersize=3, color=colour, label=label
    )


def _dates(axis: Axes) -> None:
    locator = dates.AutoDateLocator(maxticks=7)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def data_uri(figure: Figure) -> str:
    """Return ``figure`` as an SVG in a data URI, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
