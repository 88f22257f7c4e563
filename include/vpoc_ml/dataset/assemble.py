"""Assemble the training set from all front sessions of all contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.artifacts.feature_statistics import FeatureStatistics, SplitSpan
from vpoc_ml.config import DatasetConfig, RunConfig
from vpoc_ml.dataset import targets
from vpoc_ml.dataset.labels import LABEL_COLUMNS, known_volatility, label_bars, label_uniqueness, session_exits
from vpoc_ml.dataset.quantiles import quantile_edges
from vpoc_ml.dataset.robust_scaling import Floats, fit_robust_scaling
from vpoc_ml.dataset.row_runs import chunked_like, take_runs
from vpoc_ml.dataset.scalers import Scaler, apply_column, fit_scaler
from vpoc_ml.dataset.splits import SPLITS, split_rows, split_sessions
from vpoc_ml.dataset.targets import RankTarget, Target
from vpoc_ml.errors import ArtifactError, ContractCodeError, InvalidValueError
from vpoc_ml.features.build import in_warmup
from vpoc_ml.features.non_positive_prices import reads_non_positive
from vpoc_ml.features.registry import known_features
from vpoc_ml.market.instruments import Instrument

KEYS = ("ts", "contract", "session")
BAR_COLUMNS = ("ts", "session", "open", "low", "close")
"""Columns of the bars that labels are made of."""
RETURNS = ("ret", "ret_close")
LEADING = (*KEYS, "split", "label_end", "ret", "ret_close", "y", "weight", "entry_price", "exit_price", "last_ret")


@dataclass(frozen=True)
class TrainingSet:
    """Rows of ``training_set.parquet`` and their statistics.

    ``front_rows`` are the rows of each contract's front period, ``lost_rows`` those of them that its warm-up cost.
    """

    frame: pl.DataFrame
    statistics: FeatureStatistics
    front_rows: dict[str, int]
    lost_rows: dict[str, int]

    @property
    def features(self) -> list[str]:
        """Feature columns in model order."""
        return list(self.statistics.features)


@dataclass(frozen=True)
class LabelledFrame:
    """Labelled rows of all contracts before any split: nothing in them was fitted.

    ``frame`` is sorted by ts. It has keys, labels and prices, for some targets ``volatility``, and the Float32 columns
    ``features``. ``front_rows`` are the rows of each contract's front period, ``lost_rows`` those of them that
    its warm-up cost.
    """

    frame: pl.DataFrame
    features: list[str]
    front_rows: dict[str, int]
    lost_rows: dict[str, int]


def assemble(
    bars: dict[str, pl.DataFrame],
    features: dict[str, pl.DataFrame],
    front: pl.DataFrame,
    instrument: Instrument,
    config: RunConfig,
) -> TrainingSet:
    """Label, split and rank the rows of every contract while it is the front contract.

    The arguments and errors are those of ``label_rows`` and ``fit_training_set``.

    Raises:
        InvalidValueError: the shares leave no test sessions.
        InsufficientSessionsError: too few usable sessions.
    """
    return assemble_rows(label_rows(bars, features, front, instrument, config), config)


def assemble_rows(rows: LabelledFrame, config: RunConfig) -> TrainingSet:
    """Split labelled rows and fit the training set, as ``assemble`` does."""
    split = split_rows(rows.frame, split_sessions(rows.frame["session"].unique().to_list(), config.dataset))
    return fit_training_set(replace(rows, frame=split), config)


def label_rows(
    bars: Mapping[str, pl.DataFrame],
    features: Mapping[str, pl.DataFrame],
    front: pl.DataFrame,
    instrument: Instrument,
    config: RunConfig,
) -> LabelledFrame:
    """Label the rows of every contract while it is the front contract.

    Incomplete rows of a contract's warm-up are dropped. Later non-finite cells stay; the model's guard replaces them.
    One contract is held at a time beside the result, where the mappings read a frame when it is asked for.

    Args:
        bars: bars of each contract with at least ``BAR_COLUMNS``, sorted by ts.
        features: features of each contract at the same timestamps: ts, contract, session, Float32 columns.
        front: contract, first_session, last_session (inclusive Dates); for a horizon in sessions also ``ratio``,
            the step at the roll to each contract.
        instrument: the futures all contracts belong to.
        config: sections ``dataset`` and ``features`` are read.

    Returns:
        Rows sorted by ts; prices in points, ``ret`` and ``last_ret`` natural log returns.

    Raises:
        ArtifactError: no front period; a front contract lacks bars or features, or their timestamps differ.
        InvalidValueError: a chosen feature does not exist.
    """
    if front.is_empty():
        raise ArtifactError("the roll table", "at least one front period", "none")
    names = _feature_names(features, config.features.names)
    exits = _session_exits(front, bars, config.dataset)
    parts, front_rows = {}, {}
    for period in front.sort("first_session").iter_rows(named=True):
        code = period["contract"]
        own = _own_frames(code, bars, features, names, instrument)
        parts[code] = _contract_rows(period, *own, names, config, exits.get(code))
        in_front = own[1]["session"].is_between(period["first_session"], period["last_session"])
        front_rows[code] = int(in_front.sum())
    lost_rows = {code: front_rows[code] - part.height for code, part in parts.items()}
    rows = pl.concat(list(parts.values()))
    if not rows["ts"].is_sorted():  # front periods follow each other, so they are; sorting would copy all rows
        rows = rows.sort("ts")
    return LabelledFrame(rows, names, front_rows, lost_rows)


def fit_training_set(rows: LabelledFrame, config: RunConfig) -> TrainingSet:
    """Fit targets, scaler and guard statistics on the rows with ``split`` = "train" and apply the targets to all rows.

    ``y`` is always the rank target, because every model is evaluated on it. Another kind of target has an additional
    column ``target``, which the trainer uses.

    Args:
        rows: labelled rows with a column ``split``.
        config: sections ``dataset`` and ``model`` are read.

    Raises:
        InputError: no training row has a label.
    """
    split, names = rows.frame, rows.features
    rank = RankTarget.fit(take_runs(split, split["split"] == "train")["ret"].to_numpy())
    ranks = chunked_like(pl.Series("y", rank.apply(split["ret"].to_numpy()), dtype=pl.Float32), split)
    ranked = split.with_columns(ranks).with_columns(weight=pl.col("y").is_finite().cast(pl.Float32))
    if config.dataset.target.kind == rank.kind:
        frame = ranked.select(*LEADING, *names)
        return TrainingSet(frame, _statistics(frame, names, rank, rank, config), rows.front_rows, rows.lost_rows)
    target, values = _own_target(split, config.dataset)
    frame = ranked.with_columns(values).select(*LEADING, "target", *names)
    return TrainingSet(frame, _statistics(frame, names, rank, target, config), rows.front_rows, rows.lost_rows)


def _own_target(split: pl.DataFrame, config: DatasetConfig) -> tuple[Target, pl.Series]:
    """Fit a target other than the rank on the training rows and apply it to all rows."""
    train = take_runs(split, split["split"] == "train")
    known = "volatility" in split.columns
    target = targets.fit_target(
        config.target.kind, train["ret"].to_numpy(), train["volatility"].to_numpy() if known else None, config
    )
    values = target.apply(split["ret"].to_numpy(), split["volatility"].to_numpy() if known else None)
    return target, chunked_like(pl.Series("target", values, dtype=pl.Float32), split)


def _feature_names(features: Mapping[str, pl.DataFrame], wanted: tuple[str, ...]) -> list[str]:
    """Return the chosen feature columns; without a choice, all columns of the first contract."""
    if not features:
        raise ArtifactError("features", "the features of at least one contract", "none")
    known = [name for name in next(iter(features.values())).columns if name not in KEYS]
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise InvalidValueError("features.names", ", ".join(unknown), f"out of {', '.join(known)}")
    return list(wanted) or known


def _own_frames(
    code: str,
    bars: Mapping[str, pl.DataFrame],
    features: Mapping[str, pl.DataFrame],
    names: list[str],
    instrument: Instrument,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return bars and features of a front contract, which belong together."""
    if not code.startswith(instrument.symbol):
        raise ContractCodeError(code, where="roll table", reason=f"not a contract of {instrument.symbol}")
    if code not in bars or code not in features:
        raise ArtifactError(
            code, "bars and features of every front contract", f"no {'features' if code in bars else 'bars'}"
        )
    prices, own = bars[code], features[code]
    absent = [name for name in names if name not in own.columns]
    if absent or not own["ts"].equals(prices["ts"]):
        found = f"without {', '.join(absent)}" if absent else f"{own.height} rows at other timestamps"
        raise ArtifactError(f"features of {code}", f"all features at the timestamps of its {prices.height} bars", found)
    return prices, own


