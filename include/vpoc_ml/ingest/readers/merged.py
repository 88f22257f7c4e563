"""The legacy system's merged CSV: many contracts in one file.

``timestamp`` or ``date`` (with or without a column ``time``), open, high, low, close, volume, VIX, contract, session,
in any case and order. Its VIX and session columns are not read: the first looks ahead, the second is wrong. Its rows
are concatenated NinjaTrader minute exports, so timestamps are UTC and mark the END of the bar. The session column
confirms that: it is RTH if 09:30 <= timestamp < 16:00, or RTH everywhere. Any other session column means that the
convention is unknown; then ``ingest.timezone`` and ``ingest.label_side`` are needed. Prices in points, volume in
contracts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vpoc_ml.artifacts.schemas import OHLCV
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing import text_layout
from vpoc_ml.ingest.parsing.delimited import TextReader
from vpoc_ml.ingest.parsing.reader import FileRef, setting_for
from vpoc_ml.ingest.parsing.text_layout import Layout
from vpoc_ml.ingest.parsing.timestamps import (
    ISO,
    describe_format,
    label_side_of,
    order_of,
    timestamp_format,
)

_TIMESTAMPS = ("timestamp", "date")
_OWN = {"vix", "contract", "session", "bar_range", "bar_return"}
_FORMATS = (*ISO, "%Y%m%d %H%M%S")
_RTH = ("09:30", "16:00")


def timestamp_columns(columns: Collection[str]) -> tuple[str, ...]:
    """Return the column of the timestamp, or those of date and time, among lower-case columns."""
    if "timestamp" not in columns and "time" in columns:
        return ("date", "time")
    return (next((name for name in _TIMESTAMPS if name in columns), _TIMESTAMPS[0]),)


def formats(file: FileRef, timestamps: Sequence[str], config: IngestConfig) -> tuple[str, ...]:
    """Return the formats of the merged file's timestamps.

    Raises:
        UnreadableFileError: slashed dates whose order is not known, see ``timestamps.order_of``.
    """
    if not timestamps or "/" not in timestamps[0]:
        return _FORMATS
    day = order_of(file, config)
    return (f"{day} %H:%M:%S%.f", f"{day} %H:%M")


def _convention_known(columns: list[str], timestamps: Sequence[str], head: Head) -> bool:
    """Return whether the session column is what the legacy system writes for UTC timestamps at the end of a bar."""
    if "session" not in columns:
        return "contract" in columns or "vix" in columns
    sessions = text_layout.values(head, columns.index("session"))
    rows = [(timestamp[11:16], session) for timestamp, session in zip(timestamps, sessions, strict=False)]
    by_clock = all((_RTH[0] <= clock < _RTH[1]) == (name == "RTH") for clock, name in rows)
    return by_clock or all(name == "RTH" for _, name in rows)


class MergedReader(TextReader):
    """Reader of the merged CSV."""

    name = "merged"
    expected = "the legacy system's merged CSV (timestamp|date,open,high,low,close,volume,VIX,contract,session)"

    def fits(self, head: Head) -> bool:
        columns = text_layout.names(head)
        named = set(columns)
        plain = columns in ([name, *OHLCV] for name in _TIMESTAMPS)
        return bool(named & {*_TIMESTAMPS}) and named >= {*OHLCV} and (plain or bool(named & _OWN))

    def layout(self, file: FileRef, head: Head, config: IngestConfig) -> Layout:
        columns = text_layout.names(head)
        parts = timestamp_columns(columns)
        written = [text_layout.values(head, text_layout.position(head, part, file)) for part in parts]
        timestamps = [" ".join(each) for each in zip(*written, strict=False)]
        side = label_side_of(file, self.name, config, "end")
        chosen = setting_for(config.reader, file) == self.name
        stated = setting_for(config.timezone, file, self.name) and setting_for(config.label_side, file, self.name)
        if not (chosen or stated or _convention_known(columns, timestamps, head)):
            raise UnreadableFileError(
                file.shown,
                "timestamps whose zone and label side are known",
                "a session column that is not the legacy system's rule (RTH where 09:30 <= UTC timestamp < 16:00)",
                remedy="Set ingest.timezone (such as UTC) and ingest.label_side (start or end).",
            )
        form, zone = timestamp_format(
            file, self.name, config, timestamps, formats(file, timestamps, config), label_side=side, default="UTC"
        )
        roles = parts if len(parts) > 1 else ("timestamp",)
        wanted = {**dict(zip(parts, roles, strict=True)), "contract": "symbol", **{name: name for name in OHLCV}}
        note = describe_format("merged CSV of NinjaTrader minute exports", zone, side)
        return Layout(",", text_layout.roles(columns, wanted), form, note, header=1, quoted=True)


READER = MergedReader()
