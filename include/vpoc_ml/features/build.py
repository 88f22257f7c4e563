"""All features of one contract, and where they may still be NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features import calendar_features, levels, price, vix, volatility, volume
from vpoc_ml.features.extras.families import compute as compute_extras
from vpoc_ml.features.history import Past, Predecessor, past_of, required_history
from vpoc_ml.features.inputs import Floats, Inputs, gather
from vpoc_ml.features.non_positive_prices import reads_non_positive
from vpoc_ml.features.optional_registry import ALL_FEATURES, selected_features
from vpoc_ml.features.registry import REGISTRY, PriceLookback
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.tick_bars import session_starts

KEYS = ("ts", "contract", "session")

_FAMILIES = {
    "price": price,
    "volume": volume,
    "volatility": volatility,
    "levels": levels,
    "vix": vix,
    "calendar": calendar_features,
}
FUNCTIONS: dict[str, Callable[[Inputs], Floats]] = {
    name: getattr(_FAMILIES[feature.family], name) for name, feature in REGISTRY.items()
}


def build_features(
    bars: pl.DataFrame,
    sessions: pl.DataFrame,
    developing: pl.DataFrame,
    vix: pl.DataFrame | None,
    instrument: Instrument,
    predecessor: Predecessor | None = None,
    *,
    profile: ProfileConfig | None = None,
    extras: tuple[str, ...] = (),
    pair: pl.DataFrame | None = None,
    covariates: Mapping[str, pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Return ``ts, contract, session`` and one Float32 column a feature, one row a bar.

    A row depends on its bar and what came before: of the bars' own session through ``developing``, of
    ``sessions`` only through completed ones, of ``vix`` through closes published before the bar. From the first
    session on in which the contract is the front one, what came before is the predecessor's, ratio-adjusted:
    the contract's own thin trading before it was front is forgotten, and no window is cold. Rows before that
    session know the contract's own bars only.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        sessions: ``build_sessions`` of these bars.
        developing: ``build_developing`` of these bars.
        vix: ``date, close, available_at``; None: the features of family vix are left out.
        instrument: gives tick size and calendar.
        predecessor: the front contract before; None: the contract's own history, with a warm-up.
        profile: how the levels were built, for composites of several sessions; None: the default.
        extras: optional families, such as ``garch``; their columns follow the registry's.
        pair: ``ts`` (START, UTC) and ``close`` of the other instrument of family cointegration: one continuous
            series, as ``continuous_closes`` gives it.
        covariates: further indices of family covariates by column, each like ``vix``.

    Raises:
        ArtifactError: the frames do not belong together, or family cointegration lacks its pair.
        InsufficientSessionsError: the predecessor's history is shorter than the longest warm-up.
        InvalidValueError: a price is NaN, or a session lies outside the reviewed calendar.
    """
    if bars.is_empty():
        return bars.select(KEYS).with_columns(
            pl.lit(None, pl.Float32).alias(name)
            for name in selected_features(extras, vix=vix is not None, covariates=covariates or ())
        )
    parts = [Part(bars, sessions, developing, None)]
    if predecessor is not None:
        past = past_of(predecessor, bars["contract"][0], instrument, required_history(extras))
        parts = _split(parts[0], predecessor.first_session, past)
    gathered = (
        gather(one.bars, one.sessions, one.developing, vix, instrument, one.past, profile, pair, covariates)
        for one in parts
    )
    return pl.concat([compute(inputs, extras) for inputs in gathered])


class Part(NamedTuple):
    """Rows of a contract that share one past."""

    bars: pl.DataFrame
    sessions: pl.DataFrame
    developing: pl.DataFrame
    past: Past | None


def compute(inputs: Inputs, extras: tuple[str, ...] = ()) -> pl.DataFrame:
    """Return keys and features of bars that share one past; NaN where a feature reads a price that it cannot take."""
    more, known = compute_extras(inputs, extras), selected_features((), vix=inputs.uses_vix)
    functions = {name: function for name, function in FUNCTIONS.items() if name in known}
    found = inputs.frame.select(KEYS).with_columns(
        *tabulate(inputs, functions), *(pl.Series(name, values.astype(np.float32)) for name, values in more.items())
    )
    return _without_non_positive(found, inputs) if (inputs.whole("low") <= 0).any() else found


def _without_non_positive(features: pl.DataFrame, x: Inputs) -> pl.DataFrame:
    """Return the features with NaN where one that is relative reads a price at or below 0."""
    reaches: dict[PriceLookback, list[str]] = {}
    for name in features.columns:
        if name in ALL_FEATURES and (reach := ALL_FEATURES[name].price_lookback) is not None:
            reaches.setdefault(reach, []).append(name)
    for reach, names in reaches.items():
        bad = pl.Series(x.own(reads_non_positive(x.whole("low"), x.whole("day"), reach)))
        features = features.with_columns(pl.when(~bad).then(pl.col(names)).otherwise(float("nan")).cast(pl.Float32))
    return features


def tabulate(inputs: Inputs, functions: Mapping[str, Callable[[Inputs], Floats]]) -> list[pl.Series]:
    """Return a Float32 column a function, in one block of memory: half the time of a block for each."""
    block = np.empty((len(functions), inputs.frame.height), np.float32)
    for column, function in zip(block, functions.values(), strict=True):
        column[:] = function(inputs)
    return [pl.Series(name, column) for name, column in zip(functions, block, strict=True)]


def _split(whole: Part, first: date, past: Past) -> list[Part]:
    """Return the rows before the contract was front, with no past but their own, and those from then on."""
    early, front = (
        Part(whole.bars.filter(rows), whole.sessions.filter(rows), whole.developing.filter(rows), before)
        for rows, before in ((pl.col("session") < first, None), (pl.col("session") >= first, past))
    )
    return [part for part in (early, front) if not part.bars.is_empty()]


def warmup_sessions(names: Iterable[str]) -> int:
    """Return how many sessions of a contract may hold NaN in one of these features."""
    return max((ALL_FEATURES[name].warmup_sessions for name in names), default=0)


def in_warmup(features: pl.DataFrame, names: Iterable[str], spliced_from: date | None = None) -> pl.Series:
    """Return True for the rows in which one of these features may be NaN.

    Like ``warmup_sessions``, and also right for a contract whose first sessions hold fewer bars than
    a window.

    Args:
        features: rows of one contract from its first bar on, with ``session``.
        names: features of the registry or of optional families.
        spliced_from: first session whose rows read a predecessor's history: none of them is in a warm-up.
    """
    names = tuple(names)
    day = features["session"].rle_id()
    starts = session_starts(features["session"])
    before = pl.Series(np.repeat(starts[:-1], np.diff(starts)))
    bars = max((ALL_FEATURES[name].warmup_bars for name in names), default=0)
    cold = (day < warmup_sessions(names)) | (before < bars)
    if spliced_from is not None:
        cold &= features["session"] < spliced_from
    return cold.alias("warmup")
