"""Content hashes of files and of frames, with a cache so that a night does not read unchanged files again.

An entry is valid while size, modification time, change time and inode of a file are what they were when the file was
hashed. File times are coarse: a file can be written twice within one tick. A file that was touched within the last two
seconds is therefore always hashed and never cached, as git does with its index.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from vpoc_ml.lake.storage import file_version_token, stat_version_token


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_frame(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of a frame's schema and values, however the frame lies in memory."""
    digest = hashlib.sha256(str(frame.schema).encode())
    for column in frame.iter_columns():
        digest.update(column.is_null().to_numpy().tobytes())
        values = column.to_physical()
        if values.dtype == pl.String:
            digest.update("\x00".join(values.fill_null("").to_list()).encode())
        else:
            digest.update(values.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


RACY_NS = 2_000_000_000
CREATE = "CREATE TABLE IF NOT EXISTS content_hashes (path TEXT PRIMARY KEY, version_token TEXT, sha256 TEXT)"
logger = logging.getLogger(__name__)


class HashCache:
    """Hashes of local files, cached in the SQLite file ``path``. A cache that cannot be used only costs time."""

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.path, self._clock = path, clock

    def hash_file(self, file: Path) -> str:
        """Return the SHA-256 of the bytes of ``file``, from the cache when the file cannot have changed."""
        return self.cached_for_file(file, "", lambda: hash_file(file))

    def cached_for_file(self, file: Path, what: str, compute: Callable[[], str]) -> str:
        """Return ``compute()``, a fact named ``what`` about ``file``, cached while the file cannot have changed."""
        try:
            status = os.stat(file)
        except OSError:
            return compute()
        if not stat.S_ISREG(status.st_mode):
            return compute()
        name, version_token = f"{os.path.abspath(file)}\n{what}".rstrip(), stat_version_token(status)
        known = None if written_just_now(status, self._clock()) else self.get(name, version_token)
        if known is not None:
            return known
        value = compute()
        if file_version_token(file) == version_token and not written_just_now(status, self._clock()):
            self.put(name, version_token, value)
        return value

    def get(self, name: str, version_token: str) -> str | None:
        """Return the value cached for ``name`` with this version token; None when there is none."""
        query = "SELECT sha256 FROM content_hashes WHERE path = ? AND version_token = ?"
        rows = self._execute(query, name, version_token)
        return str(rows[0][0]) if rows else None

    def put(self, name: str, version_token: str, value: str) -> None:
        """Cache ``value`` for ``name`` while its version token is this one."""
        self._execute("INSERT OR REPLACE INTO content_hashes VALUES (?, ?, ?)", name, version_token, value)

    def _execute(self, statement: str, *values: str) -> list[tuple[str]]:
        try:
            with _connections.open(self.path) as connection:
                return connection.execute(statement, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            _connections.close(self.path)
            logger.warning("hash cache %s cannot be used (%s); files are hashed again", self.path, error)
            return []


def written_just_now(found: os.stat_result, now_ns: int | None = None) -> bool:
    """Return whether a file was touched so recently that a second write may leave its times as they are."""
    now = time.time_ns() if now_ns is None else now_ns
    return now - max(found.st_mtime_ns, found.st_ctime_ns) < RACY_NS


class _Connections(threading.local):
    """The connections of this thread. Each is kept while its file is the same and the process did not fork."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], sqlite3.Connection]] = {}

    def open(self, path: Path) -> sqlite3.Connection:
        known = self._known.get(path)
        if known is not None and known[0] == _identity(path):
            return known[1]
        self.close(path)
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

    def close(self, path: Path) -> None:
        known = self._known.pop(path, None)
        if known is not None and known[0][0] == os.getpid():
            known[1].close()


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return process, device and inode of an open database; None when the file is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return os.getpid(), status.st_dev, status.st_ino


_connections = _Connections()
