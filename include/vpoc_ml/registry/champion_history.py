"""Who was champion when: the ledger's entries, replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from vpoc_ml.registry.ledger import ASSIGN, PROMOTE, ROLLBACK, LedgerEntry
from vpoc_ml.registry.model_key import ModelKey


def champions_of(entries: Sequence[LedgerEntry], key: ModelKey, until: datetime | None = None) -> list[int]:
    """Return the champions of ``key`` in order of office, the present one last; a rollback takes the last one off.

    Args:
        entries: the whole ledger; what it says about keys holds for every moment.
        key: whose champions.
        until: timezone-aware; later decisions are left out. The ledger's order counts: a decision before one that was
            made by then was made by then, whatever a clock that jumped back says.
    """
    return [version for version, of in champion_history(entries, until) if of == str(key)]


def champion_history(entries: Sequence[LedgerEntry], until: datetime | None = None) -> list[tuple[int, str | None]]:
    """Return version and key of the champions of all keys, in order of office.

    The first ledgers had one champion for all keys: there a rollback took off the last one whatever its key was.
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
    """Return the text of the key that an entry is about, also of an entry from before there were keys."""
    return entry.key or _assigned(entries).get(entry.version)


def _assigned(entries: Sequence[LedgerEntry]) -> dict[int | None, str | None]:
    """Return the keys that the migration gave to versions from before there were keys."""
    return {entry.version: entry.key for entry in entries if entry.action == ASSIGN}


def keys(entries: Sequence[LedgerEntry]) -> list[ModelKey]:
    """Return the keys that the ledger is about, sorted."""
    return sorted({ModelKey.parse(entry.key) for entry in entries if entry.key is not None})
