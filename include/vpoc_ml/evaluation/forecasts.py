"""The evaluated rows, the interface of a model, and its forecast for these rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CANDIDATE, CHAMPION = "candidate", "champion"


class RankModel(Protocol):
    """A trained model. It predicts a score of the next return, in rank units, from features."""

    @property
    def features(self) -> Sequence[str]:
        """Feature columns in model order."""

    @property
    def zero_rank(self) -> float:
        """Score at which the model expects no change. For a rank target it is the training rank of a zero return."""

    def predict(self, features: npt.NDArray[np.floating], /) -> npt.NDArray[np.floating]:
        """Return the score of each row of ``features`` (n, f), raw and unscaled; ranks lie in [0, 1]."""


class MixedModel(RankModel, Protocol):
    """A trained model that mixes the scores of several parts."""

    @property
    def part_zero_ranks(self) -> Mapping[str, float]:
        """Score of an unchanged price of each part, in the order of ``parts``; empty for a single part."""

    def parts(self, features: npt.NDArray[np.floating], /) -> Floats:
        """Return the score of each part [parts, n]; the argument is that of ``predict``."""

    def mixed(self, parts: Floats, /) -> Floats:
        """Return the score of each row [n] from the scores of the parts [parts, n]."""


@dataclass(frozen=True)
class Forecast:
    """The forecast of one model for every evaluated row.

    ``rank`` is (n,) in rank units. ``zero_rank`` is the model's threshold between down and up, (n,) where the rows have
    several models, as those of a track record. ``direction_only`` marks
    a forecast whose distance from the threshold has no meaning. Such a forecast has no loss and no rank correlation.
    ``ranked`` is False for a constant, which does not order rows even where its value differs between folds.
    """

    name: str
    rank: Floats
    zero_rank: float | Floats
    direction_only: bool = False
    ranked: bool = True

    def where(self, chosen: npt.NDArray[np.bool_]) -> Forecast:
        """Return the forecast of the chosen rows; ``chosen`` is (n,)."""
        zero = self.zero_rank if isinstance(self.zero_rank, float) else self.zero_rank[chosen]
        return replace(self, rank=self.rank[chosen], zero_rank=zero)

    @property
    def direction(self) -> Floats:
        """Return -1, 0 or +1 for each row; 0 where the prediction equals the threshold."""
        return np.sign(self.rank - self.zero_rank)

    @cached_property
    def order(self) -> Ints:
        """The rows by ascending rank, (n,). Sorting costs more than all else that is done with a forecast."""
        return np.argsort(self.rank)


def predict(name: str, model: RankModel, rows: pl.DataFrame) -> Forecast:
    """Return the forecast of a model for ``rows``, which hold its features."""
    predicted = model.predict(rows.select(model.features).to_numpy())
    return Forecast(name, np.asarray(predicted, dtype=np.float64), float(model.zero_rank))


def forecast_columns(forecast: Forecast) -> tuple[pl.Series, pl.Series]:
    """Return a learner's two columns of a track record: its rank and its threshold, Float64."""
    zero = np.broadcast_to(forecast.zero_rank, forecast.rank.shape)
    return pl.Series(forecast.name, forecast.rank), pl.Series(f"{forecast.name}_zero", np.array(zero))


@dataclass(frozen=True)
class LabelledRows:
    """Rows with a label, in order of time. All arrays are (n,).

    ``block`` numbers the session of each row from 0 to ``sessions - 1``.
    """

    ret: Floats
    y: Floats
    block: Ints
    sessions: int

    @classmethod
    def of(cls, frame: pl.DataFrame) -> LabelledRows:
        """Read ``ret``, ``y`` and ``session`` of labelled rows (``weight`` = 1)."""
        return cls(
            ret=frame["ret"].to_numpy().astype(np.float64),
            y=frame["y"].to_numpy().astype(np.float64),
            block=frame["session"].rank("dense").to_numpy().astype(np.int64) - 1,
            sessions=frame["session"].n_unique(),
        )

    @cached_property
    def ret_rank(self) -> Floats:
        """Centred ranks of ``ret`` as shares of the rows, average ranks for ties. Every rank IC uses them."""
        return centred_ranks(self.ret)

    def per_session(self, *columns: Floats) -> Floats:
        """Return the sum of each column within each session, (sessions, columns)."""
        return np.stack([np.bincount(self.block, column, self.sessions) for column in columns], axis=1)


def centred_ranks(values: Floats, order: Ints | None = None) -> Floats:
    """Return ranks minus their mean, divided by the number of rows, (n,); ties get average ranks.

    ``order`` sorts the values; None: it is computed.
    """
    n = len(values)
    ranks: Floats = (average_ranks(values, np.argsort(values) if order is None else order) - (n + 1) / 2.0) / n
    return ranks


def average_ranks(values: Floats, order: Ints) -> Floats:
    """Return the ranks 1 to n of ``values`` (n,), average ranks for ties; NaN for all of them if one value is NaN.

    They equal ``scipy.stats.rankdata``. ``order`` sorts the values, so several ranks of one forecast need one sort.
    """
    ordered = values[order]
    if ordered.size and np.isnan(ordered[-1]):
        return np.full(ordered.size, np.nan)
    first = np.append(True, ordered[1:] != ordered[:-1])[: ordered.size]
    starts = np.append(np.flatnonzero(first), ordered.size)
    ranks = np.empty(ordered.size)
    ranks[order] = np.repeat(0.5 * (starts[1:] + starts[:-1] + 1), np.diff(starts))
    return ranks
