"""``python -m vpoc_ml.reports.feature_reference [DOCS]`` writes ``features.md`` and a small chart of every feature.

The page is made from the registry, the list of optional features and the docstrings of the functions, the charts from
the synthetic market. The same code makes the same bytes.
"""

from __future__ import annotations

import argparse
import inspect
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.config import IngestConfig, ProfileConfig
from vpoc_ml.evaluation.forecasts import Floats
from vpoc_ml.features.build import FUNCTIONS, build_features
from vpoc_ml.features.registry import ALL_FEATURES, OPTIONAL_FAMILIES, OPTIONAL_FEATURES, REGISTRY, Bounds, Feature
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.reports.inline_svg import path_svg
from vpoc_ml.synthetic.generate import write_market

SEED = 7
FIRST = 60
"""The first session shown: late enough for the longest warm-up, while the contract is the front one."""
COLUMNS = 110
FEW = 4
_WINDOWED, _SHOWN_WINDOW = "alpha158", "20 m"


def pictured(feature: Feature) -> bool:
    """Return whether a feature has a chart. Of features that differ only in the window, the one of 20 bars has."""
    return feature.family != _WINDOWED or feature.window in ("1 m", _SHOWN_WINDOW)


def sketches() -> Iterator[tuple[str, str]]:
    """Yield name and SVG of every feature that has a chart, those of the registry first."""
    features = synthetic_features()
    for name, feature in ALL_FEATURES.items():
        if pictured(feature):
            yield name, sketch(features.select("session", name), feature)


def sketch(column: pl.DataFrame, feature: Feature) -> str:
    """Draw one feature of one contract; return the SVG.

    The chart shows two sessions. If these hold only a few values, it shows the last value of every session instead.

    Args:
        column: ``session`` and the feature's own column, one row per bar.
        feature: The feature.
    """
    sessions = column.partition_by("session", maintain_order=True)
    values = [session.to_series(1).to_numpy().astype(np.float64) for session in sessions]
    two = values[FIRST : FIRST + 2]
    if len(np.unique(np.concatenate(two))) > FEW or feature.unit == "0/1":
        return path_svg([envelope(part, COLUMNS) for part in two], f"{feature.name}, two sessions")
    ends = np.array([session[-1] for session in values])
    known = ends[np.isfinite(ends).argmax() :]
    return path_svg([known], f"{feature.name}, end of {known.size} sessions", step=True)


def envelope(values: Floats, columns: int) -> Floats:
    """Return at most two values for each of ``columns`` equal parts: its smallest and largest, in their order."""
    if values.size <= 2 * columns:
        return values
    parts = np.array_split(np.arange(values.size), columns)
    filled = np.where(np.isfinite(values), values, 0.0)
    kept = [sorted({part[filled[part].argmin()], part[filled[part].argmax()]}) for part in parts]
    return values[np.concatenate(kept)]


def synthetic_features() -> pl.DataFrame:
    """Return all features of one synthetic contract; a market of another seed is the paired instrument."""
    es, contract, config = instrument("ES"), parse_contract("ESH23"), ProfileConfig()
    markets = []
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in (("market", SEED), ("pair", SEED + 1)):
            made = write_market(Path(folder, name), contracts=1, seed=seed)
            closes = read_vix(made.vix)
            markets.append((build_bars(made.files[contract.code], contract, es, closes, IngestConfig()).bars, closes))
    (bars, vix), (pair, _) = markets
    features = build_features(
        bars,
        build_sessions(bars, es, config),
        build_developing(bars, es, config),
        vix,
        es,
        extras=OPTIONAL_FAMILIES,
        pair=pair.select("ts", "close"),
    )
    return features.select("session", *ALL_FEATURES)


PAGE, FOLDER = "features.md", "features"
_IMAGE = f"![{{0}}, synthetic market]({FOLDER}/{{0}}.svg)"
_HEAD = "| formula | window | unit | hard bounds | usual range | NaN only in the first |\n|---|---|---|---|---|---|"


