"""A cache of file hashes, so that a night does not read every file again to learn that nothing changed.

An entry is believed while size, modification time, change time and inode of the file are what they were
when it was hashed. Time stamps are coarse: a file may be written to twice within one tick. So a file
touched within the last two seconds is always hashed and never remembered, as git does with its index.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.storage import file_version_token, stat_version_token

RACY_NS = 2_000_000_000
CREATE = "CREATE TABLE IF NOT EXISTS content_hashes (path TEXT PRIMARY KEY, version_token TEXT, sha256 TEXT)"
logger = logging.getLogger(__name__)


class HashCache:
    """Hashes of local files, remembered in the SQLite file ``path``; without it they are merely slower."""

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.path, self._clock = path, clock

    def hash_file(self, file: Path) -> str:
        """Return the SHA-256 of ``file``'s bytes, from memory when the file cannot have changed since."""
        return self.cached_for_file(file, "", lambda: hash_file(file))

    def cached_for_file(self, file: Path, what: str, work: Callable[[], str]) -> str:
        """Return what ``work`` finds out about ``what`` of ``file``, from memory when the file cannot have changed."""
        try:
            found = os.stat(file)
        except OSError:
            return work()
        if not stat.S_ISREG(found.st_mode):
            return work()
        name, before = f"{os.path.abspath(file)}\n{what}".rstrip(), stat_version_token(found)
        known = None if written_just_now(found, self._clock()) else self.recall(name, before)
        if known is not None:
            return known
        answer = work()
        if file_version_token(file) == before and not written_just_now(found, self._clock()):
            self.remember(name, before, answer)
        return answer

    def recall(self, name: str, version_token: str) -> str | None:
        """Return what was remembered for ``name`` while it carried ``stamp``."""
        rows = self._ask("SELECT sha256 FROM content_hashes WHERE path = ? AND version_token = ?", name, version_token)
        return str(rows[0][0]) if rows else None

    def remember(self, name: str, version_token: str, sha256: str) -> None:
        """Remember the hash of ``name`` for as long as it carries ``stamp``."""
        self._ask("INSERT OR REPLACE INTO content_hashes VALUES (?, ?, ?)", name, version_token, sha256)

    def _ask(self, statement: str, *values: str) -> list[tuple[str]]:
        try:
            with _open.connection(self.path) as connection:
                return connection.execute(statement, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            _open.forget(self.path)
            logger.warning("hash cache %s cannot be used (%s); files are hashed again", self.path, error)
            return []


def written_just_now(found: os.stat_result, now_ns: int | None = None) -> bool:
    """Return whether a file was touched so recently that a second write may leave its times as they are."""
    now = time.time_ns() if now_ns is None else now_ns
    return now - max(found.st_mtime_ns, found.st_ctime_ns) < RACY_NS


class _Open(threading.local):
    """This thread's connections, kept while the database is the same file and the process did not fork."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], sqlite3.Connection]] = {}

    def connection(self, path: Path) -> sqlite3.Connection:
        known = self._known.get(path)
        if known is not None and known[0] == _identity(path):
            return known[1]
        self.forget(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=5.0)
        try:
            with connection:
                connection.execute(CREATE)
        except sqlite3.Error:
            connection.close()
            raise
        if (identity := _identity(path)) is not None:
            self._known[path] = identity, connection
        return connection

    def forget(self, path: Path) -> None:
        known = self._known.pop(path, None)
        if known is not None and known[0][0] == os.getpid():
            known[1].close()


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return os.getpid(), found.st_dev, found.st_ino


_open = _Open()
