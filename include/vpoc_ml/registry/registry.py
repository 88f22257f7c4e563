"""The registry of all model keys: one ledger and one registered model in MLflow.

It is migrated and verified before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.model_card import ModelSummary, VersionDecision
from vpoc_ml.registry.champion_history import keys
from vpoc_ml.registry.ledger import ASSIGN, RECOVER, Ledger, LedgerEntry
from vpoc_ml.registry.migration import migrate
from vpoc_ml.registry.mlflow_store import MlflowStore
from vpoc_ml.registry.model_key import ModelKey


class Registry:
    """The registry at ``tracking_uri``.

    ``folder`` holds the ledger, local copies of models (``models/``) and, for a local registry, MLflow's artifacts.
    """

    def __init__(self, tracking_uri: str, *, folder: Path, artifacts: str | None = None) -> None:
        self.folder = folder.resolve()
        self.mlflow = MlflowStore(tracking_uri, artifacts)
        self.ledger = Ledger(self.folder / layout.LEDGER, self.mlflow)
        self._migrated = False

    @classmethod
    def local(cls, folder: Path) -> Registry:
        """Return a registry that is stored in ``folder`` only: MLflow's SQLite file and its artifacts."""
        root = folder.resolve()
        root.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{root / 'mlflow.db'}", folder=root, artifacts=(root / "artifacts").as_uri())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the registry against every other process; it is migrated and verified. The lock may be nested."""
        with self.ledger.locked():
            self.entries()
            yield

    def entries(self) -> list[LedgerEntry]:
        """Return the entries of all keys, oldest first, verified.

        Raises:
            RegistryError: the ledger was changed after it was written.
        """
        if not self._migrated:
            migrate(self.ledger, self.mlflow)
            self._migrated = True
        return self.ledger.entries()

    def keys(self) -> list[ModelKey]:
        """Return the keys with at least one decision, sorted."""
        return keys(self.entries())

    def models(self) -> list[ModelSummary]:
        """Return every version of every key, by key, oldest first."""
        entries, metrics = self.entries(), self.mlflow.metrics()
        decisions = {
            entry.version: VersionDecision(action=entry.action, time=entry.time, reasons=entry.reasons)
            for entry in entries
            if entry.action not in (ASSIGN, RECOVER)
        }
        champions: dict[ModelKey | None, int | None] = {key: self.mlflow.alias(key) for key in keys(entries)}
        versions = sorted(self.mlflow.versions(), key=lambda item: (str(item.key), item.version))
        return [
            ModelSummary(
                version=item.version,
                key=str(item.key),
                run=item.run,
                fingerprint=item.fingerprint,
                registered=datetime.fromtimestamp(item.created_ms / 1000, UTC).isoformat(timespec="seconds"),
                champion=item.version == champions.get(item.key),
                metrics=metrics.get(item.run_id, {}),
                decision=decisions.get(item.version),
            )
            for item in versions
        ]
