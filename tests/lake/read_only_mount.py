"""A folder as a read-only mount shows it: root writes to a folder whatever its mode says, so a mode is no test."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime", "os.chmod", "os.link", "os.symlink"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_mounted: list[Path] = []


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise what a read-only file system raises, before Python opens a file for writing or changes a folder."""
    if not _mounted or not (event in CHANGES or event in ("open", "os.mkdir")):
        return
    if event == "open" and not arguments[2] & WRITES:
        return
    for path in arguments[: 1 + (event in ("os.rename", "os.link", "os.symlink"))]:
        if isinstance(path, int) or (event == "os.mkdir" and os.path.isdir(path)):  # such a folder exists already
            continue
        if any(Path(os.path.abspath(os.fsdecode(path))).is_relative_to(folder) for folder in _mounted):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(path))


sys.addaudithook(refuse)


@contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Mount ``folders`` read-only for this process. What writes past Python is found by its traces at the end."""
    before = [state(folder) for folder in folders]
    _mounted.extend(folders)
    try:
        yield
    finally:
        _mounted.clear()
    assert [state(folder) for folder in folders] == before


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of the last change of everything in a folder."""
    found = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
    return {path: (status.st_size, status.st_ctime_ns) for path, status in found.items()}