def page() -> str:
    """Return the reference page as Markdown."""
    symbols = inspect.cleandoc(import_module("vpoc_ml.features.registry").__doc__ or "").split("\n\n", 1)[1]
    contents = ["| family | features |", "|---|---|"]
    for suffix, features in (("", REGISTRY), (", optional", OPTIONAL_FEATURES)):
        for family, members in families(features.values()):
            # an optional feature is a row of its family's table and has no heading
            links = ", ".join(f"[{feature.name}](#{family if suffix else feature.name})" for feature in members)
            listed = f"{len(members)} features" if suffix and len(members) > 8 else links
            contents.append(f"| [{family}](#{family}){suffix} | {listed} |")
    parts = [
        "# Features",
        (
            f"This page lists the {len(REGISTRY)} features that every run computes, then the {len(OPTIONAL_FEATURES)}"
            " features of the optional families (`features.extras`). `make features-page` makes it from the code:"
            " correct errors there."
        ),
        (
            "A value at bar t is known at the close of t: it reads bars up to t, completed sessions, and data that was"
            " published before t. A value outside its hard bounds is an error; a value outside its usual range is"
            " unusual. NaN occurs only while the contract and its predecessors have too little history, and in family"
            " levels where a profile holds no volume."
        ),
        symbols,
        (
            f"The charts show one synthetic contract (seed {SEED}). Most show two sessions from 17:00 Chicago with a"
            " dashed line between them. A feature that hardly changes inside a session shows its value at the end of"
            " every session."
        ),
        "\n".join(contents),
    ]
    for family, members in families(REGISTRY.values()):
        parts.append(f"## {family}")
        for feature in members:
            text = inspect.cleandoc(FUNCTIONS[feature.name].__doc__ or "")
            parts += [f"### {feature.name}", text, _IMAGE.format(feature.name), f"{_HEAD}\n{_row(feature)}"]
    parts += [
        "# Optional features",
        "Off by default; `-o features.extras=garch,hurst` adds families. The text of a family says how it is computed.",
    ]
    head = _HEAD.replace("| formula", "| feature | formula", 1).replace("|---|", "|---|---|", 1)
    for family, members in families(OPTIONAL_FEATURES.values()):
        text = inspect.cleandoc(import_module(f"vpoc_ml.features.extras.{family}").__doc__ or "")
        table = "\n".join([head, *(f"| `{feature.name}` {_row(feature)}" for feature in members)])
        parts += [
            f"## {family}",
            text,
            table,
            "\n".join(_IMAGE.format(each.name) for each in members if pictured(each)),
        ]
    return "\n\n".join(parts) + "\n"


def write_page(docs: Path) -> list[Path]:
    """Write the page and its charts below ``docs``, delete charts of features that no longer exist; return the paths.

    Raises:
        InvalidValueError: a feature cannot be computed on the synthetic market.
    """
    paths = [docs / PAGE]
    write_text(paths[0], page())
    for name, picture in sketches():
        paths.append(docs / FOLDER / f"{name}.svg")
        write_text(paths[-1], picture + "\n")
    for left_over in set((docs / FOLDER).glob("*.svg")) - set(paths):
        left_over.unlink()
    return paths


def families(features: Iterable[Feature]) -> list[tuple[str, list[Feature]]]:
    """Group features by family, both in the order of the list."""
    groups: dict[str, list[Feature]] = {}
    for feature in features:
        groups.setdefault(feature.family, []).append(feature)
    return list(groups.items())


def bounds_text(bounds: Bounds) -> str:
    """Return bounds in words: ``none``, ``from 0``, ``up to 1``, ``-1 to 1``."""
    low, high = bounds
    if math.isinf(low) and math.isinf(high):
        return "none"
    if math.isinf(high):
        return f"from {low:.4g}"
    return f"up to {high:.4g}" if math.isinf(low) else f"{low:.4g} to {high:.4g}"


def warmup_text(feature: Feature) -> str:
    """Return the warm-up of a feature in words: ``-``, ``1 session, 30 bars``."""
    counts = (("session", feature.warmup_sessions), ("bar", feature.warmup_bars))
    return ", ".join(f"{count} {unit}{'s' if count > 1 else ''}" for unit, count in counts if count) or "-"


def _row(feature: Feature) -> str:
    formula = feature.formula.replace("|", "\\|")
    limits = (bounds_text(feature.hard), bounds_text(feature.soft), warmup_text(feature))
    return f"| {' | '.join((f'`{formula}`', feature.window, feature.unit, *limits))} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m vpoc_ml.reports.feature_reference", description="Write docs/features.md."
    )
    parser.add_argument("docs", type=Path, nargs="?", default=Path("docs"), help="folder of the documentation")
    write_page(parser.parse_args(arguments).docs)


if __name__ == "__main__":
    main()
