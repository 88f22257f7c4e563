"""Read stored predictions: from a lake into a frame, or row by row as ``Prediction``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.errors import ArtifactError, ConfigError
from vpoc_ml.lake.store import Lake


class Prediction(NamedTuple):
    """One row of ``schemas.PREDICTIONS``, which says what each field means; times are UTC."""

    ts: datetime
    contract: str
    session: date
    known_at: datetime
    prediction: float
    low: float | None
    low_ticks: float | None
    high: float | None
    high_ticks: float | None
    distance: float
    abstained: bool
    direction: int
    model_version: int
    instrument: str
    horizon: str
    target: str


def predictions_of(frame: pl.DataFrame) -> Iterator[Prediction]:
    """Yield the rows of a frame of predictions."""
    return map(Prediction._make, frame.select(Prediction._fields).iter_rows())


def read_predictions(
    lake: str | Path,
    *,
    key: str | None = None,
    version: int | None = None,
    contract: str | None = None,
    since: datetime | None = None,
) -> pl.DataFrame:
    """Return the stored predictions of one model version, sorted by ts.

    Args:
        lake: root of the lake, a folder or ``s3://bucket/prefix``.
        key: instrument, horizon and target, such as ``ES-1m-rank``; None: the only one.
        version: version of the model; None: the newest that has scores.
        contract: only this contract, such as ``ESH25``.
        since: only later bars, UTC.

    Returns:
        Rows of ``schemas.PREDICTIONS``.

    Raises:
        ConfigError: ``key`` is None and there are several.
        ArtifactError: there are no such predictions, they are damaged, or they are of another release.
    """
    opened = Lake(lake)
    found = [tuple(each.split("/")) for each in opened.keys(layout.PREDICTIONS)]
    stored = {(name, int(folder[1:]), file.removesuffix(".parquet")) for _, name, folder, file in found}
    keys = sorted({name for name, _, _ in stored})
    if key is None and len(keys) > 1:
        raise ConfigError(f"Expected the key of one model; the lake has predictions of {', '.join(keys)}. Name one.")
    wanted = {each for each in stored if key in (None, each[0]) and contract in (None, each[2])}
    newest = max((number for _, number, _ in wanted), default=None) if version is None else version
    chosen = sorted(each for each in wanted if each[1] == newest)
    if not chosen:
        requested = " ".join(map(str, filter(None, (key, version and f"v{version}", contract)))) or "any model"
        listed = ", ".join(f"{name} v{number} {code}" for name, number, code in sorted(stored)) or "none"
        raise ArtifactError(opened.location(layout.PREDICTIONS), f"predictions of {requested}", listed)
    frames = []
    for each in chosen:
        place = layout.predictions_key(*each)
        frame = opened.read_frame(place)
        if frame.schema != pl.Schema(PREDICTIONS):
            absent = ", ".join(name for name, dtype in PREDICTIONS.items() if frame.schema.get(name) != dtype)
            raise ArtifactError(opened.location(place), "the columns of this release; score again", f"no {absent}")
        frames.append(frame)
    joined = pl.concat(frames).sort("ts")
    return joined if since is None else joined.filter(pl.col("ts") > since)


def predictions_csv(frame: pl.DataFrame) -> str:
    """Return predictions as CSV: one header line, times as ``2025-03-03T14:30:00Z``, empty cells for null."""
    return frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ")
