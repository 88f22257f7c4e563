"""Exports of charting and trading platforms: TradeStation, MultiCharts, TradingView and Interactive Brokers."""

from __future__ import annotations

from vpoc_ml.artifacts.schemas import OHLCV, PRICES
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import (
    ISO,
    TimestampFormat,
    describe_format,
    label_side_of,
    order_of,
    timestamp_format,
    zone_of,
)

_SEPARATORS = (",", ";", "\t")
_VOLUMES = ({"up", "down"}, {"vol"}, {"totalvolume"})
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H%M", "%H%M%S")


def _tradestation_columns(head: Head) -> tuple[list[str], str]:
    """Return the columns in lower case, and what separates them."""
    separator = max(_SEPARATORS, key=head.lines[0].count)
    return [name.strip("<>") for name in text_layout.names(head, separator)], separator


class TradeStationReader(TextReader):
    """TradeStation and MultiCharts exports of minute bars.

    ``"Date","Time","Open","High","Low","Close","Up","Down"`` (also ``Vol`` or ``TotalVolume``,
    ``<Date>;<Time>;...``). Time is the closing time of the bar (TradeStation's help on ASCII data), so timestamps
    mark its END. Their zone is the chart's, exchange or local; the file does not state it: ``ingest.timezone`` is
    needed. Volume in contracts is Up + Down, else Vol or TotalVolume; prices in points.
    """

    name = "tradestation"
    expected = "a TradeStation or MultiCharts export (Date,Time,Open,High,Low,Close,Up,Down or Vol)"

    def fits(self, head: Head) -> bool:
        columns, _ = _tradestation_columns(head)
        needed = {"date", "time", *PRICES} <= set(columns)
        return needed and "volume" not in columns and any(each <= set(columns) for each in _VOLUMES)

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        columns, separator = _tradestation_columns(head)
        zone = zone_of(file, self.name, config, None)
        side = label_side_of(file, self.name, config, "end")
        volumes = next((each for each in _VOLUMES if each <= set(columns)), set())
        wanted = {name: name for name in ("date", "time", *PRICES)} | dict.fromkeys(volumes, "volume")
        first = text_layout.value(head, columns.index("date"), separator) if "date" in columns else ""
        days = (order_of(file, config),) if "/" in first else ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y")
        formats = tuple(f"{day} {clock}" for day in days for clock in _CLOCKS)
        note = describe_format("TradeStation or MultiCharts export", f"{zone} local times (ingest.timezone)", side)
        return Layout(
            separator,
            text_layout.roles(columns, wanted),
            TimestampFormat(formats, zone, side),
            note,
            header=1,
            quoted=True,
        )


TRADESTATION_READER = TradeStationReader()


class TradingViewReader(TextReader):
    """TradingView chart exports (``CME_MINI_ESH2025, 1.csv``).

    ``time,open,high,low,close,<one column per plot>``: time in Unix seconds, or ISO with its offset; it marks the
    START of the bar. Complete files end without a line break. Plot names repeat and may be NaN. There is a Volume
    column only if the chart showed the Volume indicator; without it the file is refused, because a profile needs
    volume. ``ES1!`` is a continuous series.
    """

    name = "tradingview"
    expected = "a TradingView export (time,open,high,low,close,...,Volume)"

    def fits(self, head: Head) -> bool:
        return text_layout.names(head)[:5] == ["time", *PRICES]

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        columns = text_layout.names(head)
        if "volume" not in columns:
            raise UnreadableFileError(
                file.shown,
                "a Volume column",
                ", ".join(columns)[:80],
                line=1,
                remedy="Show the Volume indicator on the chart and export again.",
            )
        side = label_side_of(file, self.name, config, "start")
        timestamps = text_layout.values(head, 0)
        formats = ("epoch:s",) if timestamps and timestamps[0].isdigit() else ISO
        timestamp, shown = timestamp_format(file, self.name, config, timestamps, formats, label_side=side)
        note = describe_format("TradingView export", "Unix seconds (UTC)" if formats != ISO else shown, side)
        fields = text_layout.roles(columns, {"time": "timestamp", **{name: name for name in OHLCV}})
        return Layout(",", fields, timestamp, note, header=1, final_newline_optional=True)


TRADINGVIEW_READER = TradingViewReader()


_BROKERS_COLUMNS = ["date", *OHLCV, "average", "barcount"]
_BROKERS_FORMATS = (*ISO, "%Y%m%d %H:%M:%S", "%Y%m%d  %H:%M:%S")


class InteractiveBrokersReader(TextReader):
    """Interactive Brokers bars as ib_insync saves them.

    ``date,open,high,low,close,volume,average,barCount`` (an index column may come first) / ``2025-11-07
    15:59:00-05:00,670.88,671.08,670.6,670.91,1562052.0,670.852,12248``. Timestamps mark the START of the bar and
    carry the exchange's offset or zone (``20251107 15:59:00 US/Eastern``); those without need ``ingest.timezone``.
    Volume is contracts of a future, as a float.
    """

    name = "interactive_brokers"
    expected = "Interactive Brokers bars (date,open,high,low,close,volume,average,barCount)"

    def fits(self, head: Head) -> bool:
        return text_layout.names(head)[-8:] == _BROKERS_COLUMNS

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        columns = text_layout.names(head)
        side = label_side_of(file, self.name, config, "start")
        timestamps = text_layout.values(head, text_layout.position(head, "date", file))
        timestamp, shown = timestamp_format(file, self.name, config, timestamps, _BROKERS_FORMATS, label_side=side)
        return Layout(
            ",",
            text_layout.roles(columns, {"date": "timestamp", **{name: name for name in OHLCV}}),
            timestamp,
            describe_format("Interactive Brokers bars", shown, side),
            header=1,
        )


BROKERS_READER = InteractiveBrokersReader()
