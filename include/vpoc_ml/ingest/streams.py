"""Bytes of a vendor file, through gzip and zip, as blocks of whole lines in bounded memory."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from vpoc_ml.errors import MissingInputError, UnreadableFileError

BLOCK = 4 * 1024 * 1024
LONGEST_LINE = 1024 * 1024
HEAD_BYTES = 64 * 1024
HEAD_LINES = 200
_SHOWN = 80
_TAIL = 4096
_GZIP = b"\x1f\x8b"
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError)
_REDELIVER = "Deliver the file again once it is complete."


@dataclass(frozen=True)
class Block:
    """Whole lines of a text, bytes [offset, stop): ``text`` without its final line break; ``line``: its first.

    ``ended`` is False for the last line of a text that does not end with a line break.
    """

    offset: int
    stop: int
    line: int
    text: str
    ended: bool = True


@dataclass(frozen=True)
class Head:
    """Start of a file or zip member: ``name`` as delivered, first bytes, and the first whole lines as text."""

    name: str
    raw: bytes
    lines: tuple[str, ...]
    whole: bool  # the head is the entire content


@contextmanager
def opened(path: Path, member: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; gzip and the named member of a zip are unpacked on the way.

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: it cannot be opened, or what packs it is damaged or cut off.
    """
    if not path.is_file():
        raise MissingInputError(path, "a file", "Deliver the file.")
    with ExitStack() as stack:
        try:
            stream = _unpacked(path, member, stack)
        except (*_DAMAGE, RuntimeError, KeyError, NotImplementedError) as error:
            raise _damaged(path, error) from error
        try:
            yield stream
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def _unpacked(path: Path, member: str | None, stack: ExitStack) -> IO[bytes]:
    if member is not None:
        archive = stack.enter_context(zipfile.ZipFile(path))
        return stack.enter_context(archive.open(member))
    if packed(path):
        return cast("IO[bytes]", stack.enter_context(gzip.open(path)))
    return stack.enter_context(path.open("rb"))


def _damaged(path: Path, error: Exception) -> UnreadableFileError:
    reason = getattr(error, "strerror", None) or error or type(error).__name__
    return UnreadableFileError(path, "a readable, whole file", f"{reason} (cut off or damaged)", remedy=_REDELIVER)


def packed(path: Path) -> bool:
    """Return whether the file is gzip, judged by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


def members(path: Path) -> list[str] | None:
    """Return the names of a zip's files in their order, or None when the file is no zip.

    Raises:
        UnreadableFileError: it starts like a zip and is none, or it cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
                return None
        with zipfile.ZipFile(path) as archive:
            return [item.filename for item in archive.infolist() if not item.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFileError(
            path, "a whole zip archive", f"{reason}, so it is cut off or still being written", remedy=_REDELIVER
        ) from error


def read_head(path: Path, member: str | None = None) -> Head:
    """Return the first 64 KiB, decoded, of at most 200 lines.

    Raises:
        MissingInputError, UnreadableFileError: as ``opened``.
    """
    with opened(path, member) as stream:
        raw = stream.read(HEAD_BYTES + 1)
    text = raw[:HEAD_BYTES].decode("utf-8", errors="replace").removeprefix("\ufeff")
    lines = text.split("\n")
    whole = len(raw) <= HEAD_BYTES
    if len(lines) > 1:
        lines.pop()  # cut by the head's end or by a torn delivery, or empty after the last line break
    kept = tuple(line.rstrip("\r") for line in lines[:HEAD_LINES])
    return Head(Path(member or path.name).name, raw[:HEAD_BYTES], kept if text else (), whole)


def blocks(stream: IO[bytes], *, offset: int = 0, line: int = 1, stop: int | None = None) -> Iterator[Block]:
    """Yield the text from byte ``offset``, where line number ``line`` starts, up to byte ``stop``.

    A line above 1 MiB is not held: its first 80 characters and its length stand for it.
    """
    if offset:
        stream.seek(offset)
    carry = b""
    while stop is None or offset + len(carry) < stop:
        chunk = stream.read(BLOCK)
        if not chunk:
            break
        data = carry + chunk
        cut = data.rfind(b"\n") + 1
        if cut:
            yield Block(offset, offset + cut, line, _text(data[: cut - 1], first=offset == 0))
            line += data.count(b"\n", 0, cut)
            offset += cut
        carry = data[cut:]
        if len(carry) > LONGEST_LINE:
            shown, length, ended, carry = _skip_line(stream, carry)
            yield Block(offset, offset + length, line, shown, ended)
            line += 1
            offset += length
            if not ended:
                return
    if carry and (stop is None or offset < stop):
        ended = carry.endswith(b"\n")
        text = _text(carry.removesuffix(b"\n"), first=offset == 0)
        yield Block(offset, offset + len(carry), line, text, ended)


def _skip_line(stream: IO[bytes], carry: bytes) -> tuple[str, int, bool, bytes]:
    """Read past a line without holding it; return what stands for it, its bytes, whether it ended, and the rest."""
    shown = carry[:_SHOWN].decode("utf-8", errors="replace")
    length = len(carry)
    while chunk := stream.read(LONGEST_LINE):
        cut = chunk.find(b"\n") + 1
        length += cut or len(chunk)
        if cut:
            return f"{shown}... (a line of {length:,} bytes)", length, True, chunk[cut:]
    return f"{shown}... (a line of {length:,} bytes)", length, False, b""


def _text(data: bytes, *, first: bool) -> str:
    text = data.decode("utf-8", errors="replace")
    return text.removeprefix("\ufeff") if first else text


def hash_content(path: Path, member: str | None = None) -> str:
    """Return the SHA-256 of what a file or zip member holds, unpacked, read in blocks.

    Raises:
        MissingInputError, UnreadableFileError: as ``opened``.
    """
    digest = hashlib.sha256()
    with opened(path, member) as stream:
        while chunk := stream.read(LONGEST_LINE):
            digest.update(chunk)
    return digest.hexdigest()


def lacks_last_break(path: Path) -> int | None:
    """Return the number of the last line if a plain file does not end with a line break, else None."""
    with path.open("rb") as stream:
        if stream.seek(0, 2) == 0:
            return None
        stream.seek(-1, 2)
        if stream.read(1) == b"\n":
            return None
        stream.seek(0)
        return 1 + sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(LONGEST_LINE), b""))


def last_line(path: Path, member: str | None = None) -> str:
    """Return the last line that is not blank, at most its last 4 KiB; a packed file is read through.

    Raises:
        MissingInputError, UnreadableFileError: as ``opened``.
    """
    tail = b""
    with opened(path, member) as stream:
        if member is None and not packed(path):
            stream.seek(max(0, stream.seek(0, 2) - _TAIL))
        while chunk := stream.read(LONGEST_LINE):
            tail = (tail + chunk)[-_TAIL:]
    return tail.decode("utf-8", errors="replace").rstrip().rpartition("\n")[2]
