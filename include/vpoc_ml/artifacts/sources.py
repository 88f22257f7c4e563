"""Delivered files: sources, the part of a vendor file that belongs to one contract, and files that are not used."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Span(BaseModel):
    """Bytes [start, stop) of the unpacked content that hold every line of a symbol.

    ``line`` is the 1-based number of the first line. ``carried`` is the symbol of the line before it: malformed lines
    at the start of the span belong to that symbol.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: int
    stop: int
    line: int
    carried: str


class Source(BaseModel):
    """The bars of one contract in one delivered file.

    ``reader`` is the name of the vendor reader. ``member`` names a file inside a zip. ``symbol`` selects the lines of
    a file that holds several contracts; ``span`` bounds the bytes in which all of them lie.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    reader: str
    contract: str
    member: str | None = None
    symbol: str | None = None
    span: Span | None = None

    @property
    def name(self) -> str:
        """Display name: file name, and member or symbol if there is one."""
        inner = [part for part in (self.member, self.symbol) if part]
        return f"{self.path.name}:{':'.join(inner)}" if inner else self.path.name

    @property
    def order(self) -> tuple[str, str, str]:
        """Sort key: file name, member and symbol. Folders do not count."""
        return self.path.name, self.member or "", self.symbol or ""

    @property
    def key(self) -> str:
        """The source as compact JSON without empty fields; equal for equal sources."""
        return self.model_dump_json(exclude_none=True)


class DeliveredFile(BaseModel):
    """A delivered file as a run read it: path, size in bytes (None where it is not known) and SHA-256."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: str
    size: int | None
    sha256: str


class UnreadableFile(BaseModel):
    """A delivered file that the run does not use, and the reason."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    reason: str
