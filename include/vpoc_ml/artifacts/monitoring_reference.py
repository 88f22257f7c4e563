"""``monitoring_reference.json``: what the training rows of a model looked like, for the check of later sessions."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact


class Moments(JsonArtifact):
    """Mean, standard deviation and share above zero of the finite values of a column."""

    mean: float
    std: float
    up: float


class ColumnReference(JsonArtifact):
    """One column of the training rows.

    Attributes:
        name: the column.
        rows: number of training rows.
        missing: how many of them are not finite.
        edges: ascending edges of the bins: smallest value, deciles, largest value, without repeated ones; of a
            constant its value twice.
        counts: finite values in each bin; the first lies below the smallest value, the last above the largest.
        blocks: by name of the distance, that of every block of sessions from all other blocks, ascending.
        moments: of the label; None for a feature.
    """

    name: str
    rows: int
    missing: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    blocks: dict[str, tuple[float, ...]]
    moments: Moments | None = None


class MonitoringReference(JsonArtifact):
    """The training rows of a model, column by column.

    Attributes:
        first, last: first and last session, ISO dates.
        block_sessions: sessions of a block.
        block_count: number of blocks; an incomplete one at the beginning of the rows is none.
        features: the features in model order.
        label: the return that the model predicts. Its deciles are those of the rank target.
    """

    first: str
    last: str
    block_sessions: int
    block_count: int
    features: tuple[ColumnReference, ...]
    label: ColumnReference
