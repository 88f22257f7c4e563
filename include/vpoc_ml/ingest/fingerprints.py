"""Content hashes of delivered sources."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.ingest.file_streams import blocks, hash_content, open_unpacked


def hash_source(source: Source) -> str:
    """Return the SHA-256 of a source's content, read in blocks: the file or member, or the symbol's own lines.

    Raises:
        MissingInputError, UnreadableFileError: the file is absent or damaged.
    """
    if source.symbol is None or source.span is None:
        return hash_content(source.path, source.member)
    digest = hashlib.sha256()
    with open_unpacked(source.path, source.member, ratio=math.inf) as stream:
        digest.update(stream.readline(4096))
        for block in blocks(stream, offset=source.span.start, line=source.span.line, stop=source.span.stop):
            lines = pl.Series([block.text]).str.split("\n").explode()
            for text in lines.filter(lines.str.contains(source.symbol, literal=True)):
                digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def combined_hash(sources: Sequence[Source], hash_one: Callable[[Source], str] = hash_source) -> str:
    """Return one SHA-256 over several sources. Content that was delivered twice counts once.

    ``hash_one`` hashes one source; a caller may pass a function that caches the hash of an unchanged file.

    Raises:
        MissingInputError, UnreadableFileError: as ``hash_source``.
    """
    distinct = dict.fromkeys(hash_one(source) for source in sorted(sources, key=lambda each: each.order))
    return hashlib.sha256("\n".join(distinct).encode()).hexdigest()
