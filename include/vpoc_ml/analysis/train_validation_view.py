"""Training and validation rows of a run's training set, one column or one block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.feature_statistics import FeatureStatistics, read_feature_statistics
from vpoc_ml.dataset.robust_scaling import robust_scale
from vpoc_ml.dataset.scalers import Scaler, apply_column, scaler_from_json
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.errors import ArtifactError, MissingInputError
from vpoc_ml.evaluation.forecasts import Floats, Ints, LabelledRows

Mask = npt.NDArray[np.bool_]

SPLITS = ("train", "validation")
BLOCK = 65_536
_KEYS = ("split", "contract", "session", "ret", "weight", "last_ret")


@dataclass(frozen=True)
class TrainValidationView:
    """The training and validation rows, which come first in the file.

    ``keys`` has split, contract, session, ret (natural log return of the label), weight (1: labelled) and last_ret (log
    return of the bar itself) of each row. Only the keys and one feature, or one block of rows, are in memory.
    """

    path: Path
    keys: pl.DataFrame
    statistics: FeatureStatistics

    @property
    def features(self) -> list[str]:
        """Feature columns in model order."""
        return list(self.statistics.features)

    @cached_property
    def contracts(self) -> list[str]:
        """Contracts in the order of their first rows."""
        codes: list[str] = self.keys["contract"].unique(maintain_order=True).to_list()
        return codes

    @cached_property
    def contract(self) -> Ints:
        """Index in ``contracts`` of the contract of each row, (n,)."""
        numbers = range(len(self.contracts))
        return self.keys["contract"].replace_strict(self.contracts, numbers, return_dtype=pl.Int64).to_numpy()

    def mask(self, split: str, *, labelled: bool = False) -> Mask:
        """Return which rows belong to ``split``, (n,); with ``labelled``, those with a label."""
        chosen = self.keys["split"] == split
        return (chosen & (self.keys["weight"] == 1) if labelled else chosen).to_numpy()

    def column(self, name: str) -> Floats:
        """Return a raw feature or another column of every row, (n,) float64."""
        column = pl.scan_parquet(self.path).head(self.keys.height).select(name).collect()
        return column[name].to_numpy().astype(np.float64)

    def guarded(self, name: str, raw: Floats, clip: float) -> Floats:
        """Return values of one feature, (n,), as the network receives them: after scaler and guard."""
        at = self.features.index(name)
        entering = raw if self.scaler is None else apply_column(self.scaler.columns[at], raw)
        return robust_scale(entering, self.statistics.median[at], self.statistics.scale[at], clip)

    @cached_property
    def scaler(self) -> Scaler | None:
        """The scaler between the features and the guard, if the run has one."""
        stored = self.statistics.scaler
        return None if stored is None else scaler_from_json(stored)

    def blocks(self, split: str, clip: float, *, every: int = 1) -> Iterator[Floats]:
        """Yield the labelled rows of ``split``, all features as ``guarded`` gives them, (rows, f) float64.

        ``every``: use only every such labelled row.
        """
        centre, scale = (np.asarray(each) for each in (self.statistics.median, self.statistics.scale))
        wanted = np.flatnonzero(self.mask(split, labelled=True))[::every]
        for start in range(0, self.keys.height, BLOCK):
            inside = wanted[(wanted >= start) & (wanted < start + BLOCK)] - start
            if inside.size:
                block = pl.scan_parquet(self.path).slice(start, BLOCK).select(self.features).collect()
                raw = block[inside].to_numpy().astype(np.float64)
                yield robust_scale(raw if self.scaler is None else self.scaler.apply(raw), centre, scale, clip)

    def labelled_rows(self, split: str) -> LabelledRows:
        """Return the labelled rows of ``split`` for the metrics; ``y`` is the rank of the return."""
        rows = self.keys.filter((pl.col("split") == split) & (pl.col("weight") == 1))
        ranks = pl.Series("y", self.target.apply(rows["ret"].to_numpy()))
        return LabelledRows.of(rows.with_columns(ranks))

    @cached_property
    def target(self) -> RankTarget:
        """The rank target of the training rows, whatever target the model is trained on."""
        return RankTarget.fit(self.keys["ret"].to_numpy()[self.mask("train", labelled=True)])


def open_train_validation_view(run_dir: Path) -> TrainValidationView:
    """Open the training set of a run without its test rows.

    Raises:
        MissingInputError: the run has no training set.
        ArtifactError: training set and statistics do not belong together, test rows do not come last, or a
            split has no labelled row.
    """
    path = run_dir / layout.TRAINING_SET
    if not path.is_file():
        raise MissingInputError(path, "a training set", "Build the training set of this run first.")
    statistics = read_feature_statistics(run_dir)
    known = pl.read_parquet_schema(path)
    if absent := [name for name in (*_KEYS, *statistics.features) if name not in known]:
        raise ArtifactError(path, f"the columns {', '.join(absent)}", "no such columns")
    rows, in_view = pl.scan_parquet(path), pl.col("split").is_in(SPLITS)
    keys = rows.filter(in_view).select(_KEYS).collect()
    if not rows.head(keys.height).select(in_view.all()).collect().item():
        raise ArtifactError(path, "the test rows after those of train and validation", "test rows between them")
    view = TrainValidationView(path, keys, statistics)
    for split in SPLITS:
        if not view.mask(split, labelled=True).any():
            raise ArtifactError(path, f"labelled rows in the {split} split", "none")
    return view
