"""Stages of one contract: vendor file -> bars -> sessions and developing levels -> features.

Where a contract's only file has grown at its end since its bars were built, ``appended`` reads the new lines only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.artifacts.manifest_details import BarsDetails, WholeFile
from vpoc_ml.artifacts.sources import DeliveredFile, Source
from vpoc_ml.artifacts.stage_results import UNCHANGED, IngestResult, SuccessorResult, WorkResult
from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.build import build_features, build_in_chunks
from vpoc_ml.features.registry import families_of, own_digests
from vpoc_ml.ingest.bars import BuiltBars, build_bars
from vpoc_ml.ingest.detect_append import append_bars, detect_append, source_identity
from vpoc_ml.ingest.merge import combined_hash, hash_source
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.store import BuildKey
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.pipeline.feature_inputs import History, pair_closes, pair_inputs
from vpoc_ml.pipeline.plan_stage import covariate_values, vix_closes
from vpoc_ml.pipeline.run import Run, result_of_manifest, stage
from vpoc_ml.plugins.registered import digests
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

Indices = tuple[pl.DataFrame | None, dict[str, pl.DataFrame]]
"""The VIX closes, None without the VIX, and the values of each covariate by its column."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@stage
def ingest_contract(run: Run, contract: str) -> IngestResult:
    """Build ``bars/`` and ``quarantine/`` of one contract from the vendor files that hold it.

    Skipped when the files' content, the VIX closes published before the last bar, the settings and the code are
    unchanged; ``reason`` says what was not. A run of a past night leaves out what was not known then.

    Raises:
        InputError: a file cannot be read or contradicts another, holds too many bad rows, or the VIX does not
            cover it.
    """
    sources = run.plan().sources[contract]
    vix, others = vix_closes(run), covariate_values(run)
    key, quarantine_key = run.key("bars", contract), run.key("quarantine", contract)

    def fingerprint(source: Source) -> str:  # a file that has not been touched is not read again
        return run.lake.cached_for_file(source.path, source.key, partial(hash_source, source))

    with run.lake.writing(contract):
        before, size = run.lake.manifest(key), plain_size(sources)
        raw = combined_hash(sources, fingerprint)
        read = [(path, run.lake.hash_file(path)) for path in sorted({source.path for source in sources})]
        files = tuple(DeliveredFile(path=str(path), size=path.stat().st_size, sha256=sha256) for path, sha256 in read)

        def build_key_of(last_ts: str | None) -> BuildKey:
            config = f"{run.config.digest('ingest')}/{run.instrument.digest}"
            inputs = {"raw": raw, **_index_hashes((vix, others), last_ts)}
            inputs |= digests("readers", {source.reader for source in sources})
            return BuildKey(inputs, config, code_digest(build_bars, append_bars))

        build_key = build_key_of(before.last_ts if before else None)
        reason = run.lake.stale_reason(key, build_key) or run.lake.stale_reason(quarantine_key, build_key)
        if before and reason is None:
            return result_of_manifest(IngestResult, before, None).model_copy(update={"files": files})
        built = appended(run, contract, sources, build_key, vix, others) if run.as_of is None else None
        given = sources, parse_contract(contract), run.instrument, vix, run.config.ingest, others
        built = built or build_bars(*given, as_of=run.as_of)
        last = built.bars["ts"].max()
        build_key = build_key_of(last.isoformat() if isinstance(last, datetime) else None)
        details = BarsDetails(
            rows_in=built.rows_in,
            quarantined=built.quarantine.height,
            reasons=built.reasons,
            notes=tuple(built.notes),
            left_out=built.left_out,
            sessions=built.bars["session"].n_unique(),
            file=whole_file(sources, size),
        )
        run.lake.write_frame(quarantine_key, built.quarantine, build_key)
        made = run.lake.write_frame(key, built.bars, build_key, details.to_json())
        return result_of_manifest(IngestResult, made, reason or "new").model_copy(update={"files": files})


@stage
def profile_contract(run: Run, contract: str) -> WorkResult:
    """Build ``sessions/`` and ``developing/`` of one contract from its bars."""
    bars_key = run.key("bars", contract)
    sessions_key, developing_key = run.key("sessions", contract), run.key("developing", contract)
    with run.lake.writing(contract):
        inputs = {"bars": run.lake.content_hash(bars_key)}
        config = f"{run.config.digest('profile')}/{run.instrument.digest}"
        build_key = BuildKey(inputs, config, code_digest(build_sessions, build_developing))
        reason = run.lake.stale_reason(developing_key, build_key) or run.lake.stale_reason(sessions_key, build_key)
        if reason is None:
            rows_in, rows_out = (run.lake.require_manifest(each).rows for each in (developing_key, sessions_key))
            return _counted(rows_in, rows_out, reason=None)
        bars = run.lake.read_frame(bars_key)
        sessions = build_sessions(bars, run.instrument, run.config.profile)
        run.lake.write_frame(developing_key, build_developing(bars, run.instrument, run.config.profile), build_key)
        run.lake.write_frame(sessions_key, sessions, build_key)
        return _counted(bars.height, sessions.height, reason=reason)


