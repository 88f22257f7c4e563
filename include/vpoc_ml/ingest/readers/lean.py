"""QuantConnect LEAN: a zip per day, in it a CSV per contract (``20131218_es_minute_trade_201312.csv``).

``0,1780.25,1780.25,1780,1780,24``: milliseconds since midnight UTC of the day in the name, the START of the bar;
prices in points, volume in contracts. The member's name gives root and delivery month. Zips of daily bars
(``es_trade_201312.csv``) and open interest (``es_openinterest_201312.csv``) hold no minutes and are set apart.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head, blocks, members, opened
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import told
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import VALUES, Layout, TimestampFormat
from vpoc_ml.market.contracts import parse_contract

EXPECTED = "QuantConnect LEAN minutes (ms since midnight,open,high,low,close,volume)"
_NAME = "lean"
_DAY_MS = 24 * 3600 * 1000
_LINE = re.compile(r"(\d{1,8})(,-?[\d.]+){4},\d+(\.0+)?")
_DAILY_LINE = re.compile(r"\d{8} \d{2}:\d{2}(,-?[\d.]+){4},\d+(\.0+)?|\d{8} \d{2}:\d{2},\d+(\.0+)?")
_MEMBER = re.compile(r"(\d{8})_([a-z0-9]+)_minute_trade_(\d{6})(?:_\d+)?\.csv", re.IGNORECASE)
_DAILY_MEMBER = re.compile(r"([a-z0-9]+)_(trade|openinterest)_(\d{6})(?:_\d+)?\.csv", re.IGNORECASE)


def _recognise(head: Head) -> bool:
    lines = head.lines[:20]
    matches = [match for line in lines if (match := _LINE.fullmatch(line)) and int(match[1]) < _DAY_MS]
    return 2 * len(matches) > len(lines)


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    named = _MEMBER.fullmatch(file.name)
    day = named and _day(named[1])
    if not day:
        raise UnreadableFileError(
            file.shown,
            "a LEAN file whose name tells the day (20131218_es_minute_trade_201312.csv)",
            file.name,
            remedy="Keep the vendor's names: the rows hold only milliseconds since midnight.",
        )
    note = told("milliseconds since midnight UTC", end=False, what="QuantConnect LEAN minutes")
    return Layout(",", ("stamp", *VALUES), TimestampFormat(("epoch:ms",), day=day), note)


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _contract_text(name: str) -> str:
    """Return root and month of a member's name as a code, such as ``ES 201312``."""
    named = _MEMBER.fullmatch(name)
    return f"{named[2]} {named[3]}" if named else name


def is_daily(head: Head) -> bool:
    """Return whether the first lines are daily bars or open interest."""
    return bool(head.lines) and all(_DAILY_LINE.fullmatch(line) for line in head.lines[:5] if line)


def read_daily(path: Path) -> pl.DataFrame:
    """Return contract, session Date, and volume or open_interest i64 of a zip of daily rows, sorted.

    The date is as the vendor writes it, the exchange's calendar day: of a Sunday it holds the evening hours, which
    belong to Monday's session. Open interest is of the close before; it is published the next morning.

    Raises:
        UnreadableFileError: no zip of daily LEAN rows.
    """
    frames = []
    for member in members(path) or []:
        named = _DAILY_MEMBER.fullmatch(Path(member).name)
        if named is None:
            raise UnreadableFileError(path, "LEAN daily rows (es_trade_201312.csv)", member)
        kind = "volume" if named[2].lower() == "trade" else "open_interest"
        code = parse_contract(f"{named[1]} {named[3]}", where="name inside the zip").code
        frames.append(_daily_rows(path, member, code, kind))
    if not frames:
        raise UnreadableFileError(path, "a zip of LEAN daily rows", "no zip, or an empty one")
    return pl.concat(frames, how="diagonal").sort("contract", "session")


def _daily_rows(path: Path, member: str, code: str, kind: str) -> pl.DataFrame:
    with opened(path, member) as stream:
        text = "\n".join(block.text for block in blocks(stream))
    lines = pl.Series("text", text.splitlines(), dtype=pl.String).to_frame().with_row_index("line", offset=1)
    rows = lines.filter(pl.col("text") != "").select(
        "line",
        "text",
        contract=pl.lit(code),
        session=pl.col("text").str.slice(0, 8).str.to_date("%Y%m%d", strict=False),
        value=pl.col("text").str.split(",").list.last().cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
    )
    bad = rows.filter(pl.col("session").is_null() | pl.col("value").is_null())
    if bad.height:
        line, shown = bad.select("line", "text").row(0)
        raise UnreadableFileError(f"{path}:{member}", "yyyyMMdd HH:mm,...,number", repr(shown[:80]), line=line)
    return rows.select("contract", "session", pl.col("value").alias(kind))


READER = TextReader(_NAME, EXPECTED, _recognise, _layout, contract_text=_contract_text)
