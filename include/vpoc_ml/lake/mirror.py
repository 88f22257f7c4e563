"""Local copies of the content of an object store: single artifacts by content, folders by name.

``ContentCache`` keeps artifacts under their SHA-256: a copy is verified once, when it arrives, and serves every lake.
``Mirror`` keeps folders in which stages and libraries work with plain files: the folder of a run, the reports. A mirror
is pulled before the work and pushed after it. Only files that changed are moved.

Both share one limit on the space they take. What was used longest ago is removed first, but nothing that was used
within the last 24 hours, no mirror that a process works in, and none with a file that was not pushed: the work of a
killed process is pushed when its stage runs again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from vpoc_ml import environment
from vpoc_ml.lake.atomic import replacing, try_lock, write_json
from vpoc_ml.lake.hashing import HashCache, hash_file
from vpoc_ml.lake.storage import LocalStorage, ObjectStorage, file_version_token

GIGABYTE = 2**30
IN_USE_SECONDS, ACCESS_TIME_SECONDS = 24 * 3600, 3600
OBJECTS, LAKES = "objects", "lakes"
"""Folders of the copies and of each lake's mirrors in the cache."""
STATE = ".mirror"
"""Folder of the mirrors' indices and locks beside the mirrors of a lake."""


def cache_folder() -> Path:
    """Return the folder of this machine's copies and caches: ``VPOC_CACHE``, else ``~/.cache/vpoc_ml``."""
    return Path(environment.read(environment.CACHE) or Path.home() / ".cache" / "vpoc_ml").expanduser().absolute()


