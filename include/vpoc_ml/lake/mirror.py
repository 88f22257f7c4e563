"""Local copies of the content of an object store: single artifacts by content, folders by name.

``ContentCache`` keeps artifacts under their SHA-256: a copy is verified once, when it arrives, and serves every lake.
``Mirror`` keeps folders in which stages and libraries work with plain files: the folder of a run, the reports. A mirror
is pulled before the work and pushed after it. Only files that changed are moved.
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
from vpoc_ml.lake.hashing import HashCache, hash_file
from vpoc_ml.lake.storage import LocalStorage, ObjectStorage, file_version_token

GIGABYTE = 2**30
IN_USE_SECONDS, ACCESS_TIME_SECONDS = 24 * 3600, 3600


def cache_folder() -> Path:
    """Return the folder of this machine's copies and caches: ``VPOC_CACHE``, else ``~/.cache/vpoc_ml``."""
    return Path(environment.read(environment.CACHE) or Path.home() / ".cache" / "vpoc_ml").expanduser().absolute()


class ContentCache:
    """Verified local copies by SHA-256, at most ``limit`` bytes of them. Copies that were used today always stay."""

    def __init__(self, folder: Path, *, limit: int | None = None) -> None:
        self.folder = folder
        self.limit = limit or int(float(environment.read(environment.CACHE_GB) or 20) * GIGABYTE)
        self._hashes = HashCache(folder.parent / "hashes.sqlite")

    def get(self, sha256: str, suffix: str, download: Callable[[Path], object]) -> Path:
        """Return the copy of the content ``sha256``; call ``download`` with a file to fill when there is none.

        Raises:
            ValueError: the downloaded content has another hash.
        """
        path = self.folder / sha256[:2] / f"{sha256}{suffix}"
        if not path.is_file() or self._hashes.hash_file(path) != sha256:
            self._make_room()
            with replacing(path) as temporary:
                download(temporary)
                found = hash_file(temporary)
                if found != sha256:
                    raise ValueError(f"SHA-256 {found[:16]} instead of {sha256[:16]}")
        with suppress(FileNotFoundError):  # many file systems do not keep the access time
            status = path.stat()
            if time.time() - status.st_atime > ACCESS_TIME_SECONDS:  # at most hourly: it changes the version token
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        return path

    def _make_room(self) -> None:
        """Remove the copies that were used longest ago until the rest is within the limit."""
        files = [(path, path.stat()) for path in self.folder.glob("*/*") if path.is_file()]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda item: item[1].st_atime):
            if total <= self.limit or time.time() - stat.st_atime < IN_USE_SECONDS:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


class Mirror:
    """Working copies of folders of ``storage`` below ``folder``."""

    def __init__(self, storage: ObjectStorage, folder: Path) -> None:
        self.storage, self.folder = storage, folder

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
