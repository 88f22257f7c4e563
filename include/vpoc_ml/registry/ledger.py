"""The ledger: an append-only record of every decision about the champion, chained by hashes.

One JSON object a line. Each entry carries the SHA-256 of the line before it, so an entry that is
edited, removed or inserted later breaks the chain, and every read names the line. The chain cannot prove
its own last line: the digest of that line, the head, is kept outside the file in the ledger's anchor.

An append has three steps: the anchor announces the digest of the new line, the line is written and
synced, the anchor makes it the head. A process killed between two of them leaves a ledger that ends at
the head or at the announced line; both are valid, and the next append goes on from there. Any other last
line was changed by somebody else.

A process killed while writing leaves a torn last line: it is set aside in ``<ledger>.torn``, and the next
``append`` says so with an entry of its own.
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
from typing import Protocol

from filelock import FileLock

from vpoc_ml.errors import InvalidValueError, RegistryError

logger = logging.getLogger(__name__)

GENESIS = "0" * 64
PROMOTE, ROLLBACK, REFUSE, RECOVER, REPAIR = "promote", "rollback", "refuse", "recover", "repair"
REJECT, EXPIRE, ASSIGN = "reject", "expire", "assign"
ACTIONS = (PROMOTE, ROLLBACK, REFUSE, RECOVER, REPAIR, REJECT, EXPIRE, ASSIGN)


@dataclass(frozen=True)
class LedgerEntry:
    """One line: what was done to which model version, when (UTC, ISO 8601) and why.

    ``key`` is the text of the version's ``ModelKey``; None in entries that are about no version, and in those of the
    first ledgers, whose versions are given their keys by later entries with the action ``assign``.
    """

    seq: int
    time: str
    action: str
    version: int | None
    reasons: tuple[str, ...]
    previous: str
    key: str | None = None

    def line(self) -> bytes:
        """Return the canonical line without its newline: what the next entry's ``previous`` is taken of."""
        fields = {name: value for name, value in asdict(self).items() if name != "key" or value is not None}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def digest(self) -> str:
        """Return the SHA-256 of the line as 64 hex digits."""
        return hashlib.sha256(self.line()).hexdigest()


@dataclass(frozen=True)
class LedgerHead:
    """What is known outside the file: number and digest of the last line, and the digest of one announced."""

    seq: int = 0
    digest: str = GENESIS
    announced: str | None = None


class Anchor(Protocol):
    """Keeps the head of a ledger where whoever can edit the file cannot."""

    def head(self) -> LedgerHead | None:
        """Return the head; None before the first append."""
        ...

    def set_head(self, head: LedgerHead) -> None:
        """Keep ``head``, durable when this returns."""
        ...


