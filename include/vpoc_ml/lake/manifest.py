"""The description of an artifact: the build key it must have, and the manifest that says how it was built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import polars as pl
from pydantic import JsonValue, ValidationError

from vpoc_ml.artifacts.json_artifact import JsonArtifact, JsonObject
from vpoc_ml.lake.atomic import json_bytes

SCHEMA_VERSION = 1
CHECKSUM = "checksum"
D = TypeVar("D", bound=JsonArtifact)


@dataclass(frozen=True)
class BuildKey:
    """What an artifact is built from: the hash of each input by name, of the settings and of the code."""

    inputs: Mapping[str, str]
    config: str
    code: str


@dataclass(frozen=True)
class Manifest:
    """Description of one artifact. ``details`` is the small result of the stage that built it, see ``details_as``.

    ``version_token`` is the one that an object store gave the file: while it is the same, so is the content.
    """

    key: str
    rows: int
    first_ts: str | None
    last_ts: str | None
    sha256: str
    inputs: dict[str, str]
    config: str
    code: str
    details: dict[str, JsonValue] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    version_token: str | None = None

    def details_as(self, kind: type[D]) -> D | None:
        """Return the details as a model of ``artifacts.manifest_details``; None if they hold something else."""
        try:
            return kind.model_validate(self.details)
        except ValidationError:
            return None

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON with ``checksum``, the SHA-256 of everything else in it."""
        return with_checksum(asdict(self))


def read_manifest(stored: bytes, key: str) -> Manifest | None:
    """Return the manifest in ``stored``; None when it is damaged, of another key or of another schema.

    The first release wrote no checksum; key and fields of its manifests are checked all the same.
    """
    try:
        content: dict[str, Any] = dict(checked(stored))
        if "stamp" in content:  # the name of the field in the earlier release
            content["version_token"] = content.pop("stamp")
        manifest = Manifest(**content)
    except (ValueError, TypeError, RecursionError):
        return None
    return manifest if manifest.schema_version == SCHEMA_VERSION and manifest.key == key else None


def with_checksum(content: JsonObject) -> bytes:
    """Return ``content`` as JSON with ``checksum``, the SHA-256 of everything else in it."""
    read = json.loads(json_bytes(content))  # keys as a reader will see them
    return json_bytes({**read, CHECKSUM: _checksum(read)})


def checked(stored: bytes) -> dict[str, JsonValue]:
    """Return the content that ``with_checksum`` wrote. Content of the first release has no checksum to check.

    Raises:
        ValueError: it is no JSON object, or its checksum is another.
        RecursionError: it is nested too deeply.
    """
    content = json.loads(stored)
    if not isinstance(content, dict):
        raise ValueError("expected a JSON object")
    checksum = content.pop(CHECKSUM, None)
    if checksum not in (None, _checksum(content)):
        raise ValueError(f"expected the content of checksum {str(checksum)[:16]}")
    return content


def _checksum(content: JsonObject) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def changes(manifest: Manifest, build_key: BuildKey) -> list[str]:
    """Return which parts of the stored build key differ from ``build_key``, as text."""
    was, now = manifest.inputs, dict(build_key.inputs)
    inputs = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    changed = [f"inputs changed: {', '.join(inputs)}"] if inputs else []
    changed += ["config changed"] if manifest.config != build_key.config else []
    return changed + (["code or libraries changed"] if manifest.code != build_key.code else [])


def span(frame: pl.DataFrame) -> tuple[str | None, str | None]:
    """Return the first and the last ``ts`` of a frame as ISO 8601; None where there is none."""
    if "ts" not in frame.columns or frame.is_empty():
        return None, None
    first, last = frame["ts"].min(), frame["ts"].max()
    return (str(first) if first is None else first.isoformat(), str(last) if last is None else last.isoformat())  # type: ignore[union-attr]
