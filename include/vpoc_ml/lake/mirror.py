"""Local working copies of what lies in an object store: single artifacts by content, folders by name.

``Copies`` keeps artifacts under their SHA-256: a copy is verified once when it arrives and is right for
every lake. ``Mirror`` keeps folders in which stages and libraries work with plain files (a run's folder,
the reports): pulled before the work, pushed after it, only what changed in either direction.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from vpoc_ml import environment
from vpoc_ml.lake.atomic import replacing, write_json
from vpoc_ml.lake.hash_cache import HashCache
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.storage import LocalStorage, ObjectStorage, file_version_token

GIGABYTE = 2**30
IN_USE_SECONDS, MARK_SECONDS = 24 * 3600, 3600


def cache_folder() -> Path:
    """Return where this machine keeps its copies: ``VPOC_CACHE``, else ``~/.cache/vpoc_ml``."""
    return Path(environment.read(environment.CACHE) or Path.home() / ".cache" / "vpoc_ml").expanduser().absolute()


class Copies:
    """Verified local copies by SHA-256, at most ``limit`` bytes of them; those used today stay in any case."""

    def __init__(self, folder: Path, *, limit: int | None = None) -> None:
        self.folder = folder
        self.limit = limit or int(float(environment.read(environment.CACHE_GB) or 20) * GIGABYTE)
        self._hashes = HashCache(folder.parent / "hashes.sqlite")

    def path(self, sha256: str, suffix: str) -> Path:
        """Return where the copy of a content lies, or would lie."""
        return self.folder / sha256[:2] / f"{sha256}{suffix}"

    def get(self, sha256: str, suffix: str, download: Callable[[Path], object]) -> Path:
        """Return the copy of the content ``sha256``; ``download`` fills a file with it where there is none.

        Raises:
            ValueError: what was downloaded is another content.
        """
        path = self.path(sha256, suffix)
        if not path.is_file() or self._hashes.hash_file(path) != sha256:
            self._make_room()
            with replacing(path) as temporary:
                download(temporary)
                found = hash_file(temporary)
                if found != sha256:
                    raise ValueError(f"SHA-256 {found[:16]} instead of {sha256[:16]}")
        _mark_used(path)
        return path

    def _make_room(self) -> None:
        """Remove the copies used longest ago until the rest is within the limit."""
        files = [(path, path.stat()) for path in self.folder.glob("*/*") if path.is_file()]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda item: item[1].st_atime):
            if total <= self.limit or time.time() - stat.st_atime < IN_USE_SECONDS:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


def _mark_used(path: Path) -> None:
    """Set the access time, which many file systems do not keep; at most hourly, for it changes the file's stamp."""
    with suppress(FileNotFoundError):
        stat = path.stat()
        if time.time() - stat.st_atime > MARK_SECONDS:
            os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))


class Mirror:
    """Working copies of folders of ``storage`` below ``folder``."""

    def __init__(self, storage: ObjectStorage, folder: Path) -> None:
        self.storage, self.folder = storage, folder

    def pull(self, prefix: str) -> set[str]:
        """Make the local ``prefix`` what the store holds; return its keys.

        A file that was changed here and not pushed, by a process that died, stays unless the store has moved on.
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

    def push(self, prefix: str, ours: set[str]) -> None:
        """Put every file that changed into the store, manifests last; remove there what was dropped here.

        Args:
            prefix: the folder.
            ours: keys that ``pull`` has returned; what is put into the store joins them. Of these alone, those that
                are gone here are removed there, unless another writer has replaced them since.
        """
        with self._index(prefix) as known:
            local = LocalStorage(self.folder).version_tokens(prefix)
            for key in sorted(local, key=lambda key: (key.endswith(".json"), key)):
                if known.get(key, [""])[-1] != local[key]:
                    self.storage.upload(self.folder / key, key)
                    known[key] = [self.storage.version_token(key) or "", local[key]]
                    ours.add(key)
            for key in ours - local.keys():
                if self.storage.version_token(key) == known.get(key, [None])[0]:
                    self.storage.delete(key)
                known.pop(key, None)  # only now: a store that did not answer is asked again by the next push
                ours.discard(key)

    @contextmanager
    def _index(self, prefix: str) -> Iterator[dict[str, list[str]]]:
        """Yield key -> stamps in the store and here when both were last the same, held against other processes."""
        path = self.folder / ".mirror" / f"{prefix.replace('/', '+')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            known: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
            before = dict(known)
            try:
                yield known
            finally:
                if known != before:
                    write_json(path, known)
