"""The ledger: an append-only, hash-chained record of every candidate and of every decision about a champion.

The file holds one JSON object per line. Each entry carries the SHA-256 of the previous line. An entry that is edited,
removed or inserted later breaks the chain, and the next read names the line. The chain cannot prove its own last
line. The digest of that line, the head, is therefore stored outside the file, in the ledger's anchor.

An append has three steps: the anchor announces the digest of the new line; the line is written and synced; the anchor
makes it the head. If the process is killed between two steps, the ledger ends at the head or at the announced line.
Both are valid, and the next append continues from there. Any other last line was changed by somebody else.

If the process is killed while it writes, the last line is torn. The next ``append`` moves it to ``<ledger>.torn`` and
records that in an entry of its own.

``champions_of`` replays the entries: they say which version was the champion of a key at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from vpoc_ml.errors import InvalidValueError, RegistryError
from vpoc_ml.market.nights import CHICAGO
from vpoc_ml.registry.model_key import ModelKey

logger = logging.getLogger(__name__)

GENESIS = "0" * 64
PROMOTE, ROLLBACK, REFUSE, RECOVER, REPAIR = "promote", "rollback", "refuse", "recover", "repair"
REJECT, EXPIRE, ASSIGN, CANDIDATE = "reject", "expire", "assign", "candidate"
ACTIONS = (PROMOTE, ROLLBACK, REFUSE, RECOVER, REPAIR, REJECT, EXPIRE, ASSIGN, CANDIDATE)
DECISIONS = (PROMOTE, ROLLBACK, REFUSE, REJECT, EXPIRE)
RULE = "promotion rule"
"""Actor of what nobody decided in person."""


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger.

    Attributes:
        seq: number of the line, from 1.
        time: UTC, ISO 8601.
        action: one of ``ACTIONS``.
        version: the model version; None for a repair of the ledger.
        reasons: the reasons of the decision.
        previous: SHA-256 of the previous line.
        key: text of the version's ``ModelKey``. None without a version, and in ledgers of the first release, where
            later ``assign`` entries give the versions their keys.
        preset: identity of the candidate's settings and code, of a ``candidate`` entry.
        actor: who decided; None in ledgers of earlier versions.
    """

    seq: int
    time: str
    action: str
    version: int | None
    reasons: tuple[str, ...]
    previous: str
    key: str | None = None
    preset: str | None = None
    actor: str | None = None

    def line(self) -> bytes:
        """Return the canonical line without its newline. The next entry's ``previous`` is its SHA-256."""
        optional = ("key", "preset", "actor")
        fields = {name: value for name, value in asdict(self).items() if name not in optional or value is not None}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def digest(self) -> str:
        """Return the SHA-256 of the line as 64 hex digits."""
        return hashlib.sha256(self.line()).hexdigest()


@dataclass(frozen=True)
class LedgerHead:
    """The state stored outside the file: number and digest of the last line, and an announced digest."""

    seq: int = 0
    digest: str = GENESIS
    announced: str | None = None


class Anchor(Protocol):
    """Stores the head of a ledger outside the ledger file."""

    def head(self) -> LedgerHead | None:
        """Return the head; None before the first append."""
        ...

    def set_head(self, head: LedgerHead) -> None:
        """Store ``head``. It is durable when this returns."""
        ...


