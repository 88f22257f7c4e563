"""The champions as the ledger states them. The file is read and its chain is checked; nothing is written.

No lock is taken either: a lock is a file, and the API server of a cluster mounts the registry read-only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vpoc_ml.artifacts import layout
from vpoc_ml.registry.ledger import PROMOTE, ROLLBACK, Ledger, LedgerEntry, champion_history, key_of


@dataclass(frozen=True, slots=True)
class ReigningChampion:
    """The champion of a key: its version, since when (UTC) it is the champion, and who decided that."""

    key: str
    version: int
    since: datetime
    actor: str | None


def ledger_entries(registry: Path | None) -> list[LedgerEntry]:
    """Return the entries of the ledger, oldest first; none where there is no ledger.

    Args:
        registry: folder of the registry; None: it is not known.

    Raises:
        RegistryError: the ledger was changed after it was written.
    """
    if registry is None or not (registry / layout.LEDGER).is_file():
        return []
    return Ledger(registry / layout.LEDGER).entries_without_lock()


def reigning_champions(entries: Sequence[LedgerEntry]) -> tuple[ReigningChampion, ...]:
    """Return the champion of each key, sorted by key; none where nothing was ever promoted."""
    versions = {key: version for version, key in champion_history(entries) if key is not None}
    changes = {key_of(entry, entries): entry for entry in entries if entry.action in (PROMOTE, ROLLBACK)}
    return tuple(
        ReigningChampion(key, version, datetime.fromisoformat(changes[key].time), changes[key].actor)
        for key, version in sorted(versions.items())
    )
