"""Whether a contract's only file grew at its end since its bars were built, and the bars made of that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from vpoc_ml.artifacts.sources import Source
from vpoc_ml.errors import ArtifactError
from vpoc_ml.ingest.bars import BuiltBars
from vpoc_ml.ingest.detect_append import append_bars, detect_append, source_identity
from vpoc_ml.lake.store import BuildKey, Manifest
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.pipeline.run import Run

FILE = "file"


def plain_size(sources: Sequence[Source]) -> int | None:
    """Return the size in bytes of the only source; None of several, of a part of a file, and of a missing one."""
    if len(sources) != 1 or sources[0].member or sources[0].symbol or not sources[0].path.is_file():
        return None
    return sources[0].path.stat().st_size


def whole_file(sources: Sequence[Source], size: int | None) -> dict[str, Any]:
    """Return the detail of a manifest from which ``appended`` knows the file again.

    Args:
        sources: what the bars were built of.
        size: its ``plain_size`` before it was hashed; a file that grew since gets no detail.
    """
    if size is None or plain_size(sources) != size:
        return {}
    return {FILE: {"size": size, "source": source_identity(sources[0])}}


def appended(
    run: Run,
    contract: str,
    sources: Sequence[Source],
    build_key: BuildKey,
    vix: pl.DataFrame | None,
    covariates: Mapping[str, pl.DataFrame],
) -> BuiltBars | None:
    """Return the bars and the quarantine of the stored ones and the lines that were appended to their file.

    None unless the file is the only thing that changed and its old content is the beginning of the new one.
    ``build_key`` is the current key of the stored bars: with the file's new fingerprint, and the closes published up to
    the last stored bar.
    """
    key, quarantine_key = run.key("bars", contract), run.key("quarantine", contract)
    stored, bad = run.lake.manifest(key), run.lake.manifest(quarantine_key)
    if stored is None or bad is None or len(sources) != 1 or stored.inputs != bad.inputs:
        return None
    known = stored.details.get(FILE)
    if (
        known is None
        or known["source"] != source_identity(sources[0])
        or not _only_raw_changed((stored, bad), build_key)
    ):
        return None
    append = detect_append(sources[0], known["size"])
    if (
        append is None
        or _raw(append.hash_before) != stored.inputs["raw"]
        or _raw(append.hash_now) != build_key.inputs["raw"]
    ):
        return None
    try:
        (bars, made), (quarantine, _) = run.lake.load(key), run.lake.load(quarantine_key)
    except ArtifactError:
        return None
    if made != stored:
        return None
    details = stored.details
    before = BuiltBars(bars, quarantine, details["rows_in"], details["reasons"], details["notes"], details["left_out"])
    return append_bars(before, append, parse_contract(contract), run.instrument, vix, run.config.ingest, covariates)


def _only_raw_changed(stored: tuple[Manifest, ...], build_key: BuildKey) -> bool:
    others = {**build_key.inputs, "raw": ""}
    return all(
        {**each.inputs, "raw": ""} == others and each.config == build_key.config and each.code == build_key.code
        for each in stored
    )


def _raw(fingerprint: str) -> str:
    """Return the combined fingerprint of one source."""
    return hashlib.sha256(fingerprint.encode()).hexdigest()
