"""A source: the part of one delivered file that belongs to one contract."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from vpoc_ml.ingest.file_streams import blocks, hash_content, opened


@dataclass(frozen=True)
class Span:
    """Bytes [start, stop) of the unpacked content that hold every line of a symbol.

    ``line`` is the number of the first line; ``carried`` the symbol of the line before, to which malformed lines
    at the start belong.
    """

    start: int
    stop: int
    line: int
    carried: str


@dataclass(frozen=True)
class Source:
    """Where bars of one contract lie. ``member`` names a file inside a zip; ``symbol`` selects lines of a file
    that holds several contracts, all of them between the bytes of ``span``."""

    path: Path
    reader: str
    contract: str
    member: str | None = None
    symbol: str | None = None
    span: Span | None = None

    @property
    def name(self) -> str:
        """Name for people: file, and member or symbol where there is one."""
        inner = [part for part in (self.member, self.symbol) if part]
        return f"{self.path.name}:{':'.join(inner)}" if inner else self.path.name

    @property
    def order(self) -> tuple[str, str, str]:
        """Sort key: by file name, member and symbol, whatever folder they lie in."""
        return self.path.name, self.member or "", self.symbol or ""

    def to_json(self) -> dict[str, Any]:
        """Return the source as JSON-ready values; what is not set is left out."""
        values = {key: value for key, value in vars(self).items() if value is not None}
        return {**values, "path": str(self.path), **({"span": asdict(self.span)} if self.span else {})}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Source:
        """Return the source that ``to_json`` wrote."""
        span = value.get("span")
        return Source(**{**value, "path": Path(value["path"]), "span": Span(**span) if span else None})

    def fingerprint(self) -> str:
        """Return a SHA-256 of the content, read in blocks: of the file or member, or of the symbol's own lines.

        Raises:
            MissingInputError, UnreadableFileError: the file is absent or damaged.
        """
        if self.symbol is None or self.span is None:
            return hash_content(self.path, self.member)
        digest = hashlib.sha256()
        with opened(self.path, self.member, ratio=math.inf) as stream:
            digest.update(stream.readline(4096))
            for block in blocks(stream, offset=self.span.start, line=self.span.line, stop=self.span.stop):
                lines = pl.Series([block.text]).str.split("\n").explode()
                for text in lines.filter(lines.str.contains(self.symbol, literal=True)):
                    digest.update(text.encode() + b"\n")
        return digest.hexdigest()


def combined_fingerprint(sources: Sequence[Source], fingerprint: Callable[[Source], str] = Source.fingerprint) -> str:
    """Return one hash over several sources; the same content delivered twice counts once.

    ``fingerprint`` may remember what it found out about a file that has not been touched since.

    Raises:
        MissingInputError, UnreadableFileError: as ``Source.fingerprint``.
    """
    distinct = dict.fromkeys(fingerprint(source) for source in sorted(sources, key=lambda each: each.order))
    return hashlib.sha256("\n".join(distinct).encode()).hexdigest()
