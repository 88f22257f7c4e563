"""Result of ``vpoc-ml verify``: what was checked in a lake, and what is wrong with it."""

from __future__ import annotations

from vpoc_ml.artifacts.json_artifact import JsonArtifact


class Problem(JsonArtifact):
    """One problem.

    Attributes:
        place: path or URL of the file, or the name of the version.
        found: what is wrong.
        remedy: what to do.
    """

    place: str
    found: str
    remedy: str

    def to_line(self) -> str:
        """Return the problem as one line of text."""
        return f"{self.place}: {self.found}. {self.remedy}"


class Verification(JsonArtifact):
    """What was checked in a lake, and the problems.

    Attributes:
        entries: entries of the ledger.
        versions: registered versions.
        artifacts: artifacts with a manifest.
        folds: complete walk-forward folds.
        champions: champions whose lineage was followed.
        problems: everything that is wrong.
    """

    entries: int
    versions: int
    artifacts: int
    folds: int
    champions: int
    problems: tuple[Problem, ...]
