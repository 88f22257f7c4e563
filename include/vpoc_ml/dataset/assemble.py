"""One training set out of every front session of every contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from vpoc_ml.config import RunConfig
from vpoc_ml.dataset.labels import LABEL_COLUMNS, label_bars
from vpoc_ml.dataset.splits import SPLITS, split_rows, split_sessions
from vpoc_ml.dataset.statistics import column_statistics, nonfinite_row_share
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.errors import ArtifactError, ContractCodeError, InvalidValueError
from vpoc_ml.features.build import in_warmup
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.market.instruments import Instrument

KEYS = ("ts", "contract", "session")
LEADING = (*KEYS, "split", "label_end", "ret", "y", "weight", "entry_price", "exit_price", "last_ret")


@dataclass(frozen=True)
class TrainingSet:
    """``frame``: the rows of ``training_set.parquet``. ``statistics``: what ``feature_statistics.json`` holds."""

    frame: pl.DataFrame
    statistics: dict[str, Any]

    @property
    def features(self) -> list[str]:
        """Feature columns in model order."""
        names: list[str] = self.statistics["features"]
        return names


def assemble(
    bars: dict[str, pl.DataFrame],
    features: dict[str, pl.DataFrame],
    front: pl.DataFrame,
    instrument: Instrument,
    config: RunConfig,
) -> TrainingSet:
    """Label, split and rank the rows of every contract while it is the front contract.

    Everything that is fitted (rank target, guard statistics) sees training rows only. Incomplete
    rows of a contract's warm-up are dropped; later non-finite cells stay and are counted, the guard of
    the model takes them.

    Args:
        bars: bars of each contract (ts, contract, session, open, close, ...), sorted by ts.
        features: features of each contract, on the same stamps: ts, contract, session, Float32 columns.
        front: contract, first_session, last_session (inclusive Dates).
        instrument: the futures all contracts belong to.
        config: sections ``dataset`` and ``features`` are read.

    Returns:
        Rows sorted by ts; prices in points, ``ret`` and ``last_ret`` natural log returns.

    Raises:
        ArtifactError: no front period; a front contract lacks bars or features, or their stamps differ.
        InvalidValueError: a wanted feature does not exist, or the shares leave no test sessions.
        InsufficientSessionsError: too few usable sessions.
        InputError: no training row has a label.
    """
    if front.is_empty():
        raise ArtifactError("the roll table", "at least one front period", "none")
    names = _feature_names(features, config.features.names)
    rows = pl.concat(
        [
            _contract_rows(period, bars, features, names, instrument, config)
            for period in front.sort("first_session").iter_rows(named=True)
        ]
    ).sort("ts")
    split = split_rows(rows, split_sessions(rows["session"].unique().to_list(), config.dataset))
    target = RankTarget.fit(split.filter(pl.col("split") == "train")["ret"].to_numpy())
    ranks = pl.Series("y", target.apply(split["ret"].to_numpy()), dtype=pl.Float32)
    frame = split.with_columns(ranks, weight=ranks.is_finite().cast(pl.Float32)).select(*LEADING, *names)
    return TrainingSet(frame, _statistics(frame, names, target, config.dataset.embargo_sessions))


def _feature_names(features: dict[str, pl.DataFrame], wanted: tuple[str, ...]) -> list[str]:
    """Return the wanted feature columns, or all of the first contract's when none is named."""
    if not features:
        raise ArtifactError("features", "the features of at least one contract", "none")
    known = [name for name in next(iter(features.values())).columns if name not in KEYS]
    unknown = sorted(set(wanted) - set(known))
    if unknown or len(set(wanted)) < len(wanted):
        raise InvalidValueError("features.names", ", ".join(unknown or wanted), f"distinct, out of {', '.join(known)}")
    return list(wanted) or known


def _contract_rows(
    period: dict[str, Any],
    bars: dict[str, pl.DataFrame],
    features: dict[str, pl.DataFrame],
    names: list[str],
    instrument: Instrument,
    config: RunConfig,
) -> pl.DataFrame:
    """Rows of one contract's front period, after its warm-up: keys, labels, features."""
    code = period["contract"]
    if not code.startswith(instrument.symbol):
        raise ContractCodeError(code, where="roll table", reason=f"not a contract of {instrument.symbol}")
    if code not in bars or code not in features:
        raise ArtifactError(code, "bars and features of every front contract", f"no {_missing(code, bars)}")
    own = features[code]
    absent = [name for name in names if name not in own.columns]
    if absent or not own["ts"].equals(bars[code]["ts"]):
        found = f"without {', '.join(absent)}" if absent else f"{own.height} rows on other stamps"
        raise ArtifactError(f"features of {code}", f"all features on the stamps of its {bars[code].height} bars", found)
    cells = [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in names]
    labels = label_bars(bars[code], config.dataset.horizon_minutes, config.dataset.return_clip)
    rows = own.select(*KEYS, *cells).with_columns(labels.select(LABEL_COLUMNS))
    in_front = pl.col("session").is_between(period["first_session"], period["last_session"])
    return rows.filter(_usable(rows, names) & in_front)


def _usable(rows: pl.DataFrame, names: list[str]) -> pl.Series:
    """Return False for the rows of a contract's warm-up that cannot be used.

    These are the rows before the first one with all features finite, and incomplete rows within the
    warm-up the registry declares. What is missing later is a fault of the features: it stays, visible.
    """
    complete = rows.select(pl.all_horizontal(pl.col(name).is_finite() for name in names)).to_series()
    declared = in_warmup(rows, [name for name in names if name in REGISTRY])
    return complete.cum_max() & (complete | ~declared)


def _missing(code: str, bars: dict[str, pl.DataFrame]) -> str:
    return "features" if code in bars else "bars"


def _statistics(frame: pl.DataFrame, names: list[str], target: RankTarget, embargo: int) -> dict[str, Any]:
    """Content of ``feature_statistics.json``; everything fitted comes from the training rows."""
    parts = {name: frame.filter(pl.col("split") == name) for name in SPLITS}
    columns = [column_statistics(parts["train"][name].to_numpy()) for name in names]
    return {
        "features": names,
        "median": [column.median for column in columns],
        "scale": [column.scale for column in columns],
        "scale_source": [column.source for column in columns],
        "nonfinite_share": [column.nonfinite_share for column in columns],
        "nonfinite_row_share": {
            name: nonfinite_row_share(part.select(names).to_numpy()) for name, part in parts.items()
        },
        "zero_rank": target.zero_score,
        "target_quantiles": target.quantiles(),
        "rows": {name: part.height for name, part in parts.items()},
        "labelled_rows": {name: int(part["weight"].sum()) for name, part in parts.items()},
        "splits": {name: _span(part) for name, part in parts.items()},
        "embargo_sessions": embargo,
    }


def _span(part: pl.DataFrame) -> dict[str, Any]:
    """First and last stamp, last label end (ISO, UTC) and number of sessions of one part."""
    return {
        "first": _iso(part["ts"].min()),
        "last": _iso(part["ts"].max()),
        "last_label_end": _iso(part["label_end"].max()),
        "sessions": part["session"].n_unique(),
    }


def _iso(stamp: Any) -> str | None:
    return None if stamp is None else stamp.isoformat()
