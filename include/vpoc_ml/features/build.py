"""All features of one contract, at once or chunk by chunk, and the rows in which they may be NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from importlib import import_module
from itertools import pairwise

import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import FEATURE_KEYS
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import InvalidValueError, PluginError
from vpoc_ml.features import calendar_features, levels, price, vix, volatility, volume
from vpoc_ml.features.history import Floats, Past, Predecessor, empty_past, extend_past, past_of, required_history
from vpoc_ml.features.inputs import Inputs, build_inputs
from vpoc_ml.features.non_positive_prices import reads_non_positive
from vpoc_ml.features.registry import (
    COVARIATES,
    OPTIONAL_FAMILIES,
    OPTIONAL_FEATURES,
    REGISTRY,
    PriceLookback,
    known_features,
    own_features,
    selected_features,
)
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.plugins import registered
from vpoc_ml.plugins.declared import OwnFeature
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.profile.tick_bars import session_starts

FAMILIES = {
    "price": price,
    "volume": volume,
    "volatility": volatility,
    "levels": levels,
    "vix": vix,
    "calendar": calendar_features,
}
FUNCTIONS: dict[str, Callable[[Inputs], Floats]] = {
    name: getattr(FAMILIES[feature.family], name) for name, feature in REGISTRY.items()
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
    """Return ``ts, contract, session`` and one Float32 column per feature, one row per bar.

    A row depends on its bar and on what came before: on the bars' own session through ``developing``, on completed
    sessions only of ``sessions``, and on VIX closes published before the bar. From the first session on in which the
    contract is the front one, what came before is the predecessor's, ratio-adjusted. The contract's own thin trading
    before that session is not used, and no window has a warm-up. Rows before that session use the contract's own bars
    only.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        sessions: ``build_sessions`` of these bars.
        developing: ``build_developing`` of these bars.
        vix: ``date, close, available_at``; None leaves out the features of family vix.
        instrument: gives tick size and calendar.
        predecessor: the front contract before; None for the contract's own history, with a warm-up.
        profile: how the levels were built, for composites of several sessions; None for the default.
        extras: optional families, such as ``garch``. Their columns follow the registry's.
        pair: ``ts`` (START, UTC) and ``close`` of the other instrument of family cointegration: one continuous
            series, as ``continuous_closes`` returns it.
        covariates: further indices of family covariates by column, each like ``vix``.

    Raises:
        ArtifactError: the frames do not belong together, or family cointegration lacks its pair.
        InsufficientSessionsError: the predecessor's history is shorter than the longest warm-up.
        InvalidValueError: a price is NaN, or a session lies outside the reviewed calendar.
    """
    if bars.is_empty():
        return bars.select(*FEATURE_KEYS).with_columns(
            pl.lit(None, pl.Float32).alias(name)
            for name in selected_features(extras, vix=vix is not None, covariates=covariates or ())
        )
    parts: list[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, Past | None]] = [(bars, sessions, developing, None)]
    if predecessor is not None:
        past = past_of(predecessor, bars["contract"][0], instrument, required_history(extras))
        front = pl.col("session") >= predecessor.first_session
        parts = [  # before it is front, a contract has no past but its own
            (bars.filter(rows), sessions.filter(rows), developing.filter(rows), before)
            for rows, before in ((~front, None), (front, past))
        ]
    inputs = (
        build_inputs(own, completed, developed, vix, instrument, before, profile, pair, covariates)
        for own, completed, developed, before in parts
        if not own.is_empty()
    )
    return pl.concat([compute(each, extras) for each in inputs])


def compute(inputs: Inputs, extras: Iterable[str] = ()) -> pl.DataFrame:
    """Return keys and features of bars that share one past.

    A feature that is a logarithm or a share of prices is NaN where it reads a price at or below 0.
    """
    selected = selected_features((), vix=inputs.uses_vix)
    functions = {name: function for name, function in FUNCTIONS.items() if name in selected}
    optional = optional_values(inputs, extras)
    features = inputs.frame.select(*FEATURE_KEYS).with_columns(
        *tabulate(inputs, functions), *(pl.Series(name, values.astype(np.float32)) for name, values in optional.items())
    )
    history = inputs.full_history
    if not (history.low <= 0).any():
        return features
    by_lookback: dict[PriceLookback, list[str]] = {}
    known = known_features()
    for name in features.columns:
        if name in known and (lookback := known[name].price_lookback) is not None:
            by_lookback.setdefault(lookback, []).append(name)
    for lookback, names in by_lookback.items():
        bad = pl.Series(history.own(reads_non_positive(history.low, history.day, lookback)))
        features = features.with_columns(pl.when(~bad).then(pl.col(names)).otherwise(float("nan")).cast(pl.Float32))
    return features


def optional_values(inputs: Inputs, families: Iterable[str]) -> dict[str, Floats]:
    """Return the features of optional families by name, in the order of the optional registry, then covariates, then
    own features.

    The module of a family is imported here, so a run without optional families does not load it.

    Raises:
        PluginError: an own feature raised an error, or its result is not one number per bar.
        InvalidValueError: a family is neither optional nor that of an own feature.
    """
    found: dict[str, Floats] = {}
    own = [each for each in own_features().values() if each.family in set(families)]
    for family in sorted(set(families) - {each.family for each in own}):
        if family not in (*OPTIONAL_FAMILIES, COVARIATES):
            raise InvalidValueError("features.own", family, "a family of an own feature; its plugin is not loaded here")
        found |= import_module(f"vpoc_ml.features.extras.{family}").compute(inputs)
    ordered = {name: found[name] for name in OPTIONAL_FEATURES if name in found} | found
    return ordered | {each.name: _own_values(inputs, each) for each in own}


def _own_values(inputs: Inputs, own: OwnFeature) -> Floats:
    """Return the values of an own feature; nulls become NaN."""
    plugin = next(each for each in registered.of_kind("features") if each.name == own.name)
    expected = f"one number per bar from feature {own.name}, {inputs.frame.height} of them"
    remedy = "Correct its function compute and run again."
    try:
        values = np.asarray(own.compute(inputs), np.float64)
    except Exception as error:
        raise PluginError(plugin.origin, expected, f"{type(error).__name__}: {error}", remedy) from error
    if values.shape != (inputs.frame.height,):
        raise PluginError(plugin.origin, expected, f"an array of shape {values.shape}", remedy)
    return values


def tabulate(inputs: Inputs, functions: Mapping[str, Callable[[Inputs], Floats]]) -> list[pl.Series]:
    """Return a Float32 column per function, all in one block of memory: half the time of one block per column."""
    block = np.empty((len(functions), inputs.frame.height), np.float32)
    for column, function in zip(block, functions.values(), strict=True):
        column[:] = function(inputs)
    return [pl.Series(name, column) for name, column in zip(functions, block, strict=True)]


def warmup_sessions(names: Iterable[str]) -> int:
    """Return how many sessions of a contract may hold NaN in one of these features."""
    known = known_features()
    return max((known[name].warmup_sessions for name in names), default=0)


def in_warmup(features: pl.DataFrame, names: Iterable[str], spliced_from: date | None = None) -> pl.Series:
    """Return True for the rows in which one of these features may be NaN.

    Unlike ``warmup_sessions`` this also holds for a contract whose first sessions have fewer bars than a window.

    Args:
        features: rows of one contract from its first bar on, with ``session``.
        names: features of the registry or of optional families.
        spliced_from: first session whose rows read a predecessor's history. From it on no row is in a warm-up.
    """
    names, known = tuple(names), known_features()
    day = features["session"].rle_id()
    starts = session_starts(features["session"])
    before = pl.Series(np.repeat(starts[:-1], np.diff(starts)))
    bars = max((known[name].warmup_bars for name in names), default=0)
    cold = (day < warmup_sessions(names)) | (before < bars)
    if spliced_from is not None:
        cold &= features["session"] < spliced_from
    return cold.alias("warmup")


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
