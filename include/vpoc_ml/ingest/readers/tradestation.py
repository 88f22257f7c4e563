"""TradeStation and MultiCharts exports of minute bars.

``"Date","Time","Open","High","Low","Close","Up","Down"`` (also ``Vol`` or ``TotalVolume``, ``<Date>;<Time>;...``).
Time is the closing time of the bar (TradeStation's help on ASCII data), so timestamps mark its END. Their zone is the
chart's, exchange or local; the file does not state it: ``ingest.timezone`` is needed. Volume in contracts is Up + Down,
else Vol or TotalVolume; prices in points.
"""

from __future__ import annotations

from vpoc_ml.artifacts.schemas import PRICES
from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.file_settings import describe_format, label_side_of, zone_of
from vpoc_ml.ingest.parsing.reader import FileRef
from vpoc_ml.ingest.parsing.text_layout import Layout, TimestampFormat
from vpoc_ml.ingest.parsing.time_text import order_of

EXPECTED = "a TradeStation or MultiCharts export (Date,Time,Open,High,Low,Close,Up,Down or Vol)"
_NAME = "tradestation"
_SEPARATORS = (",", ";", "\t")
_VOLUMES = ({"up", "down"}, {"vol"}, {"totalvolume"})
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H%M", "%H%M%S")


def _columns(head: Head) -> tuple[list[str], str]:
    """Return the columns in lower case, and what separates them."""
    separator = max(_SEPARATORS, key=head.lines[0].count)
    return [name.strip("<>") for name in text_layout.names(head, separator)], separator


def _recognise(head: Head) -> bool:
    columns, _ = _columns(head)
    needed = {"date", "time", *PRICES} <= set(columns)
    return needed and "volume" not in columns and any(each <= set(columns) for each in _VOLUMES)


def _layout(file: FileRef, head: Head, config: IngestConfig) -> Layout:
    columns, separator = _columns(head)
    zone = zone_of(file, _NAME, config, None)
    side = label_side_of(file, _NAME, config, "end")
    volumes = next((each for each in _VOLUMES if each <= set(columns)), set())
    wanted = {name: name for name in ("date", "time", *PRICES)} | dict.fromkeys(volumes, "volume")
    first = text_layout.value(head, columns.index("date"), separator) if "date" in columns else ""
    days = (order_of(file, config),) if "/" in first else ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y")
    formats = tuple(f"{day} {clock}" for day in days for clock in _CLOCKS)
    note = describe_format("TradeStation or MultiCharts export", f"{zone} local times (ingest.timezone)", side)
    return Layout(
        separator, text_layout.roles(columns, wanted), TimestampFormat(formats, zone, side), note, header=1, quoted=True
    )


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
