"""Features chunk by chunk: only the last sessions are carried from one chunk to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.build import compute
from vpoc_ml.features.history import Predecessor, empty_past, extend_past, past_of, required_history
from vpoc_ml.features.inputs import build_inputs
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions


def build_in_chunks(
    bars: pl.DataFrame,
    vix: pl.DataFrame | None,
    instrument: Instrument,
    predecessor: Predecessor | None = None,
    *,
    rows: int,
    profile: ProfileConfig | None = None,
    skip: int = 0,
    extras: tuple[str, ...] = (),
    pair: pl.DataFrame | None = None,
    covariates: Mapping[str, pl.DataFrame] | None = None,
) -> Iterator[pl.DataFrame]:
    """Yield the features of ``rows`` bars at a time; joined they are bit-identical to ``build_features``.

    A chunk is computed from its bars, the earlier bars of its first session, and the ``Past`` carried so far. It holds
    nothing later, not even in a column that no feature reads.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        vix: ``date, close, available_at``; None as for ``build_features``.
        instrument: gives tick size and calendar.
        predecessor: as for ``build_features``.
        rows: bars of a chunk, at least 1.
        profile: how levels are built; None for the default.
        skip: row at which the first chunk begins; earlier bars only enter the past.
        extras: optional families, as for ``build_features``.
        pair: the other instrument's closes, as for ``build_features``.
        covariates: further indices, as for ``build_features``.

    Raises:
        InvalidValueError: rows below 1.
    """
    if rows < 1:
        raise InvalidValueError("rows", rows, "at least 1")
    session, config, required = bars["session"], profile or ProfileConfig(), required_history(extras)
    front = int(session.search_sorted(predecessor.first_session)) if predecessor else bars.height
    edges = sorted({*range(skip, bars.height, rows), max(front, skip), bars.height})  # the past changes at the front
    past, in_past = empty_past(), 0
    for start, end in pairwise(edges):
        opened = int(session.search_sorted(session[start]))
        if predecessor and in_past <= front <= opened:
            past, in_past = past_of(predecessor, bars["contract"][0], instrument, required), front
        if in_past < opened:
            completed = bars[in_past:opened]
            sessions = build_sessions(completed, instrument, config)
            past = extend_past(past, completed, sessions, instrument, keep=required.history)
        in_past, chunk = opened, bars[opened:end]
        levels = build_sessions(chunk, instrument, config), build_developing(chunk, instrument, config)
        inputs = build_inputs(chunk, *levels, vix, instrument, past, config, pair, covariates)
        yield compute(inputs, extras).tail(end - start)
