"""``python -m vpoc_ml.reports.feature_reference [DOCS]``: writes ``features.md`` and a picture of every feature.

The page is made from the registry, the list of optional features and the docstrings of the functions, the
pictures from the synthetic market: same code, same bytes.
"""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from vpoc_ml.features.build import FUNCTIONS
from vpoc_ml.features.optional_registry import OPTIONAL_FEATURES
from vpoc_ml.features.registry import REGISTRY, Bounds, Feature
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.reports.feature_sketches import SEED, pictured, sketches

PAGE, FOLDER = "features.md", "features"
_HEAD = "| formula | window | unit | hard bounds | usual range | NaN only in the first |\n|---|---|---|---|---|---|"


def page() -> str:
    """Return the reference page as Markdown."""
    return "\n\n".join([*_introduction(), *_registry_part(), *_extras_part()]) + "\n"


def write_page(docs: Path) -> list[Path]:
    """Write the page and its pictures below ``docs``, remove pictures of features there are no more; return the paths.

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


def _introduction() -> list[str]:
    symbols = inspect.cleandoc(import_module("vpoc_ml.features.registry").__doc__ or "").split("\n\n", 1)[1]
    return [
        "# Features",
        (
            f"The {len(REGISTRY)} features every run computes, then the {len(OPTIONAL_FEATURES)} of the optional"
            " families (`features.extras`). This page is made by `make features-page` from the code: correct it there."
        ),
        (
            "A value at bar t is known at the close of t: it reads bars up to t, sessions that are complete, and what"
            " was published before t. Outside its hard bounds a value is an error, outside its usual range worth a"
            " look. NaN occurs only while the contract and its predecessors have too little history, and in family"
            " levels where a profile holds no volume."
        ),
        symbols,
        (
            f"Pictures: one synthetic contract (seed {SEED}). Most show two sessions from 17:00 Chicago, a dashed line"
            " between them; a feature that hardly changes inside a session shows its value at the end of every session."
        ),
        _contents(),
    ]


def _contents() -> str:
    rows = [f"| [{family}](#{family}) | {_links(members)} |" for family, members in _families(REGISTRY.values())]
    rows += [
        f"| [{family}](#{family}), optional | {_summary(m)} |" for family, m in _families(OPTIONAL_FEATURES.values())
    ]
    return "\n".join(["| family | features |", "|---|---|", *rows])


def _links(members: Sequence[Feature]) -> str:
    return ", ".join(f"[{feature.name}](#{feature.name})" for feature in members)


def _summary(members: Sequence[Feature]) -> str:
    return f"{len(members)} features" if len(members) > 8 else _links(members)


def _registry_part() -> Iterable[str]:
    for family, members in _families(REGISTRY.values()):
        yield f"## {family}"
        for feature in members:
            yield f"### {feature.name}"
            yield inspect.cleandoc(FUNCTIONS[feature.name].__doc__ or "")
            yield f"![{feature.name}, synthetic market]({FOLDER}/{feature.name}.svg)"
            yield f"{_HEAD}\n{_row(feature)}"


def _extras_part() -> Iterable[str]:
    yield "# Optional features"
    yield "Off by default; `-o features.extras=garch,hurst` adds families. A family's own text says how it is computed."
    for family, members in _families(OPTIONAL_FEATURES.values()):
        yield f"## {family}"
        yield inspect.cleandoc(import_module(f"vpoc_ml.features.extras.{family}").__doc__ or "")
        head = _HEAD.replace("| formula", "| feature | formula", 1).replace("|---|", "|---|---|", 1)
        yield "\n".join([head, *(f"| `{feature.name}` {_row(feature)}" for feature in members)])
        yield "\n".join(
            f"![{feature.name}, synthetic market]({FOLDER}/{feature.name}.svg)"
            for feature in members
            if pictured(feature)
        )


def _families(features: Iterable[Feature]) -> list[tuple[str, list[Feature]]]:
    """Group features by family, both in the order of the list."""
    groups: dict[str, list[Feature]] = {}
    for feature in features:
        groups.setdefault(feature.family, []).append(feature)
    return list(groups.items())


def _row(feature: Feature) -> str:
    formula = feature.formula.replace("|", "\\|")
    cells = (
        f"`{formula}`",
        feature.window,
        feature.unit,
        _bounds(feature.hard),
        _bounds(feature.soft),
        _warmup(feature),
    )
    return f"| {' | '.join(cells)} |"


def _bounds(bounds: Bounds) -> str:
    low, high = bounds
    if math.isinf(low) and math.isinf(high):
        return "none"
    if math.isinf(high):
        return f"from {low:.4g}"
    return f"up to {high:.4g}" if math.isinf(low) else f"{low:.4g} to {high:.4g}"


def _warmup(feature: Feature) -> str:
    sessions, bars = feature.warmup_sessions, feature.warmup_bars
    parts = [
        f"{sessions} session{'s' * (sessions != 1)}" * bool(sessions),
        f"{bars} bar{'s' * (bars != 1)}" * bool(bars),
    ]
    cold = ", ".join(part for part in parts if part)
    return cold or "-"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m vpoc_ml.reports.feature_reference", description="Write docs/features.md."
    )
    parser.add_argument("docs", type=Path, nargs="?", default=Path("docs"), help="folder of the documentation")
    write_page(parser.parse_args(arguments).docs)


if __name__ == "__main__":
    main()
