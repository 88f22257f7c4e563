"""Pictures of a run's report, each an SVG that stands alone and comes out the same every time."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib import dates, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.histogram import volume_profile

# Okabe and Ito's palette: told apart with any colour vision, and by their greys in print.
BLUE, ORANGE, GREEN, RED, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#9AA3AD", "#1F2933"

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


def training_picture(progress: Sequence[Mapping[str, Any]]) -> str:
    """Draw loss, gradient norm, updates and events over the steps of ``progress.jsonl``; return a data URI."""
    windows = [line for line in progress if line["kind"] == "window"]
    epochs = [line for line in progress if line["kind"] == "epoch"]
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
        if any((line.get("grad_norm_max") or 0) > 0 for line in windows):
            norm.set_yscale("log")
        norm.legend(fontsize=7.5)
        _stability(update, events, windows)
        return data_uri(figure)


def _stability(update: Axes, events: Axes, windows: Sequence[Mapping[str, Any]]) -> None:
    """Draw how far steps moved the weights, and what was clipped, skipped and rolled back."""
    _line(update, windows, "update_ratio_max", BLUE, "largest")
    update.set(title="Update over weights by window; 1e-4 to 1e-2 is healthy", xlabel="step")
    if any((line.get("update_ratio_max") or 0) > 0 for line in windows):
        update.set_yscale("log")
    _line(events, windows, "clip_share", ORANGE, "share of steps clipped")
    _line(events, windows, "skipped", RED, "steps skipped")
    _line(events, windows, "rollbacks", INK, "rollbacks so far")
    events.set(title="Clipped, skipped, rolled back", xlabel="step")
    events.legend(fontsize=7.5)


def gains_picture(versus: Mapping[str, Any]) -> str:
    """Draw the paired gains in direction accuracy with their intervals; return a data URI."""
    names = [name for name in versus if versus[name]["direction_accuracy_gain"]]
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 0.7 + 0.38 * max(len(names), 2))
        axis.axvline(0, color=INK, linewidth=1)
        for row, name in enumerate(names):
            gain = {key: 100 * value for key, value in versus[name]["direction_accuracy_gain"].items()}
            colour = GREEN if gain["low"] > 0 else RED if gain["high"] < 0 else GREY
            axis.plot([gain["low"], gain["high"]], [row, row], color=colour, linewidth=3, solid_capstyle="round")
            axis.plot([gain["value"]], [row], "o", color=INK, markersize=5)
        axis.set_yticks(range(len(names)), [f"over {name}" for name in names])
        axis.set(xlabel="gain in direction accuracy, points", ylim=(len(names) - 0.5, -0.5))
        axis.grid(axis="y", visible=False)
        return data_uri(figure)


def calibration_picture(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw the realised rank and the up share over the predicted rank by decile; return a data URI."""
    prediction = [item["prediction"] for item in bins]
    with rc_context(STYLE):
        figure, (rank, share) = axes(1, 2, 9.0, 2.9)
        span = [min(prediction), max(prediction)]
        rank.plot(span, span, "--", color=GREY, label="perfect")
        rank.plot(prediction, [item["realised"] for item in bins], "o-", color=BLUE, label="candidate")
        rank.set(title="Mean realised rank", xlabel="mean predicted rank, by decile")
        rank.legend(fontsize=7.5)
        up = [np.nan if item["up_share"] is None else 100 * item["up_share"] for item in bins]
        share.axhline(50, linestyle="--", color=GREY)
        share.plot(prediction, up, "o-", color=GREEN)
        share.set(title="Rises among the bars that moved, %", xlabel="mean predicted rank, by decile")
        return data_uri(figure)


def equity_picture(daily: Sequence[Mapping[str, Any]]) -> str:
    """Draw cumulated gross and net dollars by session; return a data URI."""
    days = [np.datetime64(day["session"]) for day in daily]
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 2.9)
        axis.axhline(0, color=INK, linewidth=0.8)
        for name, colour in (("gross", GREY), ("net", BLUE)):
            axis.plot(days, np.cumsum([day[name] for day in daily]), color=colour, label=name)
        axis.set(title="Cumulated result of one contract, dollars")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _dates(axis)
        axis.legend(fontsize=8)
        return data_uri(figure)


def profile_picture(bars: pl.DataFrame, levels: Mapping[str, float], instrument: Instrument) -> str:
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


def axes(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``width`` by ``height`` inches and its axes, row by row; call it under ``STYLE``."""
    if "width_ratios" in options:
        options["gridspec_kw"] = {"width_ratios": options.pop("width_ratios")}
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns, **options)))


def _line(
    axis: Axes,
    lines: Sequence[Mapping[str, Any]],
    name: str,
    colour: str,
    label: str,
    marker: str = "",
    style: str = "-",
) -> None:
    values = [np.nan if line.get(name) is None else line[name] for line in lines]
    axis.plot([line["step"] for line in lines], values, style, marker=marker, markersize=3, color=colour, label=label)


def _dates(axis: Axes) -> None:
    locator = dates.AutoDateLocator(maxticks=7)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def data_uri(figure: Figure) -> str:
    """Return ``figure`` as an SVG in a data URI, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