class ContentCache:
    """Verified copies by SHA-256 in the cache ``folder``; they and the mirrors in it take at most ``limit`` bytes.

    ``clock`` returns the time in seconds since 1970.
    """

    def __init__(self, folder: Path, *, limit: int | None = None, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.limit = limit or int(float(environment.read(environment.CACHE_GB) or 20) * GIGABYTE)
        self._hashes, self._clock = HashCache(folder / "hashes.sqlite"), clock

    def get(self, sha256: str, suffix: str, download: Callable[[Path], object]) -> Path:
        """Return the copy of the content ``sha256``; call ``download`` with a file to fill when there is none.

        Raises:
            ValueError: the downloaded content has another hash.
        """
        path = self.folder / OBJECTS / sha256[:2] / f"{sha256}{suffix}"
        if not path.is_file() or self._hashes.hash_file(path) != sha256:
            self.make_room()
            with replacing(path) as temporary:
                download(temporary)
                found = hash_file(temporary)
                if found != sha256:
                    raise ValueError(f"SHA-256 {found[:16]} instead of {sha256[:16]}")
        with suppress(FileNotFoundError):  # many file systems do not keep the access time
            status, now = path.stat(), self._clock()
            if now - status.st_atime > ACCESS_TIME_SECONDS:  # at most hourly: it changes the version token
                os.utime(path, ns=(int(now * 1e9), status.st_mtime_ns))
        return path

    def make_room(self) -> None:
        """Remove the copies and mirrors that were used longest ago until the rest is within the limit."""
        copies = (CachedFile(path, status.st_size, status.st_atime) for path, status in _files(self.folder / OBJECTS))
        kept: list[CachedFile | MirroredFolder] = [*copies, *mirrored_folders(self.folder / LAKES)]
        total = sum(each.size for each in kept)
        for each in sorted(kept, key=lambda each: each.used):
            if total <= self.limit or self._clock() - each.used < IN_USE_SECONDS:
                return
            if each.remove():
                total -= each.size


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A copy: its size in bytes and when it was used last, in seconds since 1970."""

    path: Path
    size: int
    used: float

    def remove(self) -> bool:
        """Remove the copy; return True."""
        self.path.unlink(missing_ok=True)
        return True


@dataclass(frozen=True, slots=True)
class MirroredFolder:
    """A mirror, with everything that is mirrored inside it: a run and its folds are one.

    Attributes:
        root: folder of the mirrors of its lake.
        prefix: the folder in the lake, such as ``runs/night-1``.
        size: bytes.
        used: when it was used or a file in it was written last, in seconds since 1970.
    """

    root: Path
    prefix: str
    size: int
    used: float

    def remove(self) -> bool:
        """Remove the folder unless a process works in it or a file in it is not in the store as it is here.

        Returns:
            Whether it was removed.
        """
        with _use_file(self.root, self.prefix).open("a+") as lock:
            if not try_lock(lock.fileno()):
                return False
            indices = [path for outer, path in _indices(self.root) if outer == self.prefix]
            pushed = {(key, known[1]) for path in indices for key, known in json.loads(path.read_text()).items()}
            if not LocalStorage(self.root).version_tokens(self.prefix).items() <= pushed:
                return False
            if (self.root / self.prefix).exists():
                shutil.rmtree(self.root / self.prefix)
            for path in indices:  # last: a file without its index would be pushed as a new one
                path.unlink()
            return True


def mirrored_folders(lakes: Path) -> Iterator[MirroredFolder]:
    """Yield the mirrors of all lakes below the folder ``lakes``."""
    for root in lakes.glob("*"):
        for prefix in sorted({outer for outer, _ in _indices(root)}):
            files = [status for _, status in _files(root / prefix)]
            times = [status.st_mtime for status in files]
            with suppress(FileNotFoundError):  # of an earlier version
                times.append(_use_file(root, prefix).stat().st_mtime)
            yield MirroredFolder(root, prefix, sum(status.st_size for status in files), max(times, default=0.0))


class Mirror:
    """Working copies of folders of ``storage`` below ``folder``."""

    def __init__(self, storage: ObjectStorage, folder: Path) -> None:
        self.storage, self.folder = storage, folder

    @contextmanager
    def in_use(self, prefix: str) -> Iterator[None]:
        """Keep the local folder ``prefix`` from being removed, as long as the block runs and this process lives."""
        path = _use_file(self.folder, _outer(prefix))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as lock:  # a shared lock on a network's folder needs the right to read
            fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(lock.fileno())
            try:
                yield
            finally:
                os.utime(lock.fileno())

    def pull(self, prefix: str) -> set[str]:
        """Make the local folder ``prefix`` equal to the one in the store; return its keys.

        A file that a killed process changed here and did not push stays, unless the object has changed since.
        """
        with self._index(prefix) as known:
            remote = self.storage.version_tokens(prefix)
            for key, version_token in remote.items():
                path = self.folder / key
                if path.is_file() and known.get(key, [""])[0] == version_token:
                    continue
                with replacing(path) as temporary:
                    self.storage.download(key, temporary)
                known[key] = [version_token, file_version_token(path)]
            for key in known.keys() - remote.keys():
                path = self.folder / key
                if path.is_file() and known[key][1] == file_version_token(path):
                    path.unlink()
                del known[key]
            return set(LocalStorage(self.folder).version_tokens(prefix))

    def push(self, prefix: str, owned: set[str]) -> None:
        """Upload every file that changed, manifests last; remove the objects whose files were removed here.

        Args:
            prefix: the folder.
            owned: the keys that ``pull`` returned; uploaded keys are added to it. Only objects of these keys are
                removed, and only where no other writer has replaced them since.
        """
        with self._index(prefix) as known:
            local = LocalStorage(self.folder).version_tokens(prefix)
            for key in sorted(local, key=lambda key: (key.endswith(".json"), key)):
                if known.get(key, [""])[-1] != local[key]:
                    self.storage.upload(self.folder / key, key)
                    known[key] = [self.storage.version_token(key) or "", local[key]]
                    owned.add(key)
            for key in owned - local.keys():
                if self.storage.version_token(key) == known.get(key, [None])[0]:
                    self.storage.delete(key)
                known.pop(key, None)  # only now: after an error the next push tries again
                owned.discard(key)

    @contextmanager
    def _index(self, prefix: str) -> Iterator[dict[str, list[str]]]:
        """Yield the index of ``prefix`` and lock other processes out.

        It holds, by key, the version tokens in the store and here at the moment when both had the same content.
        """
        path = self.folder / STATE / f"{prefix.replace('/', '+')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            known: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
            before = dict(known)
            try:
                yield known
            finally:
                if known != before:
                    write_json(path, known)


def _outer(prefix: str) -> str:
    """Return the folder that is removed as one and holds ``prefix``: for a fold, the folder of its run."""
    return "/".join(prefix.split("/")[:2])


def _indices(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the indices of a lake's mirrors, each with the folder that is removed as one."""
    for path in (root / STATE).glob("*.json"):
        yield _outer(path.stem.replace("+", "/")), path


def _use_file(root: Path, prefix: str) -> Path:
    """Return the file that is locked, shared, while a process works in a mirror; its time says when that was."""
    return root / STATE / f"{prefix.replace('/', '+')}.use"


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files below a folder, which other processes may change meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                status = os.lstat(os.path.join(parent, name))
                if stat.S_ISREG(status.st_mode):
                    yield Path(parent, name), status
