"""The interface of a vendor reader: recognise a file, list its contracts, yield its rows in batches.

A setting for files has one value for all, or ``pattern=value`` pairs (``setting_for``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol

import polars as pl

from vpoc_ml.artifacts.sources import Source, Span
from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest.file_streams import Head
from vpoc_ml.market.contracts import Contract
from vpoc_ml.market.instruments import Instrument


@dataclass(frozen=True)
class FileRef:
    """A delivered file, or a file inside a delivered zip."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """File name of the member, else of the file; it may name the contract."""
        return Path(self.member or self.path.name).name

    @property
    def shown(self) -> str:
        """Display name: the path, and the member if there is one."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def source(self, reader: str, contract: Contract, symbol: str | None = None, span: Span | None = None) -> Source:
        """Return the source of a contract in this file."""
        return Source(
            path=self.path, reader=reader, contract=contract.code, member=self.member, symbol=symbol, span=span
        )


def setting_for(setting: str, file: FileRef, reader: str = "") -> str | None:
    """Return the value that a setting has for a file; None for ``auto``.

    ``America/Chicago`` holds for every file. ``sierra_text=America/Chicago, *.csv=America/New_York`` holds for files
    whose name matches a pattern or whose reader has this name; the first match counts.
    """
    for part in setting.split(","):
        pattern, separator, value = part.strip().rpartition("=")
        names = (file.name, file.path.name, reader)
        if not separator or any(fnmatch(name, pattern.strip()) for name in names):
            return None if value.strip() in ("", "auto") else value.strip()
    return None


@dataclass(frozen=True)
class FileContents:
    """What a file holds.

    ``notes`` name what was set apart. ``daily`` is True for a file of daily rows, which has no sources.
    ``truncation`` is the error that names the position at which the file is cut off; None for a complete file.
    """

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()
    daily: bool = False
    truncation: UnreadableFileError | None = None


class Reader(Protocol):
    """A vendor format.

    ``batches`` yields ts (START of bar, Datetime[us, UTC]), open, high, low, close f64 in points, volume i64 in
    contracts, line i64 (1-based) and text str. A malformed row is null in all but line and text.
    """

    @property
    def name(self) -> str: ...

    @property
    def expected(self) -> str: ...

    def recognises(self, head: Head) -> bool: ...

    def contents(self, file: FileRef, head: Head, instrument: Instrument, config: IngestConfig) -> FileContents: ...

    def batches(self, source: Source, instrument: Instrument, config: IngestConfig) -> Iterator[pl.DataFrame]: ...

    def note(self, source: Source, config: IngestConfig) -> str: ...
