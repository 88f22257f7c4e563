"""What every kind of target has in common: how it is fitted, applied, read and stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from vpoc_ml.artifacts.feature_statistics import FittedTarget
from vpoc_ml.config import DatasetConfig
from vpoc_ml.errors import InputError

Floats = npt.NDArray[np.float64]
Loss = Literal["huber", "bce", "cross_entropy", "pinball"]
MIDDLE = 0.5


@dataclass(frozen=True)
class Target(ABC):
    """What a network is trained on, fitted on the returns of training rows and nothing else.

    ``apply`` turns returns into the numbers the loss compares with. ``score`` turns the network's outputs
    into one number a row **in rank units**: rising with the expected return, 0.5 for what is usual in
    training. So models of all kinds are ranked, judged and compared on one scale, that of the rank target.

    Attributes:
        kind: name in ``dataset.target``.
        predicts: what the network's output estimates, in words.
        loss: ``huber`` (the trainer's delta, which is in rank units), ``bce`` (one logit; a target of 0.5 is
            a tie), ``cross_entropy`` (one logit a class; the target is the number of the class) or
            ``pinball`` (one output a level of ``levels``).
        needs_volatility: ``apply`` needs the volatility known at each row.
    """

    kind: ClassVar[str]
    predicts: ClassVar[str]
    loss: ClassVar[Loss] = "huber"
    needs_volatility: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> Self:
        """Learn from the log returns [n] of the training rows; those that are not finite are left out.

        Raises:
            InputError: no return is finite.
            InvalidValueError: an option of this kind cannot be used with these returns.
        """

    @abstractmethod
    def apply(self, returns: Floats, volatility: Floats | None = None) -> Floats:
        """Return the target of each row, float64 [n]; NaN where the return is not finite, only there.

        ``volatility`` [n] is the standard deviation of the label's return as known at each row.
        """

    @abstractmethod
    def score(self, outputs: Floats) -> Floats:
        """Return the score of each row, float64 [n], in rank units.

        ``outputs`` are the network's, [n] for one output and [n, outputs] for several.
        """

    @property
    @abstractmethod
    def start(self) -> tuple[float, ...]:
        """Outputs of the best constant prediction: where a network starts, and the loss it has to beat."""

    @property
    @abstractmethod
    def zero_score(self) -> float:
        """Score of a row for which no rise is expected: a score above it says "up"."""

    @property
    def outputs(self) -> int:
        """Number of the network's outputs a row."""
        return len(self.start)

    def to_json(self) -> FittedTarget:
        """Return ``kind`` and the fitted parameters as plain JSON values."""
        values = {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in asdict(self).items()}
        return {"kind": self.kind, **values}

    @classmethod
    def from_json(cls, fitted: FittedTarget) -> Self:
        """Return the target whose ``to_json`` is ``fitted``."""
        parameters = {n: np.asarray(v, np.float64) if isinstance(v, list) else v for n, v in fitted.items()}
        parameters.pop("kind", None)
        return cls(**parameters)


@dataclass(frozen=True)
class RankUnits(Target):
    """A target in rank units: one output a row, which is the score."""

    def score(self, outputs: Floats) -> Floats:
        """Return the outputs: they are in rank units."""
        return outputs

    @property
    def start(self) -> tuple[float, ...]:
        """The mean of the training targets."""
        return (MIDDLE,)


def finite_returns(returns: Floats) -> Floats:
    """Return the finite returns in ascending order.

    Raises:
        InputError: there is none.
    """
    finite: Floats = np.sort(returns[np.isfinite(returns)])
    if finite.size == 0:
        raise InputError(
            "Expected training rows with a label; found none."
            " Look at the bars: no bar is followed by another within the label's horizon."
        )
    return finite
