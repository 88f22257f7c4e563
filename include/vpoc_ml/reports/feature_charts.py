"""Pictures of the feature analysis: correlation, drift, skill, ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vpoc_ml.reports.charts import BLUE, GREEN, GREY, INK, ORANGE, RED, STYLE, axes, data_uri

DRIFT_FULL = 0.5


def correlation_picture(clusters: Mapping[str, Any]) -> str:
    """Draw the ordered correlation matrix with the clusters framed; return a data URI."""
    names, size = clusters["order"], 2.2 + 0.15 * len(clusters["order"])
    with rc_context(STYLE | {"axes.grid": False}):
        figure, (axis,) = axes(1, 1, min(size + 1.0, 10.5), min(size, 9.8))
        shown = axis.imshow(clusters["rho"], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        _names(axis, names, size=7 if len(names) > 30 else 8)
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


def drift_picture(features: Mapping[str, Any], contracts: Sequence[str]) -> str:
    """Draw the population stability index of every feature and contract; return a data URI."""
    index = np.array(
        [[_number(feature["drift"][code]["psi"]) for code in contracts] for feature in features.values()], dtype=float
    )
    with rc_context(STYLE | {"axes.grid": False}):
        figure, (axis,) = axes(1, 1, min(3.4 + 0.55 * len(contracts), 10.5), 1.0 + 0.17 * len(features))
        shown = axis.imshow(index, cmap="YlOrRd", vmin=0, vmax=DRIFT_FULL, aspect="auto", interpolation="nearest")
        _names(axis, list(features), size=7)
        axis.set_xticks(range(len(contracts)), contracts, rotation=45 if len(contracts) > 6 else 0, fontsize=8)
        if len(contracts) <= 12:
            for (row, column), value in np.ndenumerate(index):
                colour = "white" if value > 0.6 * DRIFT_FULL else INK
                axis.annotate(f"{value:.2f}", (column, row), ha="center", va="center", fontsize=6, color=colour)
        figure.colorbar(shown, ax=axis, shrink=0.5, extend="max", label="PSI against the other contracts")
        return data_uri(figure)


def skill_picture(features: Mapping[str, Any]) -> str:
    """Draw the rank IC of every feature on training and validation rows with intervals; return a data URI."""
    rows = [(name, feature["skill"]) for name, feature in features.items() if feature["skill"]["validation_ic"]]
    with rc_context(STYLE):
        figure, (axis,) = axes(1, 1, 9.0, 0.9 + 0.19 * max(len(rows), 2))
        axis.axvline(0, color=INK, linewidth=0.8)
        for place, (_, skill) in enumerate(rows):
            train, validation = skill["train_ic"], skill["validation_ic"]
            colour = BLUE if skill["stands"] else GREY
            axis.plot([validation["low"], validation["high"]], [place, place], color=colour, linewidth=2.5)
            axis.plot(validation["value"], place, "o", color=INK, markersize=3.5, label="validation" * (place == 0))
            if train:
                axis.plot(train["value"], place, "|", color=ORANGE, markersize=8, mew=2, label="train" * (place == 0))
        _names(axis, [name for name, _ in rows], size=7)
        axis.set(xlabel="rank IC with the label's return", ylim=(len(rows) - 0.4, -0.6))
        axis.legend(fontsize=8, loc="upper right")
        return data_uri(figure)


def ablation_picture(results: Sequence[Mapping[str, Any]]) -> str:
    """Draw what each group adds in rank IC, one panel a model; return a data URI."""
    count = max(len(result["groups"]) for result in results)
    with rc_context(STYLE):
        figure, panels = axes(1, len(results), 9.0, 1.0 + 0.24 * max(count, 2), sharey=True)
        for panel, result in zip(panels, results, strict=True):
            panel.axvline(0, color=INK, linewidth=0.8)
            for place, group in enumerate(result["groups"].values()):
                if (gain := group["gain"]["rank_ic_gain"]) is not None:
                    colour = GREY if not group["stands"] else GREEN if gain["value"] > 0 else RED
                    panel.plot([gain["low"], gain["high"]], [place, place], color=colour, linewidth=3)
                    panel.plot(gain["value"], place, "o", color=INK, markersize=4)
            panel.set(title=result["model"], xlabel="rank IC lost without the group", ylim=(count - 0.4, -0.6))
            panel.xaxis.set_major_locator(MaxNLocator(5))
            _names(panel, list(result["groups"]), size=8)
        return data_uri(figure)


def _names(axis: Axes, names: Sequence[str], size: float) -> None:
    axis.set_yticks(range(len(names)), names, fontsize=size)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
