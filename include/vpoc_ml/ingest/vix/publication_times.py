"""Dates and times of an index's rows, as publishers write them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.timestamps import zone_of

NEW_YORK = "America/New_York"
_PARTS = (
    r"^(?P<day>.*?\d)(?:[T ]+(?P<hour>\d{1,2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2}))?(?:\.\d+)?"
    r" ?(?P<half>[AaPp][Mm])? ?(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?$"
)
_MONTH_FIRST = ((r"^\d{1,2}/\d{1,2}/\d{4}$", "%m/%d/%Y"), (r"^\d{1,2}/\d{1,2}/\d{2}$", "%m/%d/%y"))
_DAY_FIRST = ((r"^\d{1,2}/\d{1,2}/\d{4}$", "%d/%m/%Y"), (r"^\d{1,2}/\d{1,2}/\d{2}$", "%d/%m/%y"))
_CERTAIN = (
    (r"^\d{4}/\d{1,2}/\d{1,2}$", "%Y/%m/%d"),
    (r"^\d{8}$", "%Y%m%d"),
    (r"^\d{1,2}\.\d{1,2}\.\d{4}$", "%d.%m.%Y"),
    (r"^[A-Za-z]{3,9} \d{1,2},? \d{4}$", "%b %d %Y"),
    (r"^\d{1,2}[/ ][A-Za-z]{3,9}[/ ]\d{4}$", "%d/%b/%Y"),
    (r"^\d{1,2}[/ ][A-Za-z]{3,9}[/ ]\d{2}$", "%d/%b/%y"),
)
EXPECTED = "dates as 2025-01-31, 01/31/2025, 01/31/25 or Jan 31, 2025"
_REMEDY = "Set ingest.date_order, or name the format in ingest.vix_mapping."


class RowTimes(NamedTuple):
    """``day``: Date of each row in its own zone; ``start``: Datetime[us, UTC], null of daily values."""

    day: pl.Series
    start: pl.Series


def parse_times(path: Path, written: pl.DataFrame, config: IngestConfig, form: str | None = None) -> RowTimes:
    """Return the times of the rows of one file.

    Rows without a time of day are daily, and so are rows with one time per date. The date of a daily row is that of
    midnight in the row's own zone, else that of its time in New York.

    Args:
        path: the file, for errors and for ``ingest.timezone``.
        written: columns line and date, as text; not empty.
        config: order of slashed dates, zone of times without one.
        form: format of the text, such as ``%d.%m.%Y``; None: one of the publishers' formats.

    Raises:
        UnreadableFileError: a row fits no format, the order of day and month is ambiguous, or the zone of times within
            the day is not known.
    """
    moments = _moments(path, written, config, form)
    day, clock, offset = moments["day"], moments["clock"], moments["offset"]
    nothing = pl.Series("start", [None] * day.len(), dtype=pl.Datetime("us", "UTC"))
    clock = clock.fill_null(timedelta(0))
    if (clock == timedelta(0)).all():
        return RowTimes(day, nothing)
    local = day.cast(pl.Datetime("us")) + clock
    if not offset.has_nulls():
        start = (local - offset).dt.replace_time_zone("UTC")
        day = start.dt.convert_time_zone(NEW_YORK).dt.date()
        return RowTimes(day, nothing if day.is_unique().all() else start)
    if day.is_unique().all():
        return RowTimes(day, nothing)
    zone = zone_of(FileRef(path), "vix", config, None)
    start = local.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
    if start.has_nulls():
        wrong = local.filter(start.is_null())[0]
        raise UnreadableFileError(path, f"local times of {zone}", f"{wrong}, which the clocks skip")
    start = start.dt.convert_time_zone("UTC")
    return RowTimes(start.dt.convert_time_zone(NEW_YORK).dt.date(), start)


def _moments(path: Path, written: pl.DataFrame, config: IngestConfig, form: str | None) -> pl.DataFrame:
    """Return day (Date), clock and offset from UTC (Duration, null where there is none) of each row."""
    text = written["date"]
    if form is not None:
        moment = text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC" if "%z" in form else None)
        moment = text.str.to_date(form, strict=False).cast(pl.Datetime("us")) if moment.null_count() else moment
        _refuse_nulls(path, written, moment, f"dates of the form {form}")
        return _split_moment(moment, aware="%z" in form)
    if text.str.contains(r"^(\d{9,10}|\d{12,13})$").all():
        scale = pl.when(pl.col("date").str.len_chars() > 10).then(1_000).otherwise(1_000_000)
        moment = written.select((pl.col("date").cast(pl.Int64) * scale).cast(pl.Datetime("us"))).to_series()
        return _split_moment(moment, aware=True)
    parts = text.str.extract_groups(_PARTS).struct.unnest()
    day = _days(path, written.with_columns(day=parts["day"]), config)
    number = {name: pl.col(name).cast(pl.Int64, strict=False) for name in ("hour", "minute", "second")}
    noon = pl.col("half").str.to_lowercase() == "pm"
    hour = pl.when(pl.col("half").is_null()).then(number["hour"]).otherwise(number["hour"] % 12 + 12 * noon.cast(int))
    east = pl.col("offset").str.replace("Z|UTC|GMT", "+00:00").str.replace(":", "")
    sign = pl.when(east.str.starts_with("-")).then(-1).otherwise(1)
    hours, minutes = east.str.slice(1, 2).cast(pl.Int64), east.str.slice(3, 2).cast(pl.Int64)
    return parts.select(
        day,
        pl.duration(hours=hour, minutes=number["minute"], seconds=number["second"].fill_null(0)).alias("clock"),
        pl.duration(minutes=sign * (60 * hours + minutes)).alias("offset"),
    )


def _split_moment(moment: pl.Series, *, aware: bool) -> pl.DataFrame:
    local = moment.dt.replace_time_zone(None)
    offset = pl.Series("offset", [0 if aware else None] * local.len(), dtype=pl.Duration("us"))
    return pl.DataFrame({"day": local.dt.date(), "clock": local - local.dt.truncate("1d"), "offset": offset})


def _days(path: Path, written: pl.DataFrame, config: IngestConfig) -> pl.Series:
    """Return the dates; one format must fit every row, and slashed dates must show their order."""
    slashed = written["day"].str.replace_all("-", "/").str.replace(",", "").str.replace(r"^([A-Za-z]{3})[a-z]+ ", "$1 ")
    month_first, day_first = (_best(slashed, forms) for forms in (_MONTH_FIRST, _DAY_FIRST))
    given = {"month_first": month_first, "day_first": day_first}.get(config.date_order)
    candidates = [_best(slashed, _CERTAIN), month_first if given is None else given]
    best = max(candidates, key=pl.Series.count)
    _refuse_nulls(path, written, best, EXPECTED)
    if given is None and best is month_first and not day_first.has_nulls():
        raise UnreadableFileError(path, EXPECTED, "dates that could be day first as well", remedy=_REMEDY)
    return best.alias("day")


def _best(text: pl.Series, forms: tuple[tuple[str, str], ...]) -> pl.Series:
    """Return the dates in the format that fits most rows."""
    parsed = [
        text.set(~text.str.contains(pattern).fill_null(value=False), None).str.to_date(form, strict=False)
        for pattern, form in forms
    ]
    return max(parsed, key=pl.Series.count)


def _refuse_nulls(path: Path, written: pl.DataFrame, parsed: pl.Series, expected: str) -> None:
    if parsed.has_nulls():
        wrong = written.filter(parsed.is_null()).row(0, named=True)
        raise UnreadableFileError(path, expected, repr(wrong["date"]), line=wrong["line"], remedy=_REMEDY)
