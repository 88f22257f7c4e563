"""Files of an index's values, daily or within the day: identify the index and read the values.

A daily value is known at its publication, a value within the day at the end of its row's interval. Times are read as
the START of that interval: if a publisher means its end, a value is late by one interval and never early.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.schemas import INDEX_VALUES
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ContractCodeError, MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import is_compressed, open_unpacked, read_head, zip_members
from vpoc_ml.ingest.parsing.symbols import contract_in_name
from vpoc_ml.ingest.vix.index_header import VIX, IndexHeader, find_header, split, symbol_of, symbols_in
from vpoc_ml.ingest.vix.publication_times import NEW_YORK, parse_times

EXPECTED = (
    "values of {} with a date and a close, as Cboe, FRED, Yahoo, TradingView, Stooq or Investing.com publish them"
)
REMEDY = "Deliver one of these formats, or declare the columns in ingest.vix_mapping."
PLAUSIBLE = (5.0, 200.0)
"""Closes of the VIX since 1990 lie between 9.14 and 82.69."""
_USUAL_MEDIAN = 60.0
_ISOLATED = 1.8
"""Largest ratio of a close to both its neighbours; since 1990 the largest was 1.39."""
_DECIMALS = 2
"""Smallest number of decimals that publishers write, unless they drop a final zero."""
_MISSING = ("", ".", "-", "null", "n/a", "#n/a", "na", "none")
_FOOTER = re.compile("Downloaded from ")
_REDELIVER = "Download the file again and replace it."


@dataclass(frozen=True)
class PublicationTime:
    """Time at which a daily value is known: New York time, ``days`` business days after its date."""

    at: time = time(16, 15)
    days: int = 0

    def available(self, day: str) -> pl.Expr:
        """Return the publication of the values of a Date column, as UTC."""
        date = pl.col(day).dt.add_business_days(self.days, roll="forward") if self.days else pl.col(day)
        return date.dt.combine(self.at, "us").dt.replace_time_zone(NEW_YORK).dt.convert_time_zone("UTC")


def identify_index(name: str, lines: Sequence[str], config: IngestConfig, *more: str) -> str | None:
    """Return the index whose values a file holds, by its first lines and its name; None for any other file.

    A file with the columns of ``ingest.vix_mapping`` is the VIX's. A symbol in the file has priority over the file
    name. A file that names no index is the VIX's if it has daily closes of the VIX's size. A file with traded volume or
    with a contract in its name is not an index.

    Args:
        name: name of the file.
        lines: its first lines.
        config: gives ``vix_mapping`` and the order of dates.
        more: further names of indices, in capitals.
    """
    headers = (find_header(lines, symbol, config) for symbol in (VIX, *more))
    header = next((found for found in headers if found), None)
    if header is None:
        return None
    rows = [split(line, header.separator) for line in lines[header.lines :]]
    rows = [row for row in rows if len(row) == header.width]
    if any(re.search("[1-9]", row[at]) for row in rows for at in header.volumes):
        return None
    if header.mapped and not _is_contract(name):
        return VIX
    tickers = {symbol_of(row[header.ticker], *more) for row in rows} if header.ticker is not None else set()
    named = {header.symbol} - {None} or ({VIX} if VIX in tickers else tickers) or symbols_in(name, *more)
    if len(named) == 1:
        return named.pop()
    if VIX in named and not header.volumes:
        return VIX
    return VIX if not named and not _is_contract(name) and _like_vix(Path(name), rows, header, config) else None


def _is_contract(name: str) -> bool:
    try:
        contract_in_name(name)
    except ContractCodeError as error:
        return "continuous" in str(error)
    return True


def _like_vix(path: Path, rows: list[list[str]], header: IndexHeader, config: IngestConfig) -> bool:
    """Return whether the first rows are daily closes of the VIX's size."""
    try:
        written = _table([(header.lines + 1 + n, row) for n, row in enumerate(rows)], header)
        times = parse_times(path, written, config, header.format) if written.height else None
    except UnreadableFileError:
        return False
    close = written["close"].cast(pl.Float64, strict=False).drop_nulls()
    low, high = PLAUSIBLE
    if times is None or not times.start.is_null().all() or not close.len():
        return False
    return bool(close.is_between(low, high).all() and close.median() < _USUAL_MEDIAN)  # type: ignore[operator]


