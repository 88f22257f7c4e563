"""Zips of daily bars and open interest of QuantConnect LEAN: recognised and set apart, see ``lean.read_daily``."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.ingest.parsing.reader import FileContents, FileRef
from vpoc_ml.ingest.readers import lean
from vpoc_ml.market.instruments import Instrument


class DailyReader:
    """Recognises daily rows; they hold no minute bars."""

    name = "lean_daily"
    expected = "QuantConnect LEAN daily rows"

    def recognises(self, head: Head) -> bool:
        """Return whether the first lines are daily bars or open interest."""
        return lean.is_daily(head)

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents:
        """Return a listing without sources."""
        return FileContents((), daily=True)

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]:
        """Refuse: there are no minutes.

        Raises:
            UnreadableFileError: always.
        """
        raise UnreadableFileError(source.path, "one-minute bars", "daily rows", remedy="Deliver the minute zips.")

    def note(self, source: Source, config: IngestConfig) -> str:
        """Return what these files are."""
        return "QuantConnect LEAN daily rows: volume and open interest for rolls"


READER = DailyReader()
