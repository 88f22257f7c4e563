"""The lake: Parquet artifacts with a manifest beside each, under one root: a local folder or an fsspec URL.

``bars/ES/ESH25.parquet`` is described by ``bars/ES/ESH25.json``. The manifest names the hashes of the
inputs, of the configuration and of the code; when all of them are unchanged and the file's own hash
still matches, the artifact is fresh and is not made again.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.atomic import json_bytes, replacing
from vpoc_ml.lake.hash_cache import HashCache
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.locks import locks_of
from vpoc_ml.lake.manifest import BuildKey, Manifest, changes, checked, read_manifest, span, with_checksum
from vpoc_ml.lake.mirror import Copies, Mirror, cache_folder
from vpoc_ml.lake.storage import LocalStorage, open_storage

__all__ = ["BuildKey", "Lake", "Manifest"]

SETTLE_TRIES, SETTLE_SECONDS = 5, 0.2
KEPT_FRAMES = 8
logger = logging.getLogger(__name__)
T = TypeVar("T")
_KEPT: dict[str, pl.DataFrame] = {}  # by content hash: what is kept is never out of date


class Lake:
    """Artifacts below ``root``: a local folder, made when first written to, or a URL such as ``s3://bucket/es``."""

    def __init__(self, root: str | Path) -> None:
        self.storage = storage_at(root)
        self.root: Path = self.storage.root
        if isinstance(self.storage, Folder):
            self._mirror = None
            self._hashes = HashCache(self.root / ".cache" / "hashes.sqlite")
        else:
            cache = cache_folder()
            own = cache / "lakes" / sha256_of(str(self.root).encode()).hexdigest()[:16]
            self._mirror = Mirror(self.storage, own)
            self._copies = Copies(cache / "objects")
            self._hashes = HashCache(cache / "hashes.sqlite")

    @property
    def remote(self) -> bool:
        """Whether the lake lies in an object store."""
        return self._mirror is not None

    def path(self, key: str) -> Path:
        """Return where ``key`` is, such as ``bars/ES/ESH25.parquet``: a Path, or a UPath, which reads like one."""
        return self.root / key

    def manifest(self, key: str) -> Manifest | None:
        """Return the manifest of ``key``, or None when there is none of the current schema that can be read."""
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
        return None if self._whole(manifest, version_token) else "damaged: content does not match its manifest"

    def write_frame(
        self, key: str, frame: pl.DataFrame, build_key: BuildKey, details: Mapping[str, Any] | None = None
    ) -> Manifest:
        """Write ``frame`` to ``key``, all or nothing, then its manifest, and return the manifest.

        A kill between the two leaves a file whose hash its manifest does not know, so it is made again.
        """
        sha256, version_token = self._put_frame(key, frame)
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
        """Return the frame stored at ``key``; what is read is always hashed, whatever is remembered about it.

        Raises:
            ArtifactError: there is no such artifact, or its content is not what its manifest says.
        """
        return self.load(key, columns)[0]

    def load(self, key: str, columns: Sequence[str] | None = None) -> tuple[pl.DataFrame, Manifest]:
        """Return the frame stored at ``key`` with the manifest of exactly this content.

        What is made of a frame that another writer may replace takes the hash of its input from this manifest.

        Raises:
            ArtifactError: as ``read_frame``.
        """

        def read() -> tuple[pl.DataFrame, Manifest]:
            manifest = self.require_manifest(key)
            content = self._local(manifest).read_bytes()  # once: the file may be replaced between two looks at it
            found = sha256_of(content).hexdigest()
            if found != manifest.sha256:
                raise ArtifactError(self.path(key), f"content with SHA-256 {manifest.sha256[:16]}", found[:16])
            return pl.read_parquet(content, columns=list(columns) if columns else None), manifest

        return self._retry_until_consistent(key, read)

    def read_cached(self, key: str) -> pl.DataFrame:
        """Return the small frame at ``key``, read once a process for each content its manifest names.

        Raises:
            ArtifactError: as ``read_frame``.
        """
        content = self.content_hash(key)
        frame = _KEPT.get(content)
        if frame is None:
            frame, manifest = self.load(key)
            while len(_KEPT) >= KEPT_FRAMES:
                _KEPT.pop(next(iter(_KEPT)), None)
            _KEPT[manifest.sha256] = frame
        return frame

    def cached(self, key: str, what: str, columns: Sequence[str], work: Callable[[pl.DataFrame], str]) -> str:
        """Return what ``work`` makes of ``columns`` at ``key``, remembered for as long as the content is the same.

        Raises:
            ArtifactError: as ``read_frame``.
        """
        name, content = f"{self.path(key)}\n{what}", self.content_hash(key)
        found = self._hashes.recall(name, content)
        if found is None:
            frame, manifest = self.load(key, columns)
            found = work(frame)
            self._hashes.remember(name, manifest.sha256, found)
        return found

    def local(self, key: str) -> Path:
        """Return a local file with the content of ``key``: the file itself, or a verified copy of the object.

        Raises:
            ArtifactError: there is no such artifact, or the object is not what its manifest says.
        """
        return self._retry_until_consistent(key, lambda: self._local(self.require_manifest(key)))

    def require_manifest(self, key: str) -> Manifest:
        """Return the manifest of ``key``.

        Raises:
            ArtifactError: there is no such artifact.
        """
        manifest = self.manifest(key)
        if manifest is None:
            raise ArtifactError(self.path(key), "an artifact with its manifest", "none")
        return manifest

    def content_hash(self, key: str) -> str:
        """Return the content hash of ``key`` as its manifest states it.

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
        """Return the keys of the artifacts below ``prefix``, sorted; a file without its manifest is not there yet."""
        found = self.storage.version_tokens(prefix)
        return sorted(key for key in found if key.endswith(".parquet") and _manifest_key(key) in found)

    def names(self, prefix: str, suffix: str = "") -> list[str]:
        """Return the keys of all files below the folder ``prefix`` that end in ``suffix``, sorted."""
        return sorted(key for key in self.storage.version_tokens(prefix) if key.endswith(suffix))

    def read_json(self, key: str) -> Any:
        """Return the JSON value at ``key``; None when there is none.

        Raises:
            ArtifactError: what is there is not JSON.
        """
        stored = self.storage.read(key)
        try:
            return None if stored is None else json.loads(stored)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(self.path(key), "JSON", f"something else ({error})") from error

    def read_checksummed_json(self, key: str) -> dict[str, Any] | None:
        """Return what ``write_known_json`` put at ``key``; None when there is nothing, or it is damaged."""
        stored = self.storage.read(key)
        try:
            return None if stored is None else checked(stored)
        except (ValueError, RecursionError) as error:
            logger.warning("%s is damaged (%s) and made again", self.path(key), error)
            return None

    def read_text(self, key: str) -> str | None:
        """Return the text at ``key``; None when there is none."""
        stored = self.storage.read(key)
        return None if stored is None else stored.decode()

    def write_text(self, key: str, text: str) -> None:
        """Put ``text`` at ``key`` as UTF-8, all or nothing."""
        self.storage.write(key, text.encode())

    def write_json(self, key: str, value: Any) -> None:
        """Put ``value`` at ``key`` as strict JSON, all or nothing."""
        self.storage.write(key, json_bytes(value))

    def write_checksummed_json(self, key: str, value: Mapping[str, Any]) -> None:
        """Put ``value``, which can be made again, at ``key`` as JSON with a checksum, all or nothing."""
        self.storage.write(key, with_checksum(value))

    def exists(self, key: str) -> bool:
        """Return whether there is a file or object at ``key``."""
        return self.storage.version_token(key) is not None

    def hash_file(self, path: Path) -> str:
        """Return the SHA-256 of a local file, remembered while the file cannot have changed."""
        return self._hashes.hash_file(path)

    def cached_for_file(self, path: Path, what: str, work: Callable[[], str]) -> str:
        """Return what ``work`` tells about ``what`` of a local file, remembered while the file cannot have changed."""
        return self._hashes.cached_for_file(path, what, work)

    def folder(self, prefix: str) -> Path:
        """Return the local folder of ``prefix``: the lake's own, or this machine's mirror of it (see ``mirrored``)."""
        return (self._mirror.folder if self._mirror else self.root) / prefix

    @contextmanager
    def mirrored(self, *prefixes: str) -> Iterator[Callable[[], None]]:
        """Work with ``folder(prefix)`` as plain files: pulled from the store before, pushed to it after, always.

        Yields a function that pushes what there is already. A local lake has nothing to do.
        """
        if self._mirror is None:
            yield lambda: None
            return
        mirror = self._mirror
        pulled = {prefix: mirror.pull(prefix) for prefix in prefixes}

        def push() -> None:
            for prefix, keys in pulled.items():
                mirror.push(prefix, keys)

        with ExitStack() as stack:
            stack.callback(push)
            yield push

    def uri(self, path: Path) -> str:
        """Return where a file of ``folder(...)`` is in the lake, for a person or another machine."""
        if self._mirror is None or not path.is_relative_to(self._mirror.folder):
            return str(path)
        return str(self.path(path.relative_to(self._mirror.folder).as_posix()))

    @contextmanager
    def writing(self, name: str, *, wait_seconds: float = 600.0) -> Iterator[None]:
        """Hold the writer's lock of ``name`` (a contract): two writers of one contract never interleave.

        Raises:
            WriterBusyError: another writer still holds the lock after ``wait_seconds``.
            ConfigError: the lake's store cannot lock and ``VPOC_LOCKS`` names no shared folder.
        """
        with locks_of(self.storage).held(name, wait_seconds):
            yield

    def _put_frame(self, key: str, frame: pl.DataFrame) -> tuple[str, str | None]:
        """Store the frame and return its hash and, in an object store, its stamp."""
        if self._mirror is None:
            with replacing(self.path(key)) as temporary:
                return _write_parquet(frame, temporary), None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, Path(key).name)
            sha256 = _write_parquet(frame, file)
            self.storage.upload(file, key)
            self._copies.get(sha256, file.suffix, lambda target: shutil.copyfile(file, target))
        return sha256, self.storage.version_token(key)

    def _local(self, manifest: Manifest) -> Path:
        key = manifest.key
        if self._mirror is None:
            path = self.path(key)
            if not path.is_file():
                raise ArtifactError(path, "an artifact with its manifest", "none")
            return path
        try:
            return self._copies.get(
                manifest.sha256, Path(key).suffix, lambda target: self.storage.download(key, target)
            )
        except FileNotFoundError as error:
            raise ArtifactError(self.path(key), "an artifact with its manifest", "none") from error
        except ValueError as error:
            raise ArtifactError(self.path(key), "the content its manifest names", str(error)) from error

    def _whole(self, manifest: Manifest, version_token: str) -> bool:
        if self._mirror is None:
            return self._hashes.hash_file(self.path(manifest.key)) == manifest.sha256
        if version_token == manifest.version_token:
            return True
        uri = str(self.path(manifest.key))
        found = self._hashes.recall(uri, version_token)
        if found is None:  # put here by something else than this lake, such as a copy of the whole lake
            with tempfile.TemporaryDirectory() as folder:
                self.storage.download(manifest.key, Path(folder, "object"))
                found = hash_file(Path(folder, "object"))
            self._hashes.remember(uri, version_token, found)
        return found == manifest.sha256

    def _retry_until_consistent(self, key: str, read: Callable[[], T]) -> T:
        """Call ``read``; a file whose manifest is a moment behind, because its writer is at work, is read again."""
        for left in reversed(range(SETTLE_TRIES)):
            try:
                return read()
            except ArtifactError:
                if not left or self.manifest(key) is None:
                    raise
                time.sleep(SETTLE_SECONDS)
        raise AssertionError("unreachable")


def _manifest_key(key: str) -> str:
    return key.rsplit(".", 1)[0] + ".json"


@lru_cache(maxsize=1024)
def _manifest(stored: bytes, key: str) -> Manifest | None:
    """Return the manifest that bytes hold; the same object for the same bytes, not to be changed."""
    return read_manifest(stored, key)


def _write_parquet(frame: pl.DataFrame, path: Path) -> str:
    frame.write_parquet(path, compression="zstd", compression_level=3, statistics=True)
    return hash_file(path)