def _contract_rows(
    period: dict[str, Any],
    bars: pl.DataFrame,
    own: pl.DataFrame,
    names: list[str],
    config: RunConfig,
    exits: pl.DataFrame | None,
) -> pl.DataFrame:
    """Return the rows of one contract's front period after its warm-up: keys, labels, features."""
    cells = [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in names]
    dataset = config.dataset
    labels = label_bars(bars, dataset.horizon, dataset.label, dataset.return_clip, exits).select(LABEL_COLUMNS)
    if targets.KINDS[dataset.target.kind].needs_volatility:
        labels = labels.with_columns(known_volatility(labels["last_ret"], dataset.horizon.minutes, dataset.target.bars))
    labels = _without_non_positive(labels, bars, names)
    rows = own.select(*KEYS, *cells).with_columns(labels)
    in_front = pl.col("session").is_between(period["first_session"], period["last_session"])
    return rows.filter(_usable(rows, names) & in_front)


def _session_exits(
    front: pl.DataFrame, bars: Mapping[str, pl.DataFrame], config: DatasetConfig
) -> dict[str, pl.DataFrame]:
    """Return the exits of labels over sessions by contract; empty for other horizons."""
    if config.horizon.kind != "sessions":
        return {}
    closes = [
        bars[period["contract"]]
        .filter(pl.col("session").is_between(period["first_session"], period["last_session"]))
        .group_by("session", maintain_order=True)
        .agg(pl.col("ts").last(), pl.col("close").last())
        .select(pl.lit(period["contract"]).alias("contract"), "session", "ts", "close")
        for period in front.sort("first_session").iter_rows(named=True)
    ]
    ratios = dict(front.select("contract", "ratio").iter_rows()) if "ratio" in front.columns else {}
    known = {contract: ratios.get(contract) for contract in front["contract"]}
    return session_exits(pl.concat(closes), known, config.horizon.count)


