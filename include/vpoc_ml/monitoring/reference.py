"""The reference of a model: its training rows in deciles, and how far a usual block of sessions is from the others.

A slow feature, such as the level of the VIX, takes few values in a week, so any week is far from the training rows.
Textbook limits of PSI and KS would alarm every night. The blocks of the training rows show which distance is usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.artifacts.monitoring_reference import ColumnReference, Moments, MonitoringReference
from vpoc_ml.dataset.quantiles import quantile_edges
from vpoc_ml.monitoring.distances import (
    KS,
    MISSING,
    PSI,
    Counts,
    Floats,
    bin_counts,
    ks,
    missing_excess,
    moment_distances,
    moments,
    psi,
)

LABEL = "ret"
BINS = 10
DIGITS = 6


def build_reference(training_set: Path, features: Sequence[str], block_sessions: int) -> MonitoringReference:
    """Return the reference of the training rows of a training set.

    One column is read at a time: the memory is that of one column, whatever the number of contracts and features.

    Args:
        training_set: Parquet file with session, split, ``ret`` and the features; only rows of split ``train`` count.
        features: feature columns in model order.
        block_sessions: sessions of a block; the newest block ends with the newest session.
    """
    rows = pl.scan_parquet(training_set).filter(pl.col("split") == "train")
    session = rows.select("session").collect(engine="streaming")["session"]
    days = session.unique().sort()
    count = days.len() // block_sessions
    # sessions before the first complete block have a negative number
    numbers = (np.arange(days.len()) - (days.len() - count * block_sessions)) // block_sessions
    block = numbers[days.search_sorted(session).to_numpy()]

    def column(name: str) -> Floats:
        return rows.select(name).collect(engine="streaming")[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    return MonitoringReference(
        first=days[0].isoformat(),
        last=days[-1].isoformat(),
        block_sessions=block_sessions,
        block_count=count,
        features=tuple(column_reference(name, column(name), block, count) for name in features),
        label=column_reference(LABEL, column(LABEL), block, count, label=True),
    )


def column_reference(
    name: str, values: Floats, block: Counts, block_count: int, *, label: bool = False
) -> ColumnReference:
    """Return the reference of one column.

    Args:
        name: the column.
        values: its values [n]; NaN and Inf are missing.
        block: number of the block of each row [n], from 0; negative for a row of none.
        block_count: number of blocks.
        label: whether to measure the distances of a label too.
    """
    edges = tuple(dict.fromkeys(quantile_edges(values, BINS)))
    edges = edges if len(edges) > 1 else edges * 2  # a constant: below it, it, above it
    missing = ~np.isfinite(values)
    whole, all_moments = bin_counts(values, edges), moments(values)
    found: dict[str, list[float]] = {}
    for number in range(block_count):
        own = block == number
        mine = values[own]
        counts, lacking = bin_counts(mine, edges), int(missing[own].sum())
        rest = whole - counts
        distances = {
            PSI: psi(counts, rest),
            KS: ks(counts, rest),
            MISSING: missing_excess(lacking, len(mine), int(missing.sum()) - lacking, len(values) - len(mine)),
        }
        if label:
            distances |= moment_distances(moments(mine), moments(values[~own]))
        for distance, value in distances.items():
            found.setdefault(distance, []).append(round(value, DIGITS))
    return ColumnReference(
        name=name,
        rows=len(values),
        missing=int(missing.sum()),
        edges=edges,
        counts=tuple(whole.tolist()),
        blocks={distance: tuple(sorted(every)) for distance, every in found.items()},
        moments=all_moments if label else None,
    )


def measure(reference: ColumnReference, values: Floats) -> dict[str, float]:
    """Return the distances of a column of newer rows [n] from its reference, by name; NaN and Inf are missing."""
    counts, whole = bin_counts(values, reference.edges), np.asarray(reference.counts)
    missing = int((~np.isfinite(values)).sum())
    distances = {
        PSI: psi(counts, whole),
        KS: ks(counts, whole),
        MISSING: missing_excess(missing, len(values), reference.missing, reference.rows),
    }
    known: Moments | None = reference.moments
    return distances if known is None else distances | moment_distances(moments(values), known)
