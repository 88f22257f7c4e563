"""The lake: Parquet artifacts with a manifest beside each, under one root folder.

``bars/ES/ESH25.parquet`` is described by ``bars/ES/ESH25.json``. The manifest names the hashes of the
inputs, of the configuration and of the code; when all of them are unchanged and the file's own hash
still matches, the artifact is fresh and is not made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.atomic import replacing, write_json
from vpoc_ml.lake.hashing import hash_file

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """What an artifact is made of: hashes of its inputs by name, of the configuration and of the code."""

    inputs: Mapping[str, str]
    config: str
    code: str


@dataclass(frozen=True)
class Manifest:
    """Description of one artifact. ``details`` is the making stage's own small result."""

    key: str
    rows: int
    first_ts: str | None
    last_ts: str | None
    sha256: str
    inputs: dict[str, str]
    config: str
    code: str
    details: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


class Lake:
    """Artifacts below ``root``, a local folder that is made when first written to."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, key: str) -> Path:
        """Return the path of ``key``, such as ``bars/ES/ESH25.parquet``."""
        return self.root / key

    def manifest(self, key: str) -> Manifest | None:
        """Return the manifest of ``key``, or None when there is none of the current schema that can be read."""
        path = self._manifest_path(key)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text())
            return Manifest(**content) if content["schema_version"] == SCHEMA_VERSION else None
        except (ValueError, TypeError, KeyError):
            return None

    def fresh(self, key: str, recipe: Recipe) -> Manifest | None:
        """Return the manifest of ``key`` if it was made by ``recipe`` and its file is whole, else None."""
        return None if self.why(key, recipe) else self.manifest(key)

    def why(self, key: str, recipe: Recipe) -> str | None:
        """Return in words why ``key`` has to be made again by ``recipe``; None when it is fresh.

        "new", "inputs changed: raw, vix", "config changed", "code changed" (joined by "; " where several hold) or
        "damaged: " with what is wrong with the stored file.
        """
        manifest, there = self.manifest(key), self.path(key).is_file()
        if manifest is None:
            return "damaged: its manifest is missing or cannot be read" if there else "new"
        if not there:
            return "damaged: its file is missing"
        changed = _changes(manifest, recipe)
        if changed:
            return "; ".join(changed)
        whole = hash_file(self.path(key)) == manifest.sha256
        return None if whole else "damaged: content does not match its manifest"

    def write_frame(
        self, key: str, frame: pl.DataFrame, recipe: Recipe, details: Mapping[str, Any] | None = None
    ) -> Manifest:
        """Write ``frame`` atomically to ``key``, then its manifest, and return the manifest.

        A kill between the two leaves a file whose hash its manifest does not know, so it is made again.
        """
        with replacing(self.path(key)) as temporary:
            frame.write_parquet(temporary, compression="zstd", compression_level=3, statistics=True)
            sha256 = hash_file(temporary)
        first, last = _span(frame)
        manifest = Manifest(
            key=key,
            rows=frame.height,
            first_ts=first,
            last_ts=last,
            sha256=sha256,
            inputs=dict(recipe.inputs),
            config=recipe.config,
            code=recipe.code,
            details=dict(details or {}),
        )
        write_json(self._manifest_path(key), asdict(manifest))
        return manifest

    def read_frame(self, key: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the frame stored at ``key``.

        Raises:
            ArtifactError: there is no such artifact, or its content is not what its manifest says.
        """
        manifest, path = self.manifest(key), self.path(key)
        if manifest is None or not path.is_file():
            raise ArtifactError(path, "an artifact with its manifest", "none")
        found = hash_file(path)
        if found != manifest.sha256:
            raise ArtifactError(path, f"content with SHA-256 {manifest.sha256[:16]}", found[:16])
        return pl.read_parquet(path, columns=list(columns) if columns else None)

    def described(self, key: str) -> Manifest:
        """Return the manifest of ``key``.

        Raises:
            ArtifactError: there is no such artifact.
        """
        manifest = self.manifest(key)
        if manifest is None:
            raise ArtifactError(self.path(key), "an artifact with its manifest", "none")
        return manifest

    def sha(self, key: str) -> str:
        """Return the content hash of ``key`` as its manifest states it.

        Raises:
            ArtifactError: there is no such artifact.
        """
        return self.described(key).sha256

    @contextmanager
    def writing(self, name: str, *, wait_seconds: float = 600.0) -> Iterator[None]:
        """Hold the writer's lock of ``name`` (a contract): two writers of one contract never interleave.

        Raises:
            ArtifactError: another writer still holds the lock after ``wait_seconds``.
        """
        path = self.root / ".locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=wait_seconds)
        except Timeout as error:
            raise ArtifactError(path, "no other writer of " + name, f"one since {wait_seconds:.0f} s") from error
        try:
            yield
        finally:
            lock.release()

    def _manifest_path(self, key: str) -> Path:
        return self.path(key).with_suffix(".json")


def relative_to_cwd(path: Path) -> str:
    """Return ``path`` as a person would type it from the current folder, when that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _changes(manifest: Manifest, recipe: Recipe) -> list[str]:
    """Return in words what differs between what the artifact was made of and ``recipe``."""
    was, now = manifest.inputs, dict(recipe.inputs)
    inputs = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    changed = [f"inputs changed: {', '.join(inputs)}"] if inputs else []
    changed += ["config changed"] if manifest.config != recipe.config else []
    return changed + (["code changed"] if manifest.code != recipe.code else [])


def _span(frame: pl.DataFrame) -> tuple[str | None, str | None]:
    if "ts" not in frame.columns or frame.is_empty():
        return None, None
    first, last = frame["ts"].min(), frame["ts"].max()
    return (str(first) if first is None else first.isoformat(), str(last) if last is None else last.isoformat())  # type: ignore[union-attr]
