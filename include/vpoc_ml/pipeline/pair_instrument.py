"""The other instrument of family cointegration: its front closes, out of the same lake."""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime, timedelta
from typing import NamedTuple

import polars as pl

from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.extras.cointegration import continuous_closes
from vpoc_ml.lake.store import Manifest
from vpoc_ml.pipeline.run import Run

BEFORE = timedelta(days=60)
"""Covers the 30 sessions of history before a contract's first bar."""
LATE = timedelta(days=1)


class Segment(NamedTuple):
    """A front period of the other instrument, the ratio of the roll into it (None in the first), its bars' hash."""

    contract: str
    first: date
    last: date
    ratio: float | None
    bars: str


def pair_inputs(run: Run, bars: Manifest) -> dict[str, str]:
    """Return the build key's input ``pair``, which identifies the other closes; nothing if no family reads them.

    Raises:
        ArtifactError: the lake lacks the other instrument's bars or rolls for the time of ``bars``.
    """
    if "cointegration" not in run.config.features.extras:
        return {}
    content = json.dumps([[str(part) for part in one] for one in _segments(run, bars)])
    return {"pair": f"{run.config.features.pair} {hashlib.sha256(content.encode()).hexdigest()[:16]}"}


def pair_closes(run: Run, bars: Manifest) -> pl.DataFrame | None:
    """Return ``ts, close`` of the other instrument around the time of ``bars``; None where no family reads it.

    Raises:
        ArtifactError: as ``pair_inputs``, or the other bars begin more than a day after these, or end as much before.
    """
    if "cointegration" not in run.config.features.extras:
        return None
    parts = []
    for one in _segments(run, bars):
        bars_of_one = run.lake.read_frame(_bars_key(run, one.contract), ("ts", "session", "close"))
        front = bars_of_one.filter(pl.col("session").is_between(one.first, one.last))
        parts.append((front.select("ts", "close"), one.ratio or 1.0))
    closes = continuous_closes(parts)
    first, last = (datetime.fromisoformat(str(timestamp)) for timestamp in (bars.first_ts, bars.last_ts))
    oldest, newest = closes["ts"].min(), closes["ts"].max()
    if not isinstance(oldest, datetime) or oldest > first + LATE:
        raise _missing(run, f"bars from {first.isoformat()} on", str(oldest))
    if not isinstance(newest, datetime) or newest < last - LATE:
        raise _missing(run, f"bars up to {last.isoformat()}", str(newest))
    return closes


def _segments(run: Run, bars: Manifest) -> list[Segment]:
    start, end = (datetime.fromisoformat(str(timestamp)).date() for timestamp in (bars.first_ts, bars.last_ts))
    start, end = start - BEFORE, end + LATE
    roll_key = run.roll_key(run.config.features.pair)
    if run.lake.manifest(roll_key) is None:
        raise _missing(run, "a roll table", "none")
    found: list[Segment] = []
    for row in run.lake.read_cached(roll_key).sort("first_session").iter_rows(named=True):
        if row["last_session"] < start or row["first_session"] > end:
            continue
        manifest = run.lake.manifest(_bars_key(run, row["contract"]))
        if manifest is None or (found and row["ratio"] is None):
            raise _missing(run, "bars of every front contract and a measured ratio at every roll", row["contract"])
        ratio = row["ratio"] if found else None
        found.append(Segment(row["contract"], row["first_session"], row["last_session"], ratio, manifest.sha256))
    if not found:
        raise _missing(run, f"front contracts from {start} to {end}", "none")
    return found


def _bars_key(run: Run, contract: str) -> str:
    return run.shared_key(f"bars/{run.config.features.pair}/{contract}.parquet")


def _missing(run: Run, expected: str, found: str) -> ArtifactError:
    symbol = run.config.features.pair
    return ArtifactError(f"{symbol}, the pair of family cointegration", f"{expected}: run {symbol} first", found)
