"""The page of a feature analysis: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from vpoc_ml.analysis.distribution import TAIL_DISTANCES
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.feature_analysis import FeatureAnalysis
from vpoc_ml.lake.atomic import write_json, write_text
from vpoc_ml.reports import charts
from vpoc_ml.reports.templating import render

_DRIFTED, _STABLE = 0.25, 0.1


def write_analysis(folder: Path, run: str, analysis: FeatureAnalysis) -> Path:
    """Write ``feature-analysis.json`` and ``.html`` of ``analyze`` into ``folder``; return the page's path."""
    content = analysis.to_json()
    write_json(folder / layout.FEATURE_ANALYSIS, content)
    path = folder / layout.FEATURE_ANALYSIS_PAGE
    write_text(path, render_analysis(run, content))
    return path


def render_analysis(run: str, analysis: Mapping[str, Any]) -> str:
    """Return the page as HTML."""
    features = analysis["features"]
    about = analysis["about"]
    images = {
        "correlation": charts.correlation_chart(analysis["clusters"]),
        "drift": charts.drift_chart(features, about["contracts"]) if len(about["contracts"]) > 1 else None,
        "skill": charts.skill_chart(features),
        "ablation": charts.ablation_chart(analysis["ablation"]),
    }
    scaler_rows = []  # median and largest of each measure over the features
    for kind, scaler in analysis["scalers"].items():
        shapes = scaler["features"]
        sizes = {key: [abs(shape[key]) for shape in shapes.values()] for key in ("skewness", "far")}
        kurtosis = {name: shape["kurtosis"] for name, shape in shapes.items()}
        worst = max(kurtosis, key=lambda name: kurtosis[name])
        scaler_rows.append(
            {
                "kind": kind,
                "formula": scaler["formula"],
                "chosen": scaler["chosen"],
                **{key: (median(values), max(values)) for key, values in sizes.items()},
                "kurtosis": (median(kurtosis.values()), kurtosis[worst]),
                "worst": worst,
            }
        )
    return render(
        "feature_analysis.html",
        run=run,
        **analysis,
        images=images,
        findings=findings(analysis),
        reaches=[f"{reach:g}" for reach in TAIL_DISTANCES],
        missing=[(name, feature) for name, feature in features.items() if feature["before"]["nonfinite"]],
        scaler=next(kind for kind, scaler in analysis["scalers"].items() if scaler["chosen"]),
        scaler_rows=scaler_rows,
    )


def findings(analysis: Mapping[str, Any]) -> list[str]:
    """Return the conclusions that the numbers allow, one sentence or two each."""
    features, about, clusters = analysis["features"], analysis["about"], analysis["clusters"]
    measured = {name: f["skill"] for name, f in features.items() if f["skill"]["validation_ic"]}
    outside = [n for n, s in measured.items() if s["validation_ic"]["low"] > 0 or s["validation_ic"]["high"] < 0]
    significant = [name for name, skill in measured.items() if skill["stands"]]
    chance = (1.0 - about["confidence"]) * len(measured)
    far = [name for name, feature in features.items() if feature["extremes"]["20"] > 0]
    clipped = [name for name, feature in features.items() if feature["clipped"] > 0]
    several = sum(1 for group in clusters["groups"] if len(group["members"]) > 1)
    sentences = [
        (
            f"Alone, {len(outside)} of {len(measured)} features have a rank IC whose interval excludes zero; chance"
            f" alone would give about {chance:.1f}. Significant after the correction for {len(features)} tests:"
            f" {'; '.join(significant) or 'none'}."
        ),
    ]
    for result in analysis["ablation"]:
        gains = {name: group["gain"]["rank_ic_gain"] for name, group in result["groups"].items() if group["stands"]}
        needed = "; ".join(name for name, gain in gains.items() if gain["value"] > 0)
        harmful = "; ".join(name for name, gain in gains.items() if gain["value"] < 0)
        ic = result["full"]["rank_ic"]
        value = f"{ic['value']:.4f} [{ic['low']:.4f}, {ic['high']:.4f}]" if ic else "not measurable"
        text = f"{result['model'].capitalize()} with all features: rank IC {value}."
        text += f" It loses without {needed}." if needed else " No group is shown to be needed."
        sentences.append(text + (f" It gains without {harmful}." if harmful else ""))
    sentences.append(
        f"Values farther than 20 scales from the median: {'; '.join(far) or 'none'}."
        f" Clipped by the guard: {'; '.join(clipped) or 'none'}."
    )
    if len(about["contracts"]) > 1:
        worst = [
            max((each["psi"] for each in feature["drift"].values() if each["psi"] is not None), default=None)
            for feature in features.values()
        ]
        drifted = sum(1 for psi in worst if psi is not None and psi > _DRIFTED)
        stable = sum(1 for psi in worst if psi is not None and psi < _STABLE)
        sentences.append(
            f"Between contracts {drifted} features shift by a stability index above {_DRIFTED} and {stable} stay below"
            f" {_STABLE}. Slow features (volatility of weeks, VIX, days to the roll) differ between any two contracts."
        )
    sentences.append(
        f"{len(clusters['order'])} features form {len(clusters['groups'])} clusters at a mean |rank correlation| of"
        f" {clusters['same']:g}; {several} hold more than one feature."
    )
    return sentences