def read_index(
    path: Path, symbol: str = VIX, config: IngestConfig | None = None, published: PublicationTime | None = None
) -> pl.DataFrame:
    """Return the values of one file: date Date, close f64, available_at Datetime[us, UTC]; sorted by the last.

    Rows without a value (holidays of FRED) are skipped. Identical rows count once.

    Args:
        path: text, plain or as gzip, or a zip that holds one such text.
        symbol: the index, in capitals.
        config: gives ``vix_mapping``, ``date_order``, ``timezone`` and ``expansion_limit``; None: the defaults.
        published: time at which daily values are known; None: 16:15 New York of their date.

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: unknown columns, values of another index, a truncated file, ambiguous dates, dates on
            weekends, an impossible value, or two values of one time.
        ExpansionLimitError: a packed file expands to more than ``ingest.expansion_limit`` allows.
        InvalidValueError: an impossible ``ingest.vix_mapping`` or ``ingest.timezone``.
    """
    config, published, expected = config or IngestConfig(), published or PublicationTime(), EXPECTED.format(symbol)
    if not path.is_file():
        raise MissingInputError(path, expected, "Deliver the file or name another one.")
    text = _text(path, symbol, config)
    lines = text.splitlines()
    header = find_header(lines, symbol, config)
    if header is None:
        shown = repr(lines[0][:80]) if lines else "an empty file"
        raise UnreadableFileError(path, expected, shown, line=1, remedy=REMEDY)
    rows = list(_rows(path, text, header))
    _refuse_other(path, symbol, header, rows)
    _refuse_truncated(path, text, header, rows)
    values = _values(path, symbol, _table(rows, header))
    if not values.height:
        raise UnreadableFileError(path, expected, "no close at all")
    values = values.unique(["date", "close"], keep="first", maintain_order=True)
    times = parse_times(path, values, config, header.format)
    dated = values.with_columns(date=times.day, start=times.start)
    daily = bool(dated["start"].is_null().all())
    key = "date" if daily else "start"
    if (twice := dated.filter(pl.col(key).is_duplicated()).sort(key, "line")).height:
        first = twice.filter(pl.col(key) == twice[key][0])
        raise UnreadableFileError(path, "one close a date", f"two for {first[key][0]}", line=first["line"].max())  # type: ignore[arg-type]
    if daily:
        known = dated.with_columns(available_at=published.available("date")).sort("available_at", "date")
        _check_daily(path, known, symbol)
    else:
        steps = dated["start"].sort().diff().drop_nulls()
        interval = steps.filter(steps > timedelta(0)).mode().min()
        known = dated.with_columns(available_at=pl.col("start") + interval).sort("available_at", "date")
    return known.select(*INDEX_VALUES)


def _text(path: Path, symbol: str, config: IngestConfig) -> str:
    """Return the content as text; for a zip, of its only file that holds the index."""
    member = None
    if (inner := zip_members(path, ratio=config.expansion_limit)) is not None:
        fitting = [
            each for each in inner if identify_index(each, read_head(path, each).lines, config, symbol) == symbol
        ]
        if len(fitting) != 1:
            found = ", ".join(fitting) or f"none among {', '.join(inner)[:80]}"
            raise UnreadableFileError(path, f"one file of {symbol} in the archive", found)
        member = fitting[0]
    with open_unpacked(path, member, ratio=config.expansion_limit) as stream:
        raw = stream.read()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnreadableFileError(path, "UTF-8 text", "UTF-16 text", line=1, remedy="Save it as UTF-8.")
    return raw.decode("utf-8", errors="replace").removeprefix("\ufeff")


