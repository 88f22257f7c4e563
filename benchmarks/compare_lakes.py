"""Compare the artifacts of two lakes: ``python benchmarks/compare_lakes.py BEFORE AFTER``.

Both lakes hold one run over the same input, made by two versions of the code. Tables are equal if every column that
both have is equal to the bit; weights if every tensor is; decisions if outcome and reasons are. Prints a table and
exits 1 if anything differs. Numbers of the ridge baseline are listed, not compared, with ``--ridge-may-differ``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from safetensors.numpy import load_file

TABLES = ("bars", "sessions", "developing", "features", "quarantine", "roll", "vix")
WEIGHTS = ("best_model.safetensors", "final_model.safetensors")
IGNORED_COLUMNS = {"quarantine": {"file"}}  # absolute paths


def main() -> int:
    """Print one line per artifact and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--ridge-may-differ", action="store_true")
    options = parser.parse_args()
    compared = [*_tables(options.before, options.after), *_runs(options.before, options.after)]
    if options.ridge_may_differ:
        compared = [(name, "may differ" if "ridge" in name and found != "equal" else found) for name, found in compared]
    for name, found in compared:
        print(f"{name:60} {found}")
    return int(any(found not in ("equal", "may differ") for _, found in compared) or not compared)


def _tables(before: Path, after: Path) -> Iterator[tuple[str, str]]:
    for kind in TABLES:
        for old in sorted((before / kind).rglob("*.parquet")):
            new = after / old.relative_to(before)
            ignored = IGNORED_COLUMNS.get(kind, set())
            yield str(old.relative_to(before)), _same_table(old, new, ignored) if new.is_file() else "missing"


def _same_table(old: Path, new: Path, ignored: set[str]) -> str:
    left, right = pl.read_parquet(old), pl.read_parquet(new)
    if left.columns != right.columns or left.height != right.height:
        return f"columns or rows differ: {left.shape} and {right.shape}"
    different = [name for name in left.columns if name not in ignored and not _same_bits(left[name], right[name])]
    return f"columns differ: {', '.join(different[:5])}" if different else "equal"


def _same_bits(left: pl.Series, right: pl.Series) -> bool:
    if left.dtype != right.dtype or not left.is_null().equals(right.is_null()):
        return False
    if left.dtype.is_float():
        return left.fill_null(0).to_numpy().tobytes() == right.fill_null(0).to_numpy().tobytes()
    return left.equals(right)


def _runs(before: Path, after: Path) -> Iterator[tuple[str, str]]:
    old, new = (sorted((lake / "runs").iterdir())[-1] for lake in (before, after))
    for name in WEIGHTS:
        yield f"run/{name}", _same_weights(old / name, new / name)
    for name, parts in (("decision.json", ("promote", "reasons")), ("metrics.json", ())):
        left, right = (json.loads((folder / name).read_text()) for folder in (old, new))
        if parts:
            yield from ((f"run/{name}: {part}", _same_value(left[part], right.get(part))) for part in parts)
        else:
            yield from _same_values(f"run/{name}", left, right)


def _same_weights(old: Path, new: Path) -> str:
    left, right = load_file(old), load_file(new)
    if list(left) != list(right):
        return "tensors differ in name"
    different = [name for name in left if left[name].tobytes() != right[name].tobytes()]
    return f"tensors differ: {', '.join(different[:5])}" if different else "equal"


def _same_values(name: str, left: Any, right: Any) -> Iterator[tuple[str, str]]:
    """Yield the comparison of every key of the first level; of a nested one, of its keys."""
    for key, value in left.items():
        other = right.get(key) if isinstance(right, dict) else None
        if isinstance(value, dict) and isinstance(other, dict) and key in ("models", "versus"):
            yield from _same_values(f"{name}: {key}", value, other)
        else:
            yield f"{name}: {key}", _same_value(value, other)


def _same_value(left: Any, right: Any) -> str:
    return "equal" if json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True) else "differs"


if __name__ == "__main__":
    sys.exit(main())
