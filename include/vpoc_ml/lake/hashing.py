"""Content hashes: of files, of frames, and of the code that makes an artifact."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import polars as pl

PACKAGE = Path(__file__).resolve().parents[1]


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_frame(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of a frame's schema and values, however the frame lies in memory."""
    digest = hashlib.sha256(str(frame.schema).encode())
    for column in frame.iter_columns():
        digest.update(column.is_null().to_numpy().tobytes())
        values = column.to_physical()
        if values.dtype == pl.String:
            digest.update("\x00".join(values.fill_null("").to_list()).encode())
        else:
            digest.update(values.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


@lru_cache
def hash_code(*layers: str) -> str:
    """Return 16 hex digits over the sources of the named layers of the package.

    An artifact is made again when the code of the layers that make it has changed.
    """
    digest = hashlib.sha256()
    for layer in layers:
        for source in sorted((PACKAGE / layer).rglob("*")):
            if source.suffix in (".py", ".toml"):
                digest.update(source.relative_to(PACKAGE).as_posix().encode())
                digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
