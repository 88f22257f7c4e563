"""The lake: Parquet artifacts, each with a manifest, below one root: a local folder or the URL of an object store.

``bars/ES/ESH25.parquet`` is described by ``bars/ES/ESH25.json``. The manifest holds the content hash and the build key:
the hashes of the inputs, of the settings and of the code. An artifact is up to date, and is not rebuilt, while its
build key is the current one and its file still has the content hash.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import JsonValue

from vpoc_ml.artifacts.json_artifact import JsonObject
from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.atomic import json_bytes, replacing
from vpoc_ml.lake.hashing import HashCache, hash_file
from vpoc_ml.lake.locks import Confirm, locks_of
from vpoc_ml.lake.manifest import BuildKey, Manifest, changes, checked, read_manifest, span, with_checksum
from vpoc_ml.lake.mirror import LAKES, ContentCache, Mirror, cache_folder
from vpoc_ml.lake.storage import LocalStorage, open_storage

__all__ = ["BuildKey", "Lake", "Manifest"]

READ_ATTEMPTS, READ_PAUSE_SECONDS = 5, 0.2
CACHED_FRAMES = 8
logger = logging.getLogger(__name__)
T = TypeVar("T")
_FRAMES: dict[str, pl.DataFrame] = {}
"""Small frames by content hash, at most ``CACHED_FRAMES``. An entry is never out of date."""


class Lake:
    """Artifacts below ``root``: a local folder, made when first written to, or a URL such as ``s3://bucket/es``."""

    def __init__(self, root: str | Path) -> None:
        self.storage = open_storage(root)
        self.root: Path | str = self.storage.root
        if isinstance(self.storage, LocalStorage):
            self._mirror = None
            self._hashes = HashCache(self.storage.root / ".cache" / "hashes.sqlite")
        else:
            cache = cache_folder()
            mirrored = cache / LAKES / sha256_of(self.storage.root.encode()).hexdigest()[:16]
            self._mirror = Mirror(self.storage, mirrored)
            self._contents = ContentCache(cache)
            self._hashes = HashCache(cache / "hashes.sqlite")

    @property
    def remote(self) -> bool:
        """Whether the lake lies in an object store."""
        return self._mirror is not None

    def path(self, key: str) -> Path:
        """Return the file of ``key``, such as ``bars/ES/ESH25.parquet``, in a local lake.

        Raises:
            TypeError: the lake lies in an object store; see ``local``.
        """
        if not isinstance(self.storage, LocalStorage):
            raise TypeError(f"expected a local lake, found {self.root}")
        return self.storage.root / key

    def location(self, key: str) -> str:
        """Return the path or the URL of ``key``, for a person or another machine."""
        return self.storage.location(key)

    def manifest(self, key: str) -> Manifest | None:
        """Return the manifest of ``key``; None when there is none of the current schema that can be read."""
        stored = self.storage.read(_manifest_key(key))
        return None if stored is None else _manifest(stored, key)

    def up_to_date(self, key: str, build_key: BuildKey) -> bool:
        """Return whether ``key`` was made with ``build_key`` and its file is undamaged."""
        return self.stale_reason(key, build_key) is None

    def stale_reason(self, key: str, build_key: BuildKey) -> str | None:
        """Return the reason why ``key`` must be rebuilt with ``build_key``; None when it is up to date.

        "new", "inputs changed: raw, vix", "config changed", "code or libraries changed" (joined by "; " where several
        apply) or "damaged: " with what is wrong with the stored file.
        """
        manifest, version_token = self.manifest(key), self.storage.version_token(key)
        if manifest is None:
            return "new" if version_token is None else "damaged: its manifest is missing or cannot be read"
        if version_token is None:
            return "damaged: its file is missing"
        changed = changes(manifest, build_key)
        if changed:
            return "; ".join(changed)
        return None if self._is_intact(manifest, version_token) else "damaged: content does not match its manifest"

    def write_frame(
        self, key: str, frame: pl.DataFrame, build_key: BuildKey, details: JsonObject | None = None
    ) -> Manifest:
        """Write ``frame`` to ``key`` by one atomic write, then its manifest; return the manifest.

        A kill between the two writes leaves a file that does not match its manifest; the artifact is then rebuilt.
        ``details`` is the small result of the stage.
        """
        version_token = None
        if self._mirror is None:
            with replacing(self.path(key)) as temporary:
                sha256 = _write_parquet(frame, temporary)
        else:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, Path(key).name)
                sha256 = _write_parquet(frame, file)
                self.storage.upload(file, key)
                self._contents.get(sha256, file.suffix, lambda target: shutil.copyfile(file, target))
            version_token = self.storage.version_token(key)
        first, last = span(frame)
        manifest = Manifest(
            key=key,
            rows=frame.height,
            first_ts=first,
            last_ts=last,
            sha256=sha256,
            inputs=dict(build_key.inputs),
            config=build_key.config,
            code=build_key.code,
            details=dict(details or {}),
            version_token=version_token,
        )
        self.storage.write(_manifest_key(key), manifest.to_bytes())
        return manifest

    def read_frame(self, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the frame stored at ``key``. The content is hashed at every read, whatever a cache says.

        Raises:
            ArtifactError: there is no such artifact, or its content is not what its manifest says.
        """
        return self.load(key, columns)[0]

    def load(self, key: str, columns: Sequence[str] | None = None) -> tuple[pl.DataFrame, Manifest]:
        """Return the frame stored at ``key`` with the manifest of exactly this content.

        Another writer may replace the artifact meanwhile. An artifact that is computed from the frame takes the hash
        of its input from this manifest.

        Raises:
            ArtifactError: as ``read_frame``.
        """

        def read() -> tuple[pl.DataFrame, Manifest]:
            manifest = self.require_manifest(key)
            content = self._local_file(manifest).read_bytes()  # once: the file may be replaced between two reads
            found = sha256_of(content).hexdigest()
            if found != manifest.sha256:
                raise ArtifactError(self.location(key), f"content with SHA-256 {manifest.sha256[:16]}", found[:16])
            return pl.read_parquet(content, columns=list(columns) if columns else None), manifest

        return self._retry_until_consistent(key, read)

    def read_cached(self, key: str) -> pl.DataFrame:
        """Return the small frame at ``key``. A process reads each content once.

        Raises:
            ArtifactError: as ``read_frame``.
        """
        content = self.content_hash(key)
        frame = _FRAMES.get(content)
        if frame is None:
            frame, manifest = self.load(key)
            while len(_FRAMES) >= CACHED_FRAMES:
                _FRAMES.pop(next(iter(_FRAMES)), None)
            _FRAMES[manifest.sha256] = frame
        return frame

    def cached(self, key: str, what: str, columns: Sequence[str], compute: Callable[[pl.DataFrame], str]) -> str:
        """Return ``compute`` of ``columns`` at ``key``, cached under the name ``what`` while the content is the same.

        Raises:
            ArtifactError: as ``read_frame``.
        """
        name, content = f"{self.location(key)}\n{what}", self.content_hash(key)
        found = self._hashes.get(name, content)
        if found is None:
            frame, manifest = self.load(key, columns)
            found = compute(frame)
            self._hashes.put(name, manifest.sha256, found)
        return found

    def local(self, key: str) -> Path:
        """Return a local file with the content of ``key``: the file itself, or a verified copy of the object.

        Raises:
            ArtifactError: there is no such artifact, or the object is not what its manifest says.
        """
        return self._retry_until_consistent(key, lambda: self._local_file(self.require_manifest(key)))

    def require_manifest(self, key: str) -> Manifest:
        """Return the manifest of ``key``.

        Raises:
            ArtifactError: there is no such artifact.
        """
        manifest = self.manifest(key)
        if manifest is None:
            raise ArtifactError(self.location(key), "an artifact with its manifest", "none")
        return manifest

    def content_hash(self, key: str) -> str:
        """Return the SHA-256 of the file of ``key`` as its manifest states it.

        Raises:
            ArtifactError: there is no such artifact.
        """
        return self.require_manifest(key).sha256

    def fetch(self, key: str, target: Path) -> bool:
        """Copy the file or object at ``key`` to ``target``; return whether there was one."""
        found = self.exists(key)
        if found:
            self.storage.download(key, target)
        return found

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of the artifacts below ``prefix``, sorted. A file without a manifest is not complete yet."""
        found = self.storage.version_tokens(prefix)
        return sorted(key for key in found if key.endswith(".parquet") and _manifest_key(key) in found)

    def names(self, prefix: str, suffix: str = "") -> list[str]:
        """Return the keys of all files below the folder ``prefix`` that end in ``suffix``, sorted."""
        return sorted(key for key in self.storage.version_tokens(prefix) if key.endswith(suffix))

    def exists(self, key: str) -> bool:
        """Return whether there is a file or object at ``key``."""
        return self.storage.version_token(key) is not None

    def read_text(self, key: str) -> str | None:
        """Return the text at ``key``; None when there is none."""
        stored = self.storage.read(key)
        return None if stored is None else stored.decode()

    def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the content of each of ``keys`` that exists; from an object store 16 at a time."""
        if self._mirror is None:
            found = [self.storage.read(key) for key in keys]
        else:
            with ThreadPoolExecutor(16) as pool:
                found = list(pool.map(self.storage.read, keys))
        return {key: content for key, content in zip(keys, found, strict=True) if content is not None}

    def write_text(self, key: str, text: str) -> None:
        """Write ``text`` to ``key`` as UTF-8 by one atomic write."""
        self.storage.write(key, text.encode())

    def read_json(self, key: str) -> Any:
        """Return the JSON value at ``key``; None when there is none.

        Raises:
            ArtifactError: the content is not JSON.
        """
        stored = self.storage.read(key)
        try:
            return None if stored is None else json.loads(stored)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(self.location(key), "JSON", f"something else ({error})") from error

    def write_json(self, key: str, value: Any) -> None:
        """Write ``value`` to ``key`` as strict JSON by one atomic write."""
        self.storage.write(key, json_bytes(value))

    def read_checksummed_json(self, key: str) -> dict[str, JsonValue] | None:
        """Return the object that ``write_checksummed_json`` wrote to ``key``; None when it is absent or damaged."""
        stored = self.storage.read(key)
        try:
            return None if stored is None else checked(stored)
        except (ValueError, RecursionError) as error:
            logger.warning("%s is damaged (%s) and is rebuilt", self.location(key), error)
            return None

    def write_checksummed_json(self, key: str, value: JsonObject) -> None:
        """Write ``value``, which can be rebuilt, to ``key`` as JSON with a checksum by one atomic write."""
        self.storage.write(key, with_checksum(value))

    def hash_file(self, path: Path) -> str:
        """Return the SHA-256 of a local file. A file that cannot have changed is not read again."""
        return self._hashes.hash_file(path)

    def cached_for_file(self, path: Path, what: str, compute: Callable[[], str]) -> str:
        """Return ``compute()``, a fact named ``what`` about a local file, cached while the file cannot have changed."""
        return self._hashes.cached_for_file(path, what, compute)

    def folder(self, prefix: str) -> Path:
        """Return the local folder of ``prefix``: the lake's own, or this machine's mirror of it (see ``mirrored``)."""
        return self._mirror.folder / prefix if self._mirror else self.path(prefix)

    @contextmanager
    def mirrored(self, *prefixes: str, confirm: Confirm = lambda: None) -> Iterator[Callable[[], None]]:
        """Use ``folder(prefix)`` as plain files: they are pulled from the store first, changes are pushed at the end.

        The push happens after an error too. Yields a function that pushes the changes made so far. In a local lake
        there is nothing to pull or push.

        Args:
            prefixes: the folders.
            confirm: called before each push, which its error prevents; see ``writing``.
        """
        if self._mirror is None:
            yield lambda: None
            return
        mirror = self._mirror
        pulled: dict[str, set[str]] = {}

        def push() -> None:
            confirm()
            for prefix, keys in pulled.items():
                mirror.push(prefix, keys)

        with ExitStack() as stack:
            for prefix in prefixes:
                stack.enter_context(mirror.in_use(prefix))
            self._contents.make_room()
            pulled |= {prefix: mirror.pull(prefix) for prefix in prefixes}
            stack.callback(push)
            yield push

    def uri(self, path: Path) -> str:
        """Return the location in the lake of a file below ``folder(...)``."""
        if self._mirror is None or not path.is_relative_to(self._mirror.folder):
            return str(path)
        return self.location(path.relative_to(self._mirror.folder).as_posix())

    @contextmanager
    def writing(self, name: str, *, wait_seconds: float = 600.0) -> Iterator[Confirm]:
        """Hold the writer's lock ``name`` (a contract): two writers of one contract never interleave.

        Yields a function that does nothing, or raises LockLostError when another writer has taken the lock over.

        Raises:
            WriterBusyError: another writer still holds the lock after ``wait_seconds``.
            ConfigError: the store has no conditional writes and ``VPOC_LOCKS`` names no shared folder.
        """
        with locks_of(self.storage).held(name, wait_seconds) as confirm:
            yield confirm

    def _local_file(self, manifest: Manifest) -> Path:
        """Return a local file of an artifact; in a local lake its content is not checked."""
        key, suffix = manifest.key, Path(manifest.key).suffix
        try:
            if self._mirror is not None:
                return self._contents.get(manifest.sha256, suffix, lambda target: self.storage.download(key, target))
            if self.path(key).is_file():
                return self.path(key)
        except ValueError as error:
            raise ArtifactError(self.location(key), "the content its manifest names", str(error)) from error
        except FileNotFoundError as error:
            raise ArtifactError(self.location(key), "an artifact with its manifest", "none") from error
        raise ArtifactError(self.location(key), "an artifact with its manifest", "none")

    def _is_intact(self, manifest: Manifest, version_token: str) -> bool:
        """Return whether the file with this version token has the content that its manifest names."""
        if self._mirror is None:
            return self._hashes.hash_file(self.path(manifest.key)) == manifest.sha256
        if version_token == manifest.version_token:
            return True
        location = self.location(manifest.key)
        found = self._hashes.get(location, version_token)
        if found is None:  # not written by this lake: for example the copy of another one
            with tempfile.TemporaryDirectory() as folder:
                self.storage.download(manifest.key, Path(folder, "object"))
                found = hash_file(Path(folder, "object"))
            self._hashes.put(location, version_token, found)
        return found == manifest.sha256

    def _retry_until_consistent(self, key: str, read: Callable[[], T]) -> T:
        """Return ``read()``; read again while file and manifest disagree, as they do between a writer's two writes."""
        for left in reversed(range(READ_ATTEMPTS)):
            try:
                return read()
            except ArtifactError:
                if not left or self.manifest(key) is None:
                    raise
                time.sleep(READ_PAUSE_SECONDS)
        raise AssertionError("unreachable")


def _manifest_key(key: str) -> str:
    return key.rsplit(".", 1)[0] + ".json"


@lru_cache(maxsize=1024)
def _manifest(stored: bytes, key: str) -> Manifest | None:
    """Return the manifest in ``stored``. Equal bytes give the same object, which must not be changed."""
    return read_manifest(stored, key)


def _write_parquet(frame: pl.DataFrame, path: Path) -> str:
    """Write the frame to a file; return the SHA-256 of the file."""
    frame.write_parquet(path, compression="zstd", compression_level=3, statistics=True)
    return hash_file(path)
