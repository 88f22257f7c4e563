"""QuantConnect LEAN: one zip per day that holds a CSV per contract (``20131218_es_minute_trade_201312.csv``).

``0,1780.25,1780.25,1780,1780,24``: milliseconds since midnight UTC of the day in the name, the START of the bar;
prices in points, volume in contracts. The member's name gives root and delivery month. Zips of daily bars
(``es_trade_201312.csv``) and open interest (``es_openinterest_201312.csv``) hold no minutes: ``DAILY_READER``
recognises them, and they are set apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

import polars as pl

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import TimestampFormat, describe_format
from vpoc_ml.market.instruments import Instrument

_DAY_MS = 24 * 3600 * 1000
_LINE = re.compile(r"(\d{1,8})(,-?[\d.]+){4},\d+(\.0+)?")
_DAILY_LINE = re.compile(r"\d{8} \d{2}:\d{2}(,-?[\d.]+){4},\d+(\.0+)?|\d{8} \d{2}:\d{2},\d+(\.0+)?")
_MEMBER = re.compile(r"(\d{8})_([a-z0-9]+)_minute_trade_(\d{6})(?:_\d+)?\.csv", re.IGNORECASE)


class DailyReader:
    """Recognises daily bars and open interest; they hold no minute bars."""

    name = "lean_daily"
    expected = "QuantConnect LEAN daily rows"

    def recognises(self, head: Head) -> bool:
        """Return whether the first lines are daily bars or open interest."""
        return bool(head.lines) and all(_DAILY_LINE.fullmatch(line) for line in head.lines[:5] if line)

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents:
        """Return contents without sources, marked as daily."""
        return FileContents((), daily=True)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Refuse: there are no minutes.

        Raises:
            UnreadableFileError: always.
        """
        raise UnreadableFileError(source.path, "one-minute bars", "daily rows", remedy="Deliver the minute zips.")

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return what these files hold."""
        return "QuantConnect LEAN daily rows: volume and open interest for rolls"


class LeanReader(TextReader):
    """Reader of one member of a LEAN zip."""

    name = "lean"
    expected = "QuantConnect LEAN minutes (ms since midnight,open,high,low,close,volume)"

    def fits(self, head: Head) -> bool:
        lines = head.lines[:20]
        matches = [match for line in lines if (match := _LINE.fullmatch(line)) and int(match[1]) < _DAY_MS]
        return 2 * len(matches) > len(lines)

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        named = _MEMBER.fullmatch(file.name)
        try:
            day = date(int(named[1][:4]), int(named[1][4:6]), int(named[1][6:])) if named else None
        except ValueError:
            day = None
        if day is None:
            raise UnreadableFileError(
                file.shown,
                "a LEAN file with the day in its name (20131218_es_minute_trade_201312.csv)",
                file.name,
                remedy="Keep the vendor's names: the rows hold only milliseconds since midnight.",
            )
        note = describe_format("QuantConnect LEAN minutes", "milliseconds since midnight UTC", "start")
        return Layout(",", ("timestamp", *OHLCV), TimestampFormat(("epoch:ms",), origin=day), note)

    def contract_text(self, name: str) -> str:
        """Return root and month of a member's name as a code, such as ``ES 201312``."""
        named = _MEMBER.fullmatch(name)
        return f"{named[2]} {named[3]}" if named else name


READER = LeanReader()
DAILY_READER = DailyReader()
