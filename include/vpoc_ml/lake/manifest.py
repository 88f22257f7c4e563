"""What describes an artifact: the recipe it is to be made by, the manifest of how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from vpoc_ml.lake.atomic import json_bytes

SCHEMA_VERSION = 1
CHECKSUM = "checksum"


@dataclass(frozen=True)
class Recipe:
    """What an artifact is made of: hashes of its inputs by name, of the configuration and of the code."""

    inputs: Mapping[str, str]
    config: str
    code: str


@dataclass(frozen=True)
class Manifest:
    """Description of one artifact. ``details`` is the making stage's own small result.

    ``stamp`` is the version mark an object store gave the file: while it stands, the content is known.
    """

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
    stamp: str | None = None

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON with ``checksum``, the SHA-256 of everything else in it."""
        content = json.loads(json_bytes(asdict(self)))  # keys as a reader will see them
        return json_bytes({**content, CHECKSUM: _checksum(content)})


def read_manifest(stored: bytes, key: str) -> Manifest | None:
    """Return the manifest of ``key`` that bytes hold; None when it is damaged, another's, or of another schema.

    A manifest of an earlier version has no checksum: its key and its fields are checked all the same.
    """
    try:
        content = json.loads(stored)
        checksum = content.pop(CHECKSUM, None)
        manifest = Manifest(**content)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    whole = checksum is None or checksum == _checksum(content)
    return manifest if whole and manifest.schema_version == SCHEMA_VERSION and manifest.key == key else None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def changes(manifest: Manifest, recipe: Recipe) -> list[str]:
    """Return in words what differs between what the artifact was made of and ``recipe``."""
    was, now = manifest.inputs, dict(recipe.inputs)
    inputs = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    changed = [f"inputs changed: {', '.join(inputs)}"] if inputs else []
    changed += ["config changed"] if manifest.config != recipe.config else []
    return changed + (["code changed"] if manifest.code != recipe.code else [])


def span(frame: pl.DataFrame) -> tuple[str | None, str | None]:
    """Return the first and the last ``ts`` of a frame as ISO 8601; None where there is none."""
    if "ts" not in frame.columns or frame.is_empty():
        return None, None
    first, last = frame["ts"].min(), frame["ts"].max()
    return (str(first) if first is None else first.isoformat(), str(last) if last is None else last.isoformat())  # type: ignore[union-attr]
