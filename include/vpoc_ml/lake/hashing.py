"""Content hashes of files and of frames."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl


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
