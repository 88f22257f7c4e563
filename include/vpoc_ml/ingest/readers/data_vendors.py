"""Minute files of FirstRate Data, Kibot and Barchart: text, one contract a file."""

from __future__ import annotations

import re
from dataclasses import replace

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head, last_line
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly, mostly_match
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import TimestampFormat, describe_format, label_side_of, order_of, zone_of

_NEW_YORK = "America/New_York"

_FIRSTRATE_HEADERS = (["timestamp", *OHLCV], ["datetime", *OHLCV])
_FIRSTRATE_LAYOUT = Layout(",", ("timestamp", *OHLCV), TimestampFormat(("%Y-%m-%d %H:%M:%S",), _NEW_YORK), "")


class FirstRateReader(TextReader):
    """FirstRate Data intraday files of one contract (``ESH25_1min.txt``).

    ``2023-03-08 00:00:00,4024.75,4025.50,4024.75,4025.00,307``, with or without a header. Timestamps are naive
    US Eastern and mark the START of the bar; prices in points, volume in contracts; minutes without trades are absent.
    Continuous and adjusted series are refused: by their name, and by prices off the tick grid.
    """

    name = "firstrate"
    expected = "a FirstRate Data minute file (yyyy-MM-dd HH:mm:ss,open,high,low,close,volume)"

    def fits(self, head: Head) -> bool:
        return mostly(head, replace(_FIRSTRATE_LAYOUT, header=int(text_layout.names(head) in _FIRSTRATE_HEADERS)))

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        zone = zone_of(file, self.name, config, _NEW_YORK)
        side = label_side_of(file, self.name, config, "start")
        note = describe_format("FirstRate Data minute file", f"{zone} local times", side)
        timestamp = replace(_FIRSTRATE_LAYOUT.timestamp, zone=zone, label_side=side)
        return replace(
            _FIRSTRATE_LAYOUT, timestamp=timestamp, note=note, header=int(text_layout.names(head) in _FIRSTRATE_HEADERS)
        )


FIRSTRATE_READER = FirstRateReader()


_KIBOT_LINE = re.compile(r"\d{1,2}/\d{1,2}/\d{4},\d{1,2}:\d{2}(:\d{2})?(,-?[\d.]+){4},\d+")


class KibotReader(TextReader):
    """Kibot minute files (``ESH25.txt``).

    No header; ``mm/dd/yyyy,hh:mm,open,high,low,close,volume``. Timestamps are naive US Eastern and mark the START
    of the bar; prices in points, volume in contracts. A file in which no day is above 12 does not show the order of
    month and day and is refused.
    """

    name = "kibot"
    expected = "a Kibot minute file (mm/dd/yyyy,hh:mm,open,high,low,close,volume)"

    def fits(self, head: Head) -> bool:
        return mostly_match(head, _KIBOT_LINE)

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        zone = zone_of(file, self.name, config, _NEW_YORK)
        side = label_side_of(file, self.name, config, "start")
        day = order_of(file, config)
        note = describe_format("Kibot minute file", f"{zone} local times", side)
        formats = (f"{day} %H:%M", f"{day} %H:%M:%S")
        return Layout(",", ("date", "time", *OHLCV), TimestampFormat(formats, zone, side), note)


KIBOT_READER = KibotReader()


_BARCHART_FOOTER = r'^"?Downloaded from Barchart'
_BARCHART_ZONES = {"C": "America/Chicago", "E": "America/New_York"}
_BARCHART_ROLES = {name: name for name in ("open", "high", "low", "volume")}
_BARCHART_ROLES |= {"time": "timestamp", "date": "timestamp", "latest": "close", "last": "close"}


class BarchartReader(TextReader):
    """Barchart intraday exports (``esh25_intraday-1min_historical-data.csv``).

    ``Time,Open,High,Low,Latest,Change,%Change,Volume``, newest first, thousands separators inside quotes, and a
    last line ``"Downloaded from Barchart.com as of 05-05-2026 07:59am CDT"``. Timestamps mark the START of the bar
    in the zone of that line; without it ``ingest.timezone`` is needed. Prices in points, volume in contracts.
    """

    name = "barchart"
    expected = "a Barchart export (Time,Open,High,Low,Latest,Change,%Change,Volume)"

    def fits(self, head: Head) -> bool:
        columns = text_layout.names(head)
        return (
            columns[:4] == ["time", "open", "high", "low"]
            and "volume" in columns
            and bool({"latest", "last"} & {*columns})
        )

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        foot = re.search(r"Downloaded from Barchart.* ([CE])[DS]T", last_line(file.path, file.member))
        zone = zone_of(file, self.name, config, _BARCHART_ZONES[foot[1]] if foot else None)
        side = label_side_of(file, self.name, config, "start")
        day = order_of(file, config) if "/" in text_layout.value(head, 0) else "%Y-%m-%d"
        note = describe_format("Barchart export, newest first", f"{zone} local times", side)
        return Layout(
            ",",
            text_layout.roles(text_layout.names(head), _BARCHART_ROLES),
            TimestampFormat((f"{day} %H:%M", f"{day} %H:%M:%S"), zone, side),
            note,
            header=1,
            footer=_BARCHART_FOOTER,
            quoted=True,
        )


BARCHART_READER = BarchartReader()
