"""Read vendor files, also in gzip, zstandard and zip, as blocks of complete lines in bounded memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pyarrow as pa

from vpoc_ml.errors import ExpansionLimitError, MissingInputError, UnreadableFileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 4 * 1024 * 1024
LONGEST_LINE = 1024 * 1024
HEAD_BYTES = 64 * 1024
HEAD_LINES = 200
_SHOWN = 80
_TAIL = 4096
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", (b"PK\x03\x04", b"PK\x05\x06")
EXPANSION_LIMIT = 200.0
"""Largest expanded size as a multiple of the packed size. Minute bars reach 5 to 20, test files of equal bars 100."""
_ALWAYS_ALLOWED = 256 * 1024 * 1024
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError)
_REDELIVER = "Deliver the file again once it is complete."


@dataclass(frozen=True)
class Block:
    """Complete lines of a text, bytes [offset, stop).

    ``text`` has no final line break; ``line`` is the 1-based number of its first line. ``ended`` is False for the last
    line of a text that does not end with a line break.
    """

    offset: int
    stop: int
    line: int
    text: str
    ended: bool = True


@dataclass(frozen=True)
class Head:
    """Start of a file or zip member: ``name`` as delivered, the first bytes, and the first complete lines as text."""

    name: str
    raw: bytes
    lines: tuple[str, ...]


class _LimitedStream(io.RawIOBase):
    """The unpacked content of a stream, up to a size limit. Seeking backwards unpacks from the start again."""

    def __init__(self, path: Path, limit: float, start: Callable[[], IO[bytes]]) -> None:
        self._path, self._limit, self._start = path, limit, start
        self._stream, self._at = start(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        self._at += len(data)
        if self._at > self._limit:
            raise ExpansionLimitError(self._path, self._path.stat().st_size, self._limit)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while self.read(LONGEST_LINE):
                pass
        target = offset if whence == io.SEEK_SET else self._at + offset
        if target < self._at:
            self._stream.close()
            self._stream, self._at = self._start(), 0
        while self._at < target and self.read(min(LONGEST_LINE, target - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._stream.close()
        super().close()


def expanded_limit(path: Path, ratio: float) -> float:
    """Return the number of bytes to which a packed file may expand: ``ratio`` times its size, at least 256 MiB."""
    return max(_ALWAYS_ALLOWED, ratio * path.stat().st_size)


@contextmanager
def open_unpacked(path: Path, member: str | None = None, *, ratio: float = EXPANSION_LIMIT) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes; gzip, zstandard and the named member of a zip are unpacked while reading.

    A member may itself be gzip or zstandard. ``ratio`` limits the expanded size (``expanded_limit``).

    Raises:
        MissingInputError: no such file.
        UnreadableFileError: it cannot be opened, or the archive is damaged or cut off.
        ExpansionLimitError: on reading more than the limit.
    """
    if not path.is_file():
        raise MissingInputError(path, "a file", "Deliver the file.")
    with ExitStack() as stack:
        try:
            stream = _unpacked(path, member, ratio, stack)
        except (*_DAMAGE, RuntimeError, KeyError, NotImplementedError) as error:
            raise _damaged(path, error) from error
        try:
            yield stream
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def _unpacked(path: Path, member: str | None, ratio: float, stack: ExitStack) -> IO[bytes]:
    def outer() -> IO[bytes]:
        return path.open("rb") if archive is None or member is None else archive.open(member)

    archive = None if member is None else stack.enter_context(zipfile.ZipFile(path))
    with outer() as stream:
        magic = stream.read(4)

    def inner() -> IO[bytes]:
        if magic == _ZSTD:
            return cast("IO[bytes]", pa.CompressedInputStream(outer(), "zstd"))
        return cast("IO[bytes]", gzip.GzipFile(fileobj=outer())) if magic[:2] == _GZIP else outer()

    if member is None and not is_compressed(path):
        return stack.enter_context(outer())
    expanded = _LimitedStream(path, expanded_limit(path, ratio), inner)
    return stack.enter_context(io.BufferedReader(expanded))


def _damaged(path: Path, error: Exception) -> UnreadableFileError:
    reason = getattr(error, "strerror", None) or error or type(error).__name__
    return UnreadableFileError(path, "a readable, complete file", f"{reason} (cut off or damaged)", remedy=_REDELIVER)


