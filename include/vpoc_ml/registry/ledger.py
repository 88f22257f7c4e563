"""The ledger: an append-only record of every decision about the champion, chained by hashes.

One JSON object a line. Each entry carries the SHA-256 of the line before it, so an entry that is
edited, removed or inserted later breaks the chain and ``verify`` names the line. An entry is on disk
(fsync) before ``append`` returns. A process killed while writing leaves a torn last line: it is set
aside in ``<ledger>.torn``, and the next ``append`` says so with an entry of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from vpoc_ml.errors import InvalidValueError, RegistryError

logger = logging.getLogger(__name__)

GENESIS = "0" * 64
PROMOTE, ROLLBACK, REFUSE, RECOVER, REPAIR = "promote", "rollback", "refuse", "recover", "repair"
ACTIONS = (PROMOTE, ROLLBACK, REFUSE, RECOVER, REPAIR)


@dataclass(frozen=True)
class Entry:
    """One line: what was done to which model version, when (UTC, ISO 8601) and why."""

    seq: int
    time: str
    action: str
    version: int | None
    reasons: tuple[str, ...]
    previous: str

    def line(self) -> bytes:
        """Return the canonical line without its newline: what the next entry's ``previous`` is taken of."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def digest(self) -> str:
        """Return the SHA-256 of the line as 64 hex digits."""
        return hashlib.sha256(self.line()).hexdigest()


class Ledger:
    """The ledger file at ``path``; made by the first ``append``. Safe for many processes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn_path = path.with_name(path.name + ".torn")
        self._lock = FileLock(str(path) + ".lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger against every other process; may be nested."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            yield

    def append(self, action: str, *, version: int | None = None, reasons: Sequence[str] = (), now: datetime) -> Entry:
        """Add an entry, durable when this returns.

        Raises:
            InvalidValueError: an unknown action or a ``now`` without a zone.
            RegistryError: the chain is broken; nothing is added to a ledger that was tampered with.
        """
        if action not in ACTIONS:
            raise InvalidValueError("a ledger action", action, f"one of {', '.join(ACTIONS)}")
        with self.locked():
            entries = self._repaired(now)
            return self._write(_next(entries, action, version, reasons, now))

    def entries(self) -> list[Entry]:
        """Return all whole entries, oldest first; a torn last line is left out and logged.

        Raises:
            RegistryError: the chain is broken.
        """
        with self.locked():
            entries, torn = self._read()
        if torn:
            logger.warning("%s ends in a torn line of %d bytes; the next append sets it aside", self.path, len(torn))
        return entries

    def verify(self) -> int:
        """Check the whole chain and return the number of entries.

        Raises:
            RegistryError: a line was changed, removed, inserted or torn; the message names it.
        """
        with self.locked():
            entries, torn = self._read()
        if torn:
            raise RegistryError(
                f"{self.path}, line {len(entries) + 1}: expected a whole entry; found a torn line of {len(torn)} bytes."
                " A write was interrupted; the next decision sets the line aside and goes on."
            )
        return len(entries)

    def _read(self) -> tuple[list[Entry], bytes]:
        data = self.path.read_bytes() if self.path.exists() else b""
        *lines, torn = data.split(b"\n")
        entries: list[Entry] = []
        for number, line in enumerate(lines, start=1):
            entries.append(_parse(line, entries[-1] if entries else None, f"{self.path}, line {number}"))
        return entries, torn

    def _repaired(self, now: datetime) -> list[Entry]:
        """Return the entries after setting aside a torn last line, or ending it where it is whole."""
        entries, torn = self._read()
        if not torn:
            return entries
        try:
            entry = _parse(torn, entries[-1] if entries else None, str(self.path))
        except RegistryError:
            _append(self.torn_path, torn + b"\n")
            os.truncate(self.path, self.path.stat().st_size - len(torn))
            reason = f"A torn last line of {len(torn)} bytes was moved to {self.torn_path.name}: an append was killed."
            logger.warning("%s: %s", self.path, reason)
            return [*entries, self._write(_next(entries, REPAIR, None, (reason,), now))]
        _append(self.path, b"\n")
        return [*entries, entry]

    def _write(self, entry: Entry) -> Entry:
        _append(self.path, entry.line() + b"\n")
        return entry


def _next(entries: Sequence[Entry], action: str, version: int | None, reasons: Sequence[str], now: datetime) -> Entry:
    if now.tzinfo is None:
        raise InvalidValueError("the time of a ledger entry", now.isoformat(), "a time with its zone")
    previous = entries[-1].digest() if entries else GENESIS
    return Entry(len(entries) + 1, now.astimezone(UTC).isoformat(), action, version, tuple(reasons), previous)


def _parse(line: bytes, before: Entry | None, where: str) -> Entry:
    try:
        fields = json.loads(line)
        entry = Entry(**{**fields, "reasons": tuple(fields["reasons"])})
    except (ValueError, TypeError, KeyError) as error:
        raise _broken(where, "an entry of the ledger", repr(line[:80])) from error
    seq, previous = (before.seq + 1, before.digest()) if before else (1, GENESIS)
    if (entry.seq, entry.previous) != (seq, previous):
        expected = f"entry {seq} after {previous[:12]}"
        raise _broken(where, expected, f"entry {entry.seq} after {entry.previous[:12]}")
    if entry.line() != line:
        raise _broken(where, "the canonical form of the entry", repr(line[:80]))
    return entry


def _broken(where: str, expected: str, found: str) -> RegistryError:
    return RegistryError(
        f"{where}: expected {expected}; found {found}. The ledger was changed after it was written:"
        " restore it from a backup before anything is promoted."
    )


def _append(path: Path, data: bytes) -> None:
    """Append in one write and fsync file and folder."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
