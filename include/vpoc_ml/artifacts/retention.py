"""Result of ``vpoc-ml retain``: what was deleted because no kept run needs it."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact


class Retention(JsonArtifact):
    """What was deleted, or would be.

    Attributes:
        deleted: whether the files were deleted; False for a trial.
        kept: runs that keep all their files.
        runs: older runs that lost their training set and the leftovers of their training.
        folds: folders of folds that no kept run uses.
        files: number of files.
    """

    deleted: bool
    kept: int
    runs: tuple[str, ...]
    folds: tuple[str, ...]
    files: int
