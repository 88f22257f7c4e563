"""Interactive Brokers bars as ib_insync saves them.

``date,open,high,low,close,volume,average,barCount`` (an index column may come first) /
``2025-11-07 15:59:00-05:00,670.88,671.08,670.6,670.91,1562052.0,670.852,12248``. Stamps mark the START of the bar
and carry the exchange's offset; naive ones need ``ingest.timezone``. Volume is contracts of a future, as a float.
"""

from __future__ import annotations

import re

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.readers import header
from vpoc_ml.ingest.readers.base import Place
from vpoc_ml.ingest.readers.delimited import TextReader
from vpoc_ml.ingest.readers.layout import VALUES, Layout, Stamp
from vpoc_ml.ingest.readers.options import ends, told, zone_of
from vpoc_ml.ingest.streams import Head

EXPECTED = "Interactive Brokers bars (date,open,high,low,close,volume,average,barCount)"
_NAME = "interactive_brokers"
_WITH_OFFSET = ("%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d %H:%M:%SZ")
_NAIVE = ("%Y-%m-%d %H:%M:%S", "%Y%m%d %H:%M:%S", "%Y%m%d  %H:%M:%S")


def _recognise(head: Head) -> bool:
    columns = header.names(head)
    return columns[-8:] == ["date", *VALUES, "average", "barcount"]


def _layout(place: Place, head: Head, config: IngestConfig) -> Layout:
    columns = header.names(head)
    known = re.search(r"([+-]\d{2}:?\d{2}|Z)$", header.value(head, columns.index("date"))) is not None
    zone = "UTC" if known else zone_of(place, _NAME, config, None)
    end = ends(place, _NAME, config, default=False)
    shown = "with their offset" if known else f"{zone} local times (ingest.timezone)"
    return Layout(
        ",",
        header.roles(columns, {"date": "stamp", **{name: name for name in VALUES}}),
        Stamp(_WITH_OFFSET if known else _NAIVE, zone, end),
        told(shown, end=end, what="Interactive Brokers bars"),
        header=1,
    )


READER = TextReader(_NAME, EXPECTED, _recognise, _layout)