def _without_non_positive(labels: pl.DataFrame, bars: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Remove the return where a chosen feature has no value because of a price at or below 0.

    A row without a return has weight 0. It stays in the training set and is not used for training.
    """
    if (bars["low"] > 0).all():
        return labels
    low, day = bars["low"].to_numpy(), bars["session"].rle_id().cast(pl.Int64).to_numpy()
    known = known_features()
    lookbacks = {lookback for name in names if name in known and (lookback := known[name].price_lookback) is not None}
    missing = [pl.Series(reads_non_positive(low, day, lookback)) for lookback in lookbacks]
    gap = pl.any_horizontal(*missing, pl.lit(value=False))
    return labels.with_columns(pl.when(gap).then(float("nan")).otherwise(name).alias(name) for name in RETURNS)


def _usable(rows: pl.DataFrame, names: list[str]) -> pl.Series:
    """Return False for the unusable rows of a contract's warm-up.

    These are all rows before the first complete row, and incomplete rows within the declared warm-up. A value missing
    after the warm-up is a fault of the features. Such rows stay, so that the gate reports them.
    """
    complete = rows.select(pl.all_horizontal(pl.col(name).is_finite() for name in names)).to_series()
    known = known_features()
    declared = in_warmup(rows, [name for name in names if name in known])
    return complete.cum_max() & (complete | ~declared)


def _statistics(
    frame: pl.DataFrame, names: list[str], rank: RankTarget, target: Target, config: RunConfig
) -> FeatureStatistics:
    """Return the statistics of a training set. Everything fitted comes from the training rows.

    Median, scale and edges are those of the scaled features, which are the inputs of the guard.
    """
    kind = config.dataset.scaler
    parts = {name: take_runs(frame, frame["split"] == name) for name in SPLITS}

    def train() -> Iterator[Floats]:
        """Yield one column of the training rows after the other, so that only one is copied at a time."""
        return (parts["train"][name].to_numpy() for name in names)

    scaler = None if kind == "none" else fit_scaler(kind, train())
    columns = [fit_robust_scaling(column) for column in _scaled(train(), scaler)]
    return FeatureStatistics(
        target=None if target is rank else target.to_json(),
        scaler=None if scaler is None else scaler.to_artifact(),
        edges=_edges(_scaled(train(), scaler), config),
        features=tuple(names),
        median=tuple(column.median for column in columns),
        scale=tuple(column.scale for column in columns),
        scale_source=tuple(column.source for column in columns),
        nonfinite_share=tuple(column.nonfinite_share for column in columns),
        nonfinite_row_share={name: _nonfinite_row_share(part.select(names)) for name, part in parts.items()},
        zero_rank=target.zero_score,
        target_quantiles=tuple(rank.quantiles()),
        rows={name: part.height for name, part in parts.items()},
        labelled_rows={name: int(part["weight"].sum()) for name, part in parts.items()},
        effective_rows={name: _effective_rows(part) for name, part in parts.items()},
        splits={name: _span(part) for name, part in parts.items()},
        embargo_sessions=config.dataset.embargo_sessions,
    )


def _nonfinite_row_share(features: pl.DataFrame) -> float:
    """Return the share of rows with any NaN or infinity.

    It is counted per row. The share of batches with a bad value is close to 1 in most cases and does not differ enough.
    """
    finite = np.ones(features.height, dtype=bool)
    for column in features:
        finite &= np.isfinite(column.to_numpy())
    return float(1.0 - finite.mean()) if features.height else 0.0


def _effective_rows(part: pl.DataFrame) -> float:
    """Return the number of independent labels that the labelled rows of a split, sorted by ts, are worth."""
    times = part["ts"].to_numpy()
    labelled = part.select("ts", "label_end", "weight").filter(pl.col("weight") > 0)
    starts = np.searchsorted(times, labelled["ts"].to_numpy(), side="right").clip(max=times.size - 1)
    ends = np.searchsorted(times, labelled["label_end"].to_numpy(), side="right") - 1
    return float(label_uniqueness(starts, np.maximum(starts, ends), times.size).sum())


def _edges(columns: Iterator[Floats], config: RunConfig) -> tuple[tuple[float, ...], ...] | None:
    """Return the bin edges of each feature; None without ``model.encoding``."""
    if config.model.encoding.kind == "none":
        return None
    return tuple(tuple(quantile_edges(column, config.model.encoding.bins)) for column in columns)


def _scaled(columns: Iterator[Floats], scaler: Scaler | None) -> Iterator[Floats]:
    """Yield each training column as input of the guard."""
    for index, column in enumerate(columns):
        yield column if scaler is None else apply_column(scaler.columns[index], column)


def _span(part: pl.DataFrame) -> SplitSpan:
    """Return the period of one split."""
    first, last, label_end = part.select(
        pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"), pl.col("label_end").max()
    ).row(0)
    iso = [None if time is None else time.isoformat() for time in (first, last, label_end)]
    return SplitSpan(first=iso[0], last=iso[1], last_label_end=iso[2], sessions=part["session"].n_unique())