def _rows(path: Path, text: str, header: IndexHeader) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of each row below the header; a row must have as many fields as the header."""
    reader = csv.reader(io.StringIO(text), delimiter=header.separator, skipinitialspace=True)
    try:
        for fields in reader:
            line = reader.line_num
            if line <= header.lines or not any(fields):
                continue
            if len(fields) < header.width or any(fields[header.width :]):
                shown = repr(header.separator.join(fields)[:80])
                if _FOOTER.match(fields[0]):
                    continue
                raise UnreadableFileError(
                    path, f"{header.width} fields, as in the header", shown, line=line, remedy=_REDELIVER
                )
            yield line, fields
    except csv.Error as error:
        raise UnreadableFileError(path, "a CSV text", str(error), line=reader.line_num, remedy=_REDELIVER) from error


def _refuse_other(path: Path, symbol: str, header: IndexHeader, rows: list[tuple[int, list[str]]]) -> None:
    """Refuse a file that names another index in its header, its rows or, without a mapping, its file name."""
    named: set[str | None] = {header.symbol} - {None}
    if header.ticker is not None:
        named = {symbol_of(fields[header.ticker], symbol) or fields[header.ticker] for _, fields in rows}
        rows[:] = [row for row in rows if symbol_of(row[1][header.ticker], symbol) == symbol] or rows
    if not named and not header.mapped:
        named = set(symbols_in(path.name, symbol))
    if named and symbol not in named:
        found = f"those of {', '.join(sorted(map(str, named)))}"
        raise UnreadableFileError(path, f"values of {symbol}", found, remedy=f"Deliver the file of {symbol}.")


def _refuse_truncated(path: Path, text: str, header: IndexHeader, rows: list[tuple[int, list[str]]]) -> None:
    """Refuse a plain text without a last line break whose last close may have lost digits.

    A close is complete if another field follows it, or if it has two decimals and as many as any other. TradingView
    never ends a file with a line break; there the check against the day's range limits the effect of a cut.
    """
    if not rows or text.endswith(("\n", "\r")) or is_compressed(path) or zip_members(path, ratio=math.inf) is not None:
        return
    line, last = rows[-1]
    close = header.columns["close"]
    decimals = [len(fields[close].strip().partition(".")[2]) for _, fields in rows]
    needed = max(header.columns[role] for role in ("date", "time", "close") if role in header.columns)
    followed = needed < len(last) - 1
    complete = needed == close and decimals[-1] >= max(_DECIMALS, *decimals)
    if (
        followed
        or complete
        or (header.tradingview and last[close].replace(".", "", 1).isdigit() and last[close][-1] != ".")
    ):
        return
    found = f"{text.rpartition(chr(10))[2][-80:]!r}, so the file is cut off or still being written"
    raise UnreadableFileError(path, "a last line that ends with a line break", found, line=line, remedy=_REDELIVER)


def _table(rows: list[tuple[int, list[str]]], header: IndexHeader) -> pl.DataFrame:
    """Return line, date, open, high, low and close as written; null if there is no such column."""
    numbers = ("open", "high", "low", "close")

    def column(role: str) -> pl.Series:
        at = header.columns.get(role)
        written = [None if at is None else fields[at] for _, fields in rows]
        return pl.Series(role, written, dtype=pl.String).str.strip_chars()

    frame = pl.DataFrame([pl.Series("line", [line for line, _ in rows], dtype=pl.Int64), column("date")])
    if "time" in header.columns:
        frame = frame.with_columns(date=pl.concat_str(column("date"), column("time"), separator=" "))
    frame = frame.with_columns(column(role) for role in numbers)
    close = frame["close"]
    point = close.str.contains(".", literal=True).any()
    if header.decimal_comma or (not point and close.str.contains(r"\d,\d{1,2}$").any()):
        frame = frame.with_columns(pl.col(numbers).str.replace_all(".", "", literal=True).str.replace(",", "."))
    return frame.with_columns(pl.col(numbers).str.replace_all(",", ""))


def _values(path: Path, symbol: str, table: pl.DataFrame) -> pl.DataFrame:
    """Return line, date (as written) and close of rows with a value; refuse impossible values."""
    written = table.with_columns(written="close").filter(~_blank("date") | ~_blank("close"))
    without_close = written.filter(_blank("close") & ~(_blank("open") & _blank("high") & _blank("low")))
    if without_close.height:
        raise _bad(path, without_close, f"a close of {symbol} beside its open, high and low")
    numbers = written.filter(~_blank("close")).with_columns(
        pl.col("open", "high", "low", "close").cast(pl.Float64, strict=False)
    )
    close, low, high = pl.col("close"), pl.col("low"), pl.col("high")
    if symbol == VIX:
        fits, expected = close.is_between(*PLAUSIBLE), f"a close of the VIX, {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g}"
    else:
        fits, expected = close.is_finite(), "a number"
    if (bad := numbers.filter(~fits.fill_null(value=False))).height:
        raise _bad(path, bad, expected)
    if (bad := numbers.filter(((close < low - 0.005) | (close > high + 0.005)).fill_null(value=False))).height:
        raise _bad(path, bad, f"a close of {symbol} between the day's low and high")
    return numbers


def _blank(name: str) -> pl.Expr:
    return pl.col(name).str.to_lowercase().is_in(_MISSING).fill_null(value=True)


def _bad(path: Path, rows: pl.DataFrame, expected: str) -> UnreadableFileError:
    return UnreadableFileError(path, expected, repr(rows["written"][0]), line=rows["line"][0], remedy=_REDELIVER)


def _check_daily(path: Path, values: pl.DataFrame, symbol: str) -> None:
    """Refuse daily values of several weekends, and a close of the VIX far above or below both its neighbours.

    Dates on weekends are those of another zone, or all are one day early or late. An isolated close is a damaged
    number, such as 2.5 or 16 instead of 16.25.
    """
    weekend = values.filter(pl.col("date").dt.weekday() > 5).sort("line")
    if weekend.height > 1:
        day = weekend["date"][0]
        raise UnreadableFileError(
            path,
            "dates of trading days",
            f"{weekend.height} values of weekends, the first of {day:%A}, {day}; the dates may be a day early or late",
            line=weekend["line"][0],
            remedy="Download the file with the exchange's dates.",
        )
    if symbol != VIX:
        return
    log, limit = pl.col("close").log(), math.log(_ISOLATED)
    before, after = log - log.shift(1), log - log.shift(-1)
    alone = (before > limit) & (after > limit) | (before < -limit) & (after < -limit)
    if (bad := values.filter(alone.fill_null(value=False))).height:
        raise _bad(path, bad, f"a close of the VIX within a factor of {_ISOLATED:g} of the day before or the day after")
