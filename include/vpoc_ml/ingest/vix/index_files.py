"""Files of an index's values, daily or within the day: whose they are, and what they hold.

A daily value is known at its publication, a value within the day at the end of its row's interval. Times are taken
for the START of that interval: where a publisher means its end, a value is late by one interval and never early.
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

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import ContractCodeError, MissingInputError, UnreadableFileError
from vpoc_ml.ingest.file_streams import is_compressed, open_unpacked, read_head, zip_members
from vpoc_ml.ingest.parsing.contract_names import contract_in_name
from vpoc_ml.ingest.vix.index_header import Header, find_header, split
from vpoc_ml.ingest.vix.index_symbols import VIX, symbol_of, symbols_in
from vpoc_ml.ingest.vix.publication_times import NEW_YORK, parse_times

EXPECTED = (
    "values of {} with a date and a close, as Cboe, FRED, Yahoo, TradingView, Stooq or Investing.com publish them"
)
REMEDY = "Deliver one of these formats, or declare the columns in ingest.vix_mapping."
PLAUSIBLE = (5.0, 200.0)
"""Closes of the VIX since 1990 lie between 9.14 and 82.69."""
_USUAL_MEDIAN = 60.0
_ISOLATED = 1.8
"""A close that many times above both neighbours, or below: since 1990 the most was 1.39."""
_DECIMALS = 2
"""Decimals that publishers write at least, unless they drop a zero at the end."""
_MISSING = ("", ".", "-", "null", "n/a", "#n/a", "na", "none")
_FOOTER = re.compile("Downloaded from ")
_REDELIVER = "Download the file again and replace it."


@dataclass(frozen=True)
class PublicationTime:
    """When a daily value is known: New York time, ``days`` business days after its date."""

    at: time = time(16, 15)
    days: int = 0

    def available(self, day: str) -> pl.Expr:
        """Return the publication of the values of a Date column, as UTC."""
        date = pl.col(day).dt.add_business_days(self.days, roll="forward") if self.days else pl.col(day)
        return date.dt.combine(self.at, "us").dt.replace_time_zone(NEW_YORK).dt.convert_time_zone("UTC")


def identify_index(name: str, lines: Sequence[str], config: IngestConfig, *more: str) -> str | None:
    """Return the index whose values a file holds, judged by its first lines and its name; None of any other file.

    The columns of ``ingest.vix_mapping`` are the VIX's. A symbol in the file counts more than the file's name. A file
    that names no index is taken for the VIX if it has daily closes of the VIX's size. Whatever has traded volume is no
    index, and neither is a contract.

    Args:
        name: of the file.
        lines: its first lines.
        config: ``ingest.vix_mapping`` and the order of dates.
        more: names of indices to know besides the usual ones, in capitals.
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
    named = {header.symbol} - {None} or _tickers(rows, header, more) or symbols_in(name, *more)
    if len(named) == 1:
        return named.pop()
    if VIX in named and not header.volumes:
        return VIX
    return VIX if not named and not _is_contract(name) and _like_vix(Path(name), rows, header, config) else None


def _tickers(rows: list[list[str]], header: Header, more: Sequence[str]) -> set[str | None]:
    """Return the indices in the rows' symbol column: only the VIX where it is among them."""
    if header.ticker is None:
        return set()
    found = {symbol_of(row[header.ticker], *more) for row in rows}
    return {VIX} if VIX in found else found


def _is_contract(name: str) -> bool:
    try:
        contract_in_name(name)
    except ContractCodeError as error:
        return "continuous" in str(error)
    return True


def _like_vix(path: Path, rows: list[list[str]], header: Header, config: IngestConfig) -> bool:
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

    Rows without a value (holidays of FRED) are left out. Identical rows count once.

    Args:
        path: text, plain or as gzip, or a zip that holds one such text.
        symbol: index whose values are wanted, in capitals.
        config: ``ingest.vix_mapping``, ``date_order``, ``timezone`` and ``expansion_limit``; None: the defaults.
        published: when daily values are known; None: 16:15 New York of their date.

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: unknown columns, values of another index, a file that is cut off, dates that are not
            certain or lie on weekends, a value that cannot be one, or two values of one time.
        ExpansionLimitError: a packed file expands to more than ``ingest.expansion_limit`` allows.
        InvalidValueError: an impossible ``ingest.vix_mapping`` or ``ingest.timezone``.
    """
    config, published, expected = config or IngestConfig(), published or PublicationTime(), EXPECTED.format(symbol)
    if not path.is_file():
        raise MissingInputError(path, expected, "Deliver the file or name another place.")
    text = _text(path, symbol, config)
    lines = text.splitlines()
    header = find_header(lines, symbol, config)
    if header is None:
        shown = repr(lines[0][:80]) if lines else "an empty file"
        raise UnreadableFileError(path, expected, shown, line=1, remedy=REMEDY)
    rows = list(_rows(path, text, header))
    _refuse_other(path, symbol, header, rows)
    _refuse_cut_off(path, text, header, rows)
    values = _values(path, symbol, _table(rows, header))
    if not values.height:
        raise UnreadableFileError(path, expected, "no close at all")
    values = values.unique(["date", "close"], keep="first", maintain_order=True)
    times = parse_times(path, values, config, header.format)
    dated = values.with_columns(date=times.day, start=times.start)
    _refuse_twice(path, dated)
    known = dated.with_columns(available_at=_known(dated, published)).sort("available_at", "date")
    if dated["start"].is_null().all():
        _refuse_weekends(path, known)
        _refuse_isolated(path, known, symbol)
    return known.select("date", "close", "available_at")


def _text(path: Path, symbol: str, config: IngestConfig) -> str:
    """Return the content as text; of a zip, of its only file that holds the index."""
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


def _rows(path: Path, text: str, header: Header) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of each row below the header; each must have as many fields as the header."""
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


