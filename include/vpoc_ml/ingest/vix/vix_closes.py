"""VIX closes: read a publisher's file and join it to bars without look-ahead.

A daily close is published at 16:15 New York of its date; only bars that start after that time see it. On the few half
days it is published some hours before 16:15, so there it is used late and never early.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import VixCoverageError
from vpoc_ml.ingest.vix.index_files import PublicationTime, read_index
from vpoc_ml.ingest.vix.index_header import VIX
from vpoc_ml.market.exchange_calendar import reviewed_range, sessions

MAX_STALE_SESSIONS = 5


def read_vix(path: Path, config: IngestConfig | None = None) -> pl.DataFrame:
    """Return the closes of one file: date Date, close f64, available_at Datetime[us, UTC]; sorted by the last.

    Args:
        path: daily closes, or values within the day, in one of the publishers' formats (see ``index_files``).
        config: gives ``vix_mapping``, ``date_order`` and ``timezone``; None: the defaults.

    Raises:
        MissingInputError, UnreadableFileError, InvalidValueError: as ``read_index``.
    """
    return read_index(path, VIX, config)


def available_at(day: str) -> pl.Expr:
    """Return the time at which the close of a Date column is known: 16:15 New York, as UTC."""
    return PublicationTime().available(day)


def join_vix(bars: pl.DataFrame, vix: pl.DataFrame | None) -> pl.DataFrame:
    """Return ``bars`` (sorted by ts) with ``vix``: the last close available strictly before ts, else null.

    Null in every bar where ``vix`` is None.
    """
    if vix is None:
        return bars.with_columns(vix=pl.lit(None, pl.Float64))
    return join_index(bars, vix, "vix")


def join_index(bars: pl.DataFrame, values: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return ``bars`` (sorted by ts) with a column of the last value available strictly before ts, else null."""
    known = values.select("available_at", pl.col("close").alias(column)).sort("available_at")
    return bars.join_asof(
        known, left_on="ts", right_on="available_at", strategy="backward", allow_exact_matches=False
    ).drop("available_at", strict=False)


def check_coverage(
    bars: pl.DataFrame, vix: pl.DataFrame, calendar: str, *, path: object = "the VIX file", name: str = VIX
) -> None:
    """Refuse closes of the VIX, or of the index ``name``, that do not cover the bars (ts, session).

    The first bar must see a close, and at most 5 sessions may lie between the last close's date and the last bar's
    session: a file may lag the bars by a holiday or a weekend.

    Raises:
        VixCoverageError: otherwise.
    """
    if not bars.height:
        return
    first, last = bars["session"].min(), bars["session"].max()
    oldest, newest = vix["date"].min(), vix["date"].max()
    assert isinstance(first, date) and isinstance(last, date)  # noqa: PT018
    assert isinstance(oldest, date) and isinstance(newest, date)  # noqa: PT018
    early = vix["available_at"].min() >= bars["ts"].min()  # type: ignore[operator]
    start = max(newest, reviewed_range(calendar)[0])
    between = pl.col("session").is_between(newest, last, closed="none")
    stale = sessions(calendar, start, last).filter(between).height if start < last else 0
    if early or stale > MAX_STALE_SESSIONS:
        raise VixCoverageError(path, f"{oldest}..{newest}", f"{first}..{last}", name)
