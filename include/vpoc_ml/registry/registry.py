"""The registry of all model keys: one ledger and one registered model in MLflow.

It is migrated and verified before anything is read. ``migrate`` turns a registry with one champion for all keys into
one with a champion per key; it makes no decision anew.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vpoc_ml import environment
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.model_card import ModelSummary, VersionDecision
from vpoc_ml.errors import ArtifactError, ConfigError, RegistryError
from vpoc_ml.lake.store import Lake
from vpoc_ml.registry import ledger as book
from vpoc_ml.registry.ledger import (
    Ledger,
    LedgerEntry,
    champion_history,
    champions_of,
    keys,
)
from vpoc_ml.registry.mlflow_store import MlflowStore, ModelVersion, download
from vpoc_ml.registry.model_key import ModelKey

logger = logging.getLogger(__name__)


def registry_folder(lake: Lake) -> Path:
    """Return the folder of the ledger and the models' copies: ``VPOC_REGISTRY``, else ``registry/`` of the lake.

    Raises:
        ConfigError: the lake lies in an object store, where no ledger can be appended to, and no folder is named.
    """
    named = environment.read(environment.REGISTRY)
    if named is None and lake.remote:
        raise ConfigError(
            f"Expected a folder for the registry of the lake {lake.root}; was none."
            " Set VPOC_REGISTRY to a folder that every machine which evaluates, promotes or scores can see"
            " (and MLFLOW_TRACKING_URI where MLflow is a server)."
        )
    return Path(named) if named else lake.folder(layout.REGISTRY)


def migrate(ledger: Ledger, mlflow: MlflowStore) -> None:
    """Migrate the registry if it has one champion for all keys.

    Existing ledger entries stay unchanged. For each version in them, an ``assign`` entry records the key from the
    run's configuration, and the version gets the key as a tag. Then each key's alias is moved to its champion
    according to the ledger. The old alias is removed last. Completed steps are skipped, so the next access completes
    an interrupted migration.

    Raises:
        RegistryError: the ledger is broken, MLflow has lost the champion, or a version's configuration cannot be read.
    """
    with ledger.locked():
        versions = mlflow.versions()
        unkeyed = [item for item in versions if item.key is None]
        if not unkeyed and mlflow.alias(None) is None:
            return
        entries = ledger.entries()
        _check_champion(entries, versions, mlflow.alias(None))
        for item in unkeyed:
            key = _key(item)
            about = [entry for entry in ledger.entries() if entry.version == item.version]
            if about and not any(entry.key for entry in about):
                reason = f"The key is that of the configuration of run {item.run}."
                then = datetime.fromisoformat(about[-1].time)  # the key applied since then: this decides nothing
                ledger.append(book.ASSIGN, version=item.version, key=str(key), reasons=[reason], now=then)
            mlflow.set_key(item.version, key)
        entries = ledger.entries()
        for key in keys(entries):
            history = champions_of(entries, key)
            if history and mlflow.alias(key) != history[-1]:
                mlflow.move_alias(key, history[-1])
        if mlflow.alias(None) is not None:
            mlflow.drop_unkeyed_alias()
        migrated = ", ".join(map(str, keys(entries))) or "no key"
        logger.warning("%s: the registry has one champion for each of %s now", ledger.path, migrated)


def _check_champion(entries: Sequence[LedgerEntry], versions: Sequence[ModelVersion], alias: int | None) -> None:
    history = champion_history(entries)
    if alias is not None and not history:
        raise RegistryError(
            f"Expected the promotion of version {alias}, which carries MLflow's alias, in the ledger; found none."
            " Restore the ledger, or delete the alias."
        )
    if history and history[-1][0] not in {item.version for item in versions}:
        raise RegistryError(
            f"Expected version {history[-1][0]}, the champion according to the ledger, in MLflow; found none."
            " Restore MLflow's database and artifacts from a backup."
        )


def _key(item: ModelVersion) -> ModelKey:
    where = f"{item.source.rstrip('/')}/{layout.CONFIG}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            download(where, Path(folder, "config"))
            return ModelKey.of_stored(Path(folder, "config", layout.CONFIG).read_bytes())
        except (ArtifactError, OSError, ValueError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"Expected the configuration of version {item.version} (run {item.run}) at {where}; {error}."
                " Restore the file, or delete the version in MLflow if it is no champion."
            ) from error


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
        return cls(f"sqlite:///{root / layout.MLFLOW_DATABASE}", folder=root, artifacts=(root / "artifacts").as_uri())

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
            if entry.action in book.DECISIONS
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
