"""NinjaTrader exports (``ES 03-25.Last.txt``) of minute bars, with timestamps at the END of a bar, and of ticks."""

from __future__ import annotations

import re
from dataclasses import replace

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.delimited import TextReader, mostly, mostly_match
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import TimestampFormat, describe_format, label_side_of, zone_of

LAYOUT = Layout(
    ";",
    ("timestamp", "open", "high", "low", "close", "volume"),
    TimestampFormat(("%Y%m%d %H%M%S",), label_side="end"),
    describe_format("NinjaTrader minute export", "UTC", "end"),
)


class NinjaTraderReader(TextReader):
    """NinjaTrader minute exports (``ES 03-25.Last.txt``).

    No header; ``yyyyMMdd HHmmss;open;high;low;close;volume``, CRLF or LF, prices in points without trailing zeros,
    volume in contracts. Timestamps are UTC and mark the END of the bar; the reader turns them into the START.
    """

    name = "ninjatrader"
    expected = "a NinjaTrader minute export (yyyyMMdd HHmmss;open;high;low;close;volume)"

    def fits(self, head: Head) -> bool:
        return mostly(head, LAYOUT)

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        zone = zone_of(file, self.name, config, "UTC")
        side = label_side_of(file, self.name, config, "end")
        note = describe_format("NinjaTrader minute export", zone, side)
        return replace(LAYOUT, timestamp=replace(LAYOUT.timestamp, zone=zone, label_side=side), note=note)


READER = NinjaTraderReader()


_TICK_NOTE = "NinjaTrader tick export: trades with {zone} timestamps are aggregated to bars labelled with their start"
_TICK_LINE = re.compile(r"\d{8} \d{6} \d{7};-?[\d.]+;-?[\d.]+;-?[\d.]+;\d+")
TICK_LAYOUT = Layout(
    ";", ("timestamp", "price", "", "", "volume"), TimestampFormat(("%Y%m%d %H%M%S",), length=15), _TICK_NOTE
)


class NinjaTraderTickReader(TextReader):
    """NinjaTrader tick exports (``ES 03-25.Last.txt``), aggregated to minute bars.

    No header; ``yyyyMMdd HHmmss fffffff;last;bid;ask;volume`` (seven digits of a second), one trade per line, price
    in points, volume in contracts. Timestamps are UTC, the moment of the trade; a bar holds the trades of
    [minute, minute + 60 s).
    """

    name = "ninjatrader_tick"
    expected = "a NinjaTrader tick export (yyyyMMdd HHmmss fffffff;last;bid;ask;volume)"

    def fits(self, head: Head) -> bool:
        return mostly_match(head, _TICK_LINE)

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        zone = zone_of(file, self.name, config, "UTC")
        return replace(
            TICK_LAYOUT, timestamp=replace(TICK_LAYOUT.timestamp, zone=zone), note=_TICK_NOTE.format(zone=zone)
        )


TICK_READER = NinjaTraderTickReader()
