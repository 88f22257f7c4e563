"""Frames of the lake that are read when they are asked for and not kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.store import Lake, Manifest


class StoredFrames(Mapping[str, pl.DataFrame]):
    """Frames by contract. Each access reads one from the lake, so that a loop over all of them holds one at a time.

    ``manifests`` are those of the contents that were read.
    """

    def __init__(self, lake: Lake, keys: Mapping[str, str], columns: Sequence[str] | None = None) -> None:
        """Read nothing yet.

        Args:
            lake: the lake.
            keys: lake key of each contract's frame.
            columns: columns to read; None: all.
        """
        self.manifests: dict[str, Manifest] = {}
        self._lake = lake
        self._keys = dict(keys)
        self._columns = columns

    def __getitem__(self, contract: str) -> pl.DataFrame:
        """Return the frame of a contract.

        Raises:
            KeyError: there is no such contract.
            ArtifactError: there is no such artifact, it is damaged, or it has changed since it was last read here.
        """
        key = self._keys[contract]
        frame, manifest = self._lake.load(key, self._columns)
        before = self.manifests.setdefault(contract, manifest)
        if before.sha256 != manifest.sha256:
            expected = f"the content {before.sha256[:16]} that was read before"
            raise ArtifactError(self._lake.location(key), expected, manifest.sha256[:16])
        return frame

    def __contains__(self, contract: object) -> bool:
        """Return whether there is a key for a contract; nothing is read."""
        return contract in self._keys

    def __iter__(self) -> Iterator[str]:
        """Iterate over the contracts."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Return the number of contracts."""
        return len(self._keys)