def _refuse_other(path: Path, symbol: str, header: Header, rows: list[tuple[int, list[str]]]) -> None:
    """Refuse a file that names another index, in its header, its rows or, without a mapping, its file name."""
    named: set[str | None] = {header.symbol} - {None}
    if header.ticker is not None:
        named = {symbol_of(fields[header.ticker], symbol) or fields[header.ticker] for _, fields in rows}
        rows[:] = [row for row in rows if symbol_of(row[1][header.ticker], symbol) == symbol] or rows
    if not named and not header.mapped:
        named = set(symbols_in(path.name, symbol))
    if named and symbol not in named:
        found = f"those of {', '.join(sorted(map(str, named)))}"
        raise UnreadableFileError(path, f"values of {symbol}", found, remedy=f"Deliver the file of {symbol}.")


def _refuse_cut_off(path: Path, text: str, header: Header, rows: list[tuple[int, list[str]]]) -> None:
    """Refuse a plain text whose last close may have lost digits: one that ends neither in a line break nor whole.

    A close that another field follows is whole, and so is one with two decimals and as many as any other. TradingView
    never ends a file with a line break; there the day's range bounds what a cut can do.
    """
    if not rows or text.endswith(("\n", "\r")) or is_compressed(path) or zip_members(path, ratio=math.inf) is not None:
        return
    line, last = rows[-1]
    close = header.columns["close"]
    decimals = [len(fields[close].strip().partition(".")[2]) for _, fields in rows]
    needed = max(header.columns[role] for role in ("date", "time", "close") if role in header.columns)
    followed = needed < len(last) - 1
    whole = needed == close and decimals[-1] >= max(_DECIMALS, *decimals)
    if (
        followed
        or whole
        or (header.tradingview and last[close].replace(".", "", 1).isdigit() and last[close][-1] != ".")
    ):
        return
    found = f"{text.rpartition(chr(10))[2][-80:]!r}, so the file is cut off or still being written"
    raise UnreadableFileError(path, "a last line that ends with a line break", found, line=line, remedy=_REDELIVER)


def _table(rows: list[tuple[int, list[str]]], header: Header) -> pl.DataFrame:
    """Return line, date, open, high, low and close as written; null where there is no such column."""
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
    """Return line, date (as written) and close of rows with a value; each must be one that can be."""
    written = table.with_columns(written="close").filter(~_blank("date") | ~_blank("close"))
    lonely = written.filter(_blank("close") & ~(_blank("open") & _blank("high") & _blank("low")))
    if lonely.height:
        raise _bad(path, lonely, f"a close of {symbol} beside its open, high and low")
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


def _known(values: pl.DataFrame, published: PublicationTime) -> pl.Series:
    """Return when each value is known."""
    if values["start"].is_null().all():
        return values.select(published.available("date")).to_series()
    steps = values["start"].sort().diff().drop_nulls()
    interval = steps.filter(steps > timedelta(0)).mode().min()
    return values.select(pl.col("start") + interval).to_series()


def _refuse_twice(path: Path, values: pl.DataFrame) -> None:
    key = "date" if values["start"].is_null().all() else "start"
    if (twice := values.filter(pl.col(key).is_duplicated()).sort(key, "line")).height:
        first = twice.filter(pl.col(key) == twice[key][0])
        raise UnreadableFileError(path, "one close a date", f"two for {first[key][0]}", line=first["line"].max())  # type: ignore[arg-type]


def _refuse_weekends(path: Path, values: pl.DataFrame) -> None:
    """Refuse daily values of several Saturdays or Sundays: dates of another zone, or all a day early or late."""
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


def _refuse_isolated(path: Path, values: pl.DataFrame, symbol: str) -> None:
    """Refuse a close of the VIX far above or below both its neighbours, such as 2.5 or 16 where 16.25 was torn."""
    if symbol != VIX:
        return
    log, limit = pl.col("close").log(), math.log(_ISOLATED)
    before, after = log - log.shift(1), log - log.shift(-1)
    alone = (before > limit) & (after > limit) | (before < -limit) & (after < -limit)
    if (bad := values.filter(alone.fill_null(value=False))).height:
        raise _bad(path, bad, f"a close of the VIX within a factor of {_ISOLATED:g} of the day before or the day after")
