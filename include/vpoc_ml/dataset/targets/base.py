"""The interface of all targets: fit, apply, score and storage."""

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
    """The quantity a network is trained on, fitted on the returns of the training rows only.

    ``apply`` turns returns into the targets of the loss. ``score`` turns the network's outputs into one number per row
    **in rank units**: it rises with the expected return and is 0.5 for an average training row. Models of all kinds are
    therefore evaluated and compared on one scale, that of the rank target.

    Attributes:
        kind: name in ``dataset.target``.
        predicts: description of the network's output.
        loss: ``huber`` (the trainer's delta, which is in rank units), ``bce`` (one logit; a target of 0.5 is
            a tie), ``cross_entropy`` (one logit per class; the target is the number of the class) or
            ``pinball`` (one output per level of ``levels``).
        needs_volatility: ``apply`` needs the volatility known at each row.
    """

    kind: ClassVar[str]
    predicts: ClassVar[str]
    loss: ClassVar[Loss] = "huber"
    needs_volatility: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def fit(cls, returns: Floats, volatility: Floats | None, config: DatasetConfig) -> Self:
        """Fit on the log returns [n] of the training rows. Non-finite returns are left out.

        Raises:
            InputError: no return is finite.
            InvalidValueError: an option of this kind does not suit these returns.
        """

    @abstractmethod
    def apply(self, returns: Floats, volatility: Floats | None = None) -> Floats:
        """Return the target of each row, float64 [n]; NaN exactly where the return is not finite.

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
        """Outputs of the best constant prediction: the start of a network, and the loss to beat."""

    @property
    @abstractmethod
    def zero_score(self) -> float:
        """Score of a row with no expected change. A higher score predicts a rise."""

    @property
    def outputs(self) -> int:
        """Number of the network's outputs per row."""
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
            " Shorten dataset.horizon, or check the bars: no label ends at an existing bar."
        )
    return finite
