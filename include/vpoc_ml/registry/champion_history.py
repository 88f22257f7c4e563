"""The champions over time, replayed from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from vpoc_ml.registry.ledger import ASSIGN, PROMOTE, ROLLBACK, LedgerEntry
from vpoc_ml.registry.model_key import ModelKey


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