class Ledger:
    """The ledger file at ``path``; made by the first ``append``. Safe for many processes at once.

    Without an ``anchor`` the last line is not proved.
    """

    def __init__(self, path: Path, anchor: Anchor | None = None) -> None:
        self.path = path
        self.anchor = anchor
        self.torn_path = path.with_name(path.name + ".torn")
        self._lock = FileLock(str(path) + ".lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger against every other process; may be nested."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            yield

    def append(
        self,
        action: str,
        *,
        version: int | None = None,
        key: str | None = None,
        reasons: Sequence[str] = (),
        now: datetime,
    ) -> LedgerEntry:
        """Add an entry, durable when this returns.

        Raises:
            InvalidValueError: an unknown action or a ``now`` without a zone.
            RegistryError: the chain is broken; nothing is added to a ledger that was tampered with.
        """
        if action not in ACTIONS:
            raise InvalidValueError("a ledger action", action, f"one of {', '.join(ACTIONS)}")
        with self.locked():
            entries = self._repaired(now)
            return self._write(entries, _next(entries, action, version, reasons, now, key))

    def entries(self) -> list[LedgerEntry]:
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

    def _read(self) -> tuple[list[LedgerEntry], bytes]:
        data = self.path.read_bytes() if self.path.exists() else b""
        *lines, torn = data.split(b"\n")
        head = self.anchor.head() if self.anchor else None
        entries = [_parse(line, f"{self.path}, line {number}") for number, line in enumerate(lines, start=1)]
        _check_chain(entries, str(self.path), head)
        if self.anchor:
            _check_head(entries, str(self.path), head)
        return entries, torn

    def _repaired(self, now: datetime) -> list[LedgerEntry]:
        """Return the entries after setting aside a torn last line, or ending it where it is whole."""
        entries, torn = self._read()
        if not torn:
            return entries
        try:
            entry = _parse(torn, str(self.path))
            _check_chain([*entries, entry], str(self.path), None)
        except RegistryError:
            _append(self.torn_path, torn + b"\n")
            os.truncate(self.path, self.path.stat().st_size - len(torn))
            reason = f"A torn last line of {len(torn)} bytes was moved to {self.torn_path.name}: an append was killed."
            logger.warning("%s: %s", self.path, reason)
            return [*entries, self._write(entries, _next(entries, REPAIR, None, (reason,), now))]
        if self.anchor:
            _check_head([*entries, entry], str(self.path), self.anchor.head())
        _append(self.path, b"\n")
        return [*entries, entry]

    def _write(self, entries: Sequence[LedgerEntry], entry: LedgerEntry) -> LedgerEntry:
        if self.anchor:
            self.anchor.set_head(LedgerHead(len(entries), entry.previous, announced=entry.digest()))
        _append(self.path, entry.line() + b"\n")
        if self.anchor:
            self.anchor.set_head(LedgerHead(entry.seq, entry.digest()))
        return entry


def _next(
    entries: Sequence[LedgerEntry],
    action: str,
    version: int | None,
    reasons: Sequence[str],
    now: datetime,
    key: str | None = None,
) -> LedgerEntry:
    if now.tzinfo is None:
        raise InvalidValueError("the time of a ledger entry", now.isoformat(), "a time with its zone")
    previous = entries[-1].digest() if entries else GENESIS
    time = now.astimezone(UTC).isoformat()
    return LedgerEntry(len(entries) + 1, time, action, version, tuple(reasons), previous, key)


def _parse(line: bytes, where: str) -> LedgerEntry:
    try:
        fields = json.loads(line)
        entry = LedgerEntry(**{**fields, "reasons": tuple(fields["reasons"])})
    except (ValueError, TypeError, KeyError) as error:
        raise _broken(where, "an entry of the ledger", repr(line[:80])) from error
    if entry.line() != line:
        raise _broken(where, "the canonical form of the entry", repr(line[:80]))
    return entry


def _check_chain(entries: Sequence[LedgerEntry], path: str, head: LedgerHead | None) -> None:
    """Check that every entry carries the digest of the one before it.

    A broken link has two ends. The later line is intact if the line after it, or the head, knows its digest: then the
    earlier one was changed.
    """
    for index, entry in enumerate(entries):
        seq, previous = index + 1, entries[index - 1].digest() if index else GENESIS
        if entry.seq != seq:
            raise _broken(f"{path}, line {seq}", f"entry {seq}", f"entry {entry.seq}")
        if entry.previous != previous:
            known = entries[seq].previous if seq < len(entries) else head and head.digest
            if index and known == entry.digest():
                expected = f"an entry with the digest {entry.previous[:12]}"
                raise _broken(f"{path}, line {index}", expected, previous[:12])
            expected, found = (f"entry {seq} after {each[:12]}" for each in (previous, entry.previous))
            raise _broken(f"{path}, line {seq}", expected, found)


def _check_head(entries: Sequence[LedgerEntry], path: str, head: LedgerHead | None) -> None:
    """Check the last line against the head. A ledger of before there were keys has no head yet."""
    if head is None:
        if any(entry.key is not None for entry in entries):
            expected = "the digest of the last line in the registry"
            raise _broken(f"{path}, line {len(entries)}", expected, "none: MLflow's database was lost or replaced")
        return
    seq = len(entries)
    digest = entries[-1].digest() if entries else GENESIS
    if (seq, digest) == (head.seq, head.digest) or (seq == head.seq + 1 and digest == head.announced):
        return
    if seq < head.seq:
        raise _broken(f"{path}, line {seq + 1}", f"{head.seq} entries, as the registry says", f"{seq}")
    if seq == head.seq:
        raise _broken(f"{path}, line {seq}", f"an entry with the digest {head.digest[:12]}", digest[:12])
    raise _broken(f"{path}, line {head.seq + 1}", f"{head.seq} entries, as the registry says", f"{seq}")


def _broken(where: str, expected: str, found: str) -> RegistryError:
    return RegistryError(
        f"{where}: expected {expected}; found {found}. The ledger was changed after it was written."
        " Restore the ledger from a backup before anything is promoted."
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
