"""A cache of file hashes, so that a night does not read every file again to learn that nothing changed.

An entry is believed while size, modification time, change time and inode of the file are what they were
when it was hashed. Time stamps are coarse: a file may be written to twice within one tick. So a file
touched within the last two seconds is always hashed and never remembered, as git does with its index.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.storage import file_stamp

RACY_NS = 2_000_000_000
logger = logging.getLogger(__name__)


class HashCache:
    """Hashes of local files, remembered in the SQLite file ``path``; without it they are merely slower."""

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.path, self._clock = path, clock

    def hash_file(self, file: Path) -> str:
        """Return the SHA-256 of ``file``'s bytes, from memory when the file cannot have changed since."""
        return self.remembered(file, "", lambda: hash_file(file))

    def remembered(self, file: Path, what: str, work: Callable[[], str]) -> str:
        """Return what ``work`` finds out about ``what`` of ``file``, from memory when the file cannot have changed."""
        if not file.is_file():
            return work()
        name, before = f"{file.absolute()}\n{what}".rstrip(), file_stamp(file)
        known = None if self._racy(file) else self.recall(name, before)
        if known is not None:
            return known
        found = work()
        if file_stamp(file) == before and not self._racy(file):
            self.remember(name, before, found)
        return found

    def recall(self, name: str, stamp: str) -> str | None:
        """Return what was remembered for ``name`` while it carried ``stamp``."""
        rows = self._ask("SELECT sha256 FROM hashes WHERE path = ? AND stamp = ?", name, stamp)
        return str(rows[0][0]) if rows else None

    def remember(self, name: str, stamp: str, sha256: str) -> None:
        """Remember the hash of ``name`` for as long as it carries ``stamp``."""
        self._ask("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", name, stamp, sha256)

    def _racy(self, file: Path) -> bool:
        stat = file.stat()
        return self._clock() - max(stat.st_mtime_ns, stat.st_ctime_ns) < RACY_NS

    def _ask(self, statement: str, *values: str) -> list[tuple[str]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=5.0)) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT)")
                return connection.execute(statement, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            logger.warning("hash cache %s cannot be used (%s); files are hashed again", self.path, error)
            return []
