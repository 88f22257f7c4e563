"""Features chunk by chunk: what a stream of bars gives, with nothing carried but the last sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.build import compute
from vpoc_ml.features.history import Past, Predecessor, after, nothing, past_of, required_history
from vpoc_ml.features.inputs import gather
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
    """Yield the features of ``rows`` bars at a time; together they equal ``build_features`` to the last bit.

    A chunk is computed from its bars, those of its first session before it, and the ``Past`` carried so far:
    it holds nothing later, not even in a column that no feature reads.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        vix: ``date, close, available_at``; None as for ``build_features``.
        instrument: gives tick size and calendar.
        predecessor: as for ``build_features``.
        rows: bars of a chunk, at least 1.
        profile: how levels are built; None: the default.
        skip: the first chunk begins at this row; bars before it are only remembered.
        extras: optional families, as for ``build_features``.
        pair: the other instrument's closes, as for ``build_features``.
        covariates: further indices, as for ``build_features``.

    Raises:
        InvalidValueError: rows below 1.
    """
    if rows < 1:
        raise InvalidValueError("rows", rows, "at least 1")
    session, config, needed = bars["session"], profile or ProfileConfig(), required_history(extras)
    front = int(session.search_sorted(predecessor.first_session)) if predecessor else bars.height
    edges = sorted({*range(skip, bars.height, rows), max(front, skip), bars.height})  # the past changes at the front
    carried, remembered = nothing(), 0
    for start, end in pairwise(edges):
        opened = int(session.search_sorted(session[start]))
        if predecessor and remembered <= front <= opened:
            carried, remembered = past_of(predecessor, bars["contract"][0], instrument, needed), front
        carried = _remember(carried, bars[remembered:opened], instrument, config, needed.history)
        remembered, known = opened, bars[opened:end]
        levels = build_sessions(known, instrument, config), build_developing(known, instrument, config)
        inputs = gather(known, *levels, vix, instrument, carried, config, pair, covariates)
        yield compute(inputs, extras).tail(end - start)


def _remember(past: Past, bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, keep: int) -> Past:
    """Return the past with the sessions of these bars, all of them completed."""
    if bars.is_empty():
        return past
    return after(past, bars, build_sessions(bars, instrument, config), instrument, keep=keep)