class Ledger:
    """The ledger file at ``path``, created by the first ``append``. Many processes may use it at once.

    Without an ``anchor`` the last line is not protected.
    """

    def __init__(self, path: Path, anchor: Anchor | None = None) -> None:
        self.path = path
        self.anchor = anchor
        self.torn_path = path.with_name(path.name + ".torn")
        self._lock = FileLock(str(path) + ".lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the ledger against every other process. The lock may be nested."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            yield

    def append(
        self,
        action: str,
        *,
        version: int | None = None,
        key: str | None = None,
        preset: str | None = None,
        actor: str | None = None,
        reasons: Sequence[str] = (),
        now: datetime,
    ) -> LedgerEntry:
        """Add an entry. It is durable when this returns.

        Raises:
            InvalidValueError: the action is unknown, or ``now`` has no time zone.
            RegistryError: the chain is broken. Nothing is added to a changed ledger.
        """
        if action not in ACTIONS:
            raise InvalidValueError("a ledger action", action, f"one of {', '.join(ACTIONS)}")
        with self.locked():
            entries = self._repaired(now)
            entry = _next(entries, action, version, reasons, now)
            return self._write(entries, replace(entry, key=key, preset=preset, actor=actor))

    def entries(self) -> list[LedgerEntry]:
        """Return all complete entries, oldest first. A torn last line is left out and logged.

        Raises:
            RegistryError: the chain is broken.
        """
        with self.locked():
            entries, torn = self._read()
        if torn:
            logger.warning("%s ends in a torn line of %d bytes; the next append sets it aside", self.path, len(torn))
        return entries

    def entries_without_lock(self) -> list[LedgerEntry]:
        """Return all complete entries, oldest first, to a process that may only read: no lock file, no head.

        A line that is being appended is left out. A repair may replace a torn line while this reads, and what was
        read then does not fit together. The chain is broken only if a second read finds the same.

        Raises:
            RegistryError: the chain is broken.
        """
        content = self._content()
        try:
            return self._parsed(content, None)[0]
        except RegistryError:
            again = self._content()
            if again == content:
                raise
            return self._parsed(again, None)[0]

    def verify(self) -> int:
        """Check the chain and return the number of entries.

        Raises:
            RegistryError: a line was changed, removed, inserted or torn; the message names it.
        """
        with self.locked():
            entries, torn = self._read()
        if torn:
            raise RegistryError(
                f"{self.path}, line {len(entries) + 1}: expected a complete entry; found {len(torn)} bytes of one."
                " A write was interrupted. The next decision moves the line aside and continues."
            )
        return len(entries)

    def _read(self) -> tuple[list[LedgerEntry], bytes]:
        head = self.anchor.head() if self.anchor else None
        entries, torn = self._parsed(self._content(), head)
        if self.anchor:
            _check_head(entries, str(self.path), head)
        return entries, torn

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def _parsed(self, content: bytes, head: LedgerHead | None) -> tuple[list[LedgerEntry], bytes]:
        """Return the entries of complete lines, whose chain is checked, and the bytes after the last of them."""
        *lines, torn = content.split(b"\n")
        entries = [_parse(line, f"{self.path}, line {number}") for number, line in enumerate(lines, start=1)]
        _check_chain(entries, str(self.path), head)
        return entries, torn

    def _repaired(self, now: datetime) -> list[LedgerEntry]:
        """Return the entries. A torn last line is moved aside; a complete one without its newline gets it."""
        entries, torn = self._read()
        if not torn:
            return entries
        try:
            entry = _parse(torn, str(self.path))
            _check_chain([*entries, entry], str(self.path), None)
        except RegistryError:
            append_bytes(self.torn_path, torn + b"\n")
            os.truncate(self.path, self.path.stat().st_size - len(torn))
            reason = f"A torn last line of {len(torn)} bytes was moved to {self.torn_path.name}: an append was killed."
            logger.warning("%s: %s", self.path, reason)
            return [*entries, self._write(entries, _next(entries, REPAIR, None, (reason,), now))]
        if self.anchor:
            _check_head([*entries, entry], str(self.path), self.anchor.head())
        append_bytes(self.path, b"\n")
        return [*entries, entry]

    def _write(self, entries: Sequence[LedgerEntry], entry: LedgerEntry) -> LedgerEntry:
        if self.anchor:
            self.anchor.set_head(LedgerHead(len(entries), entry.previous, announced=entry.digest()))
        append_bytes(self.path, entry.line() + b"\n")
        if self.anchor:
            self.anchor.set_head(LedgerHead(entry.seq, entry.digest()))
        return entry


def _next(
    entries: Sequence[LedgerEntry],
    action: str,
    version: int | None,
    reasons: Sequence[str],
    now: datetime,
) -> LedgerEntry:
    if now.tzinfo is None:
        raise InvalidValueError("the time of a ledger entry", now.isoformat(), "a time with its zone")
    previous = entries[-1].digest() if entries else GENESIS
    time = now.astimezone(UTC).isoformat()
    return LedgerEntry(len(entries) + 1, time, action, version, tuple(reasons), previous)


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

    If a link is broken, one of two lines was changed. It was the earlier line if the next line, or the head, holds the
    digest of the later one.
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
    """Check the last line against the head. Ledgers of the first release have no head."""
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
        raise _broken(f"{path}, line {seq + 1}", f"{head.seq} entries, as in the registry", f"{seq}")
    if seq == head.seq:
        raise _broken(f"{path}, line {seq}", f"an entry with the digest {head.digest[:12]}", digest[:12])
    raise _broken(f"{path}, line {head.seq + 1}", f"{head.seq} entries, as in the registry", f"{seq}")


def _broken(where: str, expected: str, found: str) -> RegistryError:
    return RegistryError(
        f"{where}: expected {expected}; found {found}. The ledger was changed after it was written."
        " Restore the ledger from a backup before anything is promoted."
    )


def append_bytes(path: Path, data: bytes) -> None:
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


def champions_of(entries: Sequence[LedgerEntry], key: ModelKey, until: datetime | None = None) -> list[int]:
    """Return the champions of ``key`` in the order of their promotion, the current one last.

    A rollback removes the last champion.

    Args:
        entries: all entries of the ledger. Keys assigned by the migration apply to earlier entries too.
        key: key of the champions.
        until: timezone-aware; later decisions are left out. The order of the ledger counts: a decision is included
            if any following decision is, even if a wrong clock gave it a later time.
    """
    return [version for version, of in champion_history(entries, until) if of == str(key)]


def presets_tried(entries: Sequence[LedgerEntry], key: ModelKey, until: datetime | None = None) -> dict[str, int]:
    """Return by preset the newest candidate's version, in the order in which the presets were first tried.

    Args:
        entries: all entries of the ledger.
        key: key of the candidates.
        until: timezone-aware; later candidates are left out.
    """
    tried: dict[str, int] = {}
    for entry in entries:
        if entry.action != CANDIDATE or entry.key != str(key) or entry.preset is None or entry.version is None:
            continue
        if until is None or datetime.fromisoformat(entry.time) <= until:
            tried[entry.preset] = entry.version
    return tried


def refused_nights(entries: Sequence[LedgerEntry], key: str) -> int:
    """Return on how many dates (Chicago) the newest candidates of a key were refused, without another decision."""
    nights = set()
    for entry in reversed(entries):
        if entry.key != key:
            continue
        if entry.action == REFUSE:
            nights.add(datetime.fromisoformat(entry.time).astimezone(CHICAGO).date())
        elif entry.action in DECISIONS:
            break
    return len(nights)


def champion_history(entries: Sequence[LedgerEntry], until: datetime | None = None) -> list[tuple[int, str | None]]:
    """Return version and key of the champions of all keys, in the order of their promotion.

    The first ledgers had one champion for all keys. Their rollbacks removed the last champion of any key.
    """
    assigned = _assigned(entries)
    history: list[tuple[int, str | None]] = []
    decisions = [entry for entry in entries if entry.action in (PROMOTE, ROLLBACK)]
    while until is not None and decisions and datetime.fromisoformat(decisions[-1].time) > until:
        decisions.pop()
    for entry in decisions:
        if entry.action == PROMOTE and entry.version is not None:
            history.append((entry.version, entry.key or assigned.get(entry.version)))
        elif entry.action == ROLLBACK:
            history.pop(max(index for index, (_, of) in enumerate(history) if entry.key in (None, of)))
    return history


def key_of(entry: LedgerEntry, entries: Sequence[LedgerEntry]) -> str | None:
    """Return the text of the entry's key, also for an entry written before there were keys."""
    return entry.key or _assigned(entries).get(entry.version)


def _assigned(entries: Sequence[LedgerEntry]) -> dict[int | None, str | None]:
    """Return the keys that the migration assigned to versions registered before there were keys."""
    return {entry.version: entry.key for entry in entries if entry.action == ASSIGN}


def keys(entries: Sequence[LedgerEntry]) -> list[ModelKey]:
    """Return all keys in the ledger, sorted."""
    return sorted({ModelKey.parse(entry.key) for entry in entries if entry.key is not None})
