"""``python -m vpoc_ml.reports.feature_reference [DOCS]`` writes ``features.md`` and a chart of every feature.

The page is made from the registry, the list of optional features and the docstrings of the functions, the charts from
the synthetic market. The same code makes the same bytes.
"""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from vpoc_ml.features.build import FUNCTIONS
from vpoc_ml.features.registry import OPTIONAL_FEATURES, REGISTRY, Bounds, Feature
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.reports.feature_sketches import SEED, pictured, sketches

PAGE, FOLDER = "features.md", "features"
_HEAD = "| formula | window | unit | hard bounds | usual range | NaN only in the first |\n|---|---|---|---|---|---|"


def page() -> str:
    """Return the reference page as Markdown."""
    symbols = inspect.cleandoc(import_module("vpoc_ml.features.registry").__doc__ or "").split("\n\n", 1)[1]
    contents = ["| family | features |", "|---|---|"]
    for suffix, features in (("", REGISTRY), (", optional", OPTIONAL_FEATURES)):
        for family, members in families(features.values()):
            links = ", ".join(f"[{feature.name}](#{feature.name})" for feature in members)
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
            parts += [f"### {feature.name}", text, _image(feature), f"{_HEAD}\n{_row(feature)}"]
    parts += [
        "# Optional features",
        "Off by default; `-o features.extras=garch,hurst` adds families. The text of a family says how it is computed.",
    ]
    head = _HEAD.replace("| formula", "| feature | formula", 1).replace("|---|", "|---|---|", 1)
    for family, members in families(OPTIONAL_FEATURES.values()):
        text = inspect.cleandoc(import_module(f"vpoc_ml.features.extras.{family}").__doc__ or "")
        table = "\n".join([head, *(f"| `{feature.name}` {_row(feature)}" for feature in members)])
        parts += [f"## {family}", text, table, "\n".join(_image(each) for each in members if pictured(each))]
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


def _image(feature: Feature) -> str:
    return f"![{feature.name}, synthetic market]({FOLDER}/{feature.name}.svg)"


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