def has_compressed_magic(data: bytes) -> bool:
    """Return whether bytes start like gzip, zstandard or zip."""
    return data[:2] == _GZIP or data[:4] in (_ZSTD, *_ZIP)


def is_gzip(path: Path) -> bool:
    """Return whether the first bytes of a file are those of gzip."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


def is_compressed(path: Path, member: str | None = None) -> bool:
    """Return whether the first bytes of a file or zip member are those of gzip or zstandard."""
    with ExitStack() as stack:
        if member is None:
            magic = stack.enter_context(path.open("rb")).read(4)
        else:
            magic = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(member)).read(4)
    return magic[:2] == _GZIP or magic == _ZSTD


def zip_members(path: Path, *, ratio: float = EXPANSION_LIMIT) -> list[str] | None:
    """Return the names of a zip's files in their order; None if the file is not a zip.

    Raises:
        UnreadableFileError: it starts like a zip but is damaged, or it cannot be opened.
        ExpansionLimitError: its files together expand to more than ``ratio`` allows.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) not in _ZIP:
                return None
        with zipfile.ZipFile(path) as archive:
            files = [item for item in archive.infolist() if not item.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFileError(
            path, "a complete zip archive", f"{reason}, so it is cut off or still being written", remedy=_REDELIVER
        ) from error
    if sum(item.file_size for item in files) > (limit := expanded_limit(path, ratio)):
        raise ExpansionLimitError(path, path.stat().st_size, limit)
    return [item.filename for item in files]


def read_head(path: Path, member: str | None = None) -> Head:
    """Return the first 64 KiB, decoded, of at most 200 lines.

    Raises:
        MissingInputError, UnreadableFileError: as ``opened``.
    """
    with open_unpacked(path, member) as stream:
        raw = stream.read(HEAD_BYTES + 1)
    text = raw[:HEAD_BYTES].decode("utf-8", errors="replace").removeprefix("\ufeff")
    lines = text.split("\n")
    if len(lines) > 1:
        lines.pop()  # cut at the end of the head or of a truncated file, or empty after the last line break
    kept = tuple(line.rstrip("\r") for line in lines[:HEAD_LINES])
    return Head(Path(member or path.name).name, raw[:HEAD_BYTES], kept if text else ())


def blocks(stream: IO[bytes], *, offset: int = 0, line: int = 1, stop: int | None = None) -> Iterator[Block]:
    """Yield the text from byte ``offset``, where line number ``line`` starts, up to byte ``stop``.

    A line above 1 MiB is not held in memory: its first 80 characters and its length replace it.
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
    """Skip a long line; return its replacement, its number of bytes, whether it ended, and the bytes after it."""
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


def hash_content(path: Path, member: str | None = None, *, ratio: float = math.inf) -> str:
    """Return the SHA-256 of the unpacked content of a file or zip member, read in blocks.

    Raises:
        MissingInputError, UnreadableFileError: as ``opened``.
    """
    digest = hashlib.sha256()
    with open_unpacked(path, member, ratio=ratio) as stream:
        while chunk := stream.read(LONGEST_LINE):
            digest.update(chunk)
    return digest.hexdigest()


def unterminated_last_line(path: Path) -> int | None:
    """Return the number of the last line if a plain file does not end with a line break, else None.

    Blanks after the last line break, and a final Ctrl-Z, are not a line.
    """
    tail = read_tail(path).rstrip(b" \t\r\x1a")
    if not tail or tail.endswith(b"\n"):
        return None
    with path.open("rb") as stream:
        return 1 + sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(LONGEST_LINE), b""))


def read_tail(path: Path) -> bytes:
    """Return the last 4 KiB of a plain file."""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, io.SEEK_END) - _TAIL))
        return stream.read()


def last_line(path: Path, member: str | None = None) -> str:
    """Return the last line that is not blank, at most its last 4 KiB; a packed file is read to its end.

    Raises:
        MissingInputError, UnreadableFileError: as ``opened``.
    """
    tail = b"" if member is not None or is_compressed(path) else read_tail(path)
    if not tail:
        with open_unpacked(path, member, ratio=math.inf) as stream:
            while chunk := stream.read(LONGEST_LINE):
                tail = (tail + chunk)[-_TAIL:]
    return tail.decode("utf-8", errors="replace").rstrip().rpartition("\n")[2]