@stage
def features_contract(run: Run, contract: str) -> WorkResult:
    """Build ``features/`` of one contract from its bars, sessions, developing levels and the VIX closes.

    And from the last front sessions of its predecessors, where the roll table names any: ``build_rolls`` comes before.
    """
    indices = vix_closes(run), covariate_values(run)
    kinds = ("bars", "sessions", "developing")
    key = run.key("features", contract)
    with run.lake.writing(contract):
        bars_manifest = run.lake.require_manifest(run.key("bars", contract))
        history = History(run, contract, run.lake.manifest(key))
        inputs = {kind: run.lake.content_hash(run.key(kind, contract)) for kind in kinds}
        hashes = _index_hashes(indices, bars_manifest.last_ts)
        inputs |= {**hashes, **history.inputs(), **pair_inputs(run, bars_manifest)}
        extras = families_of(run.config.features)
        inputs |= own_digests(run.config.features.own)
        config = "/".join((run.config.digest("profile"), run.instrument.digest, *sorted(set(extras))))
        build_key = BuildKey(inputs, config, code_digest(build_features, build_in_chunks))
        reason = run.lake.stale_reason(key, build_key)
        if reason is None:
            return _counted(bars_manifest.rows, run.lake.require_manifest(key).rows, reason=None)
        bars, sessions, developing = (run.lake.read_frame(run.key(kind, contract)) for kind in kinds)
        predecessor = history.predecessor()
        market = indices[0], run.instrument, predecessor
        options: dict[str, Any] = {"profile": run.config.profile, "extras": extras}
        options |= {"pair": pair_closes(run, bars_manifest), "covariates": indices[1]}
        if rows := run.config.machine.chunk_rows:  # bounds the memory
            features = pl.concat(build_in_chunks(bars, *market, rows=rows, **options))
        else:
            features = build_features(bars, sessions, developing, *market, **options)
        run.lake.write_frame(key, features, build_key, history.details(predecessor).to_json())
        return _counted(bars.height, features.height, reason=reason)


@stage
def features_successor(run: Run, contract: str) -> SuccessorResult:
    """Rebuild the features of the contract that follows ``contract`` at the roll, where they are stale.

    Returns ``successor``, its code or None, and ``rebuilt``, the list of what was rebuilt. A successor that has no
    sessions yet is left to its own run, which finds this contract's bars. So runs of single contracts may go in any
    order, or at the same time, and end with the same features.
    """
    roll = run.lake.read_frame(run.roll_key(), ["contract"])["contract"].to_list()
    following = roll[roll.index(contract) + 1 :] if contract in roll else []
    if not following or run.lake.manifest(run.key("sessions", following[0])) is None:
        return SuccessorResult(successor=following[0] if following else None, rebuilt=(), skipped=True)
    result = features_contract(str(run.lake.root), run.name, following[0])
    return SuccessorResult(
        successor=following[0],
        rebuilt=() if result.skipped else (following[0],),
        skipped=result.skipped,
        rows_in=result.rows_in,
        rows_out=result.rows_out,
        quarantined=result.quarantined,
        reason=result.reason,
    )


def plain_size(sources: Sequence[Source]) -> int | None:
    """Return the size in bytes of the only source; None of several, of a part of a file, and of a missing one."""
    if len(sources) != 1 or sources[0].member or sources[0].symbol or not sources[0].path.is_file():
        return None
    return sources[0].path.stat().st_size


def whole_file(sources: Sequence[Source], size: int | None) -> WholeFile | None:
    """Return the detail of a manifest by which ``appended`` recognises the file.

    Args:
        sources: what the bars were built of.
        size: its ``plain_size`` before it was hashed; a file that grew since gets no detail.
    """
    if size is None or plain_size(sources) != size:
        return None
    return WholeFile(size=size, source=source_identity(sources[0]))


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
    details = stored.details_as(BarsDetails)
    if details is None or details.file is None or details.file.source != source_identity(sources[0]):
        return None
    others = {**build_key.inputs, "raw": ""}
    for made_with in (stored, bad):
        same_settings = made_with.config == build_key.config and made_with.code == build_key.code
        if not same_settings or {**made_with.inputs, "raw": ""} != others:
            return None
    append = detect_append(sources[0], details.file.size)
    if append is None:
        return None
    raw_before = combined_hash(sources, lambda source: append.hash_before)
    raw_now = combined_hash(sources, lambda source: append.hash_now)
    if (raw_before, raw_now) != (stored.inputs["raw"], build_key.inputs["raw"]):
        return None
    try:
        (bars, made), (quarantine, _) = run.lake.load(key), run.lake.load(quarantine_key)
    except ArtifactError:
        return None
    if made != stored:
        return None
    before = BuiltBars(bars, quarantine, details.rows_in, details.reasons, list(details.notes), details.left_out)
    return append_bars(before, append, parse_contract(contract), run.instrument, vix, run.config.ingest, covariates)


def _index_hashes(indices: Indices, last_ts: str | None) -> dict[str, str]:
    """Return the build-key inputs that represent the VIX and the covariates.

    Only the closes published before ``last_ts`` count, so a longer VIX file changes no old contract.
    """

    def published_hash(closes: pl.DataFrame) -> str:
        times = closes["available_at"].to_physical().to_numpy()  # microseconds, in order: closes are sorted by date
        known = len(times)
        if last_ts is not None:
            last = (datetime.fromisoformat(last_ts) - _EPOCH) // timedelta(microseconds=1)
            known = int(np.searchsorted(times, last))
        digest = hashlib.sha256(times[:known].tobytes())
        digest.update(closes["close"].to_numpy()[:known].tobytes())
        return digest.hexdigest()

    vix, others = indices
    named = {f"covariate {name}": published_hash(values) for name, values in others.items()}
    return {"vix": "none" if vix is None else published_hash(vix), **named}


def _counted(rows_in: int, rows_out: int, *, reason: str | None) -> WorkResult:
    """Return a stage's counts; ``reason`` is why its artifact was built, None if it was up to date."""
    return WorkResult(rows_in=rows_in, rows_out=rows_out, skipped=reason is None, reason=reason or UNCHANGED)
