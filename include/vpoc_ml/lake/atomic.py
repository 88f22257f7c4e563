"""Atomic file writes: a reader finds the old file or the new one, never a part of one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vpoc_ml.errors import ArtifactError, StorageError

FULL = ("room for the file", "Free space there, or move the lake to a larger disk.")
READ_ONLY = ("a lake that can be written to", "Mount it writable, or name another lake with --lake or VPOC_LAKE.")
FOREIGN = ("permission to write", "Give this user the folder, or name another lake with --lake or VPOC_LAKE.")
NO_FOLDER = ("a folder that can be made", "Name another folder; of the lake, with --lake or VPOC_LAKE.")
REFUSALS = {
    errno.ENOSPC: (*FULL, "no space left on the disk"),
    errno.EDQUOT: (*FULL, "the quota of this user used up"),
    errno.EFBIG: (*FULL, "a limit on the size of files reached"),
    errno.EROFS: (*READ_ONLY, "a read-only file system"),
    errno.EACCES: (*FOREIGN, "access denied"),
    errno.EPERM: (*FOREIGN, "the operation not permitted"),
    errno.ENOTDIR: (*NO_FOLDER, "a file in its path"),
    errno.EEXIST: (*NO_FOLDER, "a file in its place"),
    errno.ENAMETOOLONG: (*NO_FOLDER, "too long a name"),
}
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # polars gives the number only in the text of its error


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the file system's error about a write to ``path`` into a StorageError that names a remedy.

    Raises:
        StorageError: the disk is full, the file system is read-only, or the user may not write to the folder.
    """
    try:
        yield
    except Exception as error:
        import polars as pl  # only now: the API server and `vpoc-ml --help` do without

        if not isinstance(error, OSError | pl.exceptions.PolarsError):
            raise
        number = getattr(error, "errno", None)
        if number is None and (stated := _SYSTEM_ERROR.search(str(error))):
            number = int(stated[1])
        if number not in REFUSALS:
            raise
        expected, remedy, found = REFUSALS[number]
        raise StorageError(path, expected, found, remedy) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it to ``path``.

    When the block raises, the temporary file is removed and ``path`` keeps its content. The next writer removes what a
    killed one left in the folder: the system releases a lock when its process ends.

    Raises:
        StorageError: the file system refuses the write.
    """
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        handle, temporary = _locked_temporary(path)
        try:
            yield temporary
            temporary.chmod(0o644)
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """Return a new locked file beside ``path``: the descriptor that holds the lock, and the path."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        if try_lock(handle) and os.path.exists(name):
            return handle, Path(name)
        os.close(handle)  # another process took it for an abandoned file and removes it


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files in ``folder`` whose writers have ended."""
    with os.scandir(folder) as entries:
        names = [entry.path for entry in entries if entry.name.startswith(".") and entry.name.endswith(".tmp")]
    for name in names:
        with suppress(FileNotFoundError):
            handle = os.open(name, os.O_RDWR)
            try:
                if try_lock(handle):
                    os.unlink(name)
            finally:
                os.close(handle)


def try_lock(handle: int) -> bool:
    """Lock an open file; return False when another process holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically as indented, strict JSON (NaN and Infinity are rejected)."""
    write_bytes(path, json_bytes(value))


def read_json(path: Path) -> Any:
    """Return the JSON value of a file.

    Raises:
        ArtifactError: there is no such file, or its content is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(path, "a file of JSON", "none") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(path, "JSON", f"something else ({error})") from error


def json_bytes(value: Any) -> bytes:
    """Return ``value`` as indented, strict JSON in UTF-8.

    Raises:
        ValueError: there is a NaN or an infinity in it.
    """
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
