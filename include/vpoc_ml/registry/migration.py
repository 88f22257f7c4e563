"""Migrates a registry with one champion for all keys to one champion per key. It makes no decision anew.

Existing ledger entries stay unchanged. For each version in them, an ``assign`` entry records the key from the run's
configuration, and the version gets the key as a tag. Then each key's alias is moved to its champion according to the
ledger. The old alias is removed last. Completed steps are skipped, so the next access completes an interrupted
migration.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from vpoc_ml.artifacts import layout
from vpoc_ml.errors import ArtifactError, RegistryError
from vpoc_ml.registry import ledger as book
from vpoc_ml.registry.champion_history import champion_history, champions_of, keys
from vpoc_ml.registry.download import download
from vpoc_ml.registry.ledger import Ledger, LedgerEntry
from vpoc_ml.registry.mlflow_store import MlflowStore, ModelVersion
from vpoc_ml.registry.model_key import ModelKey

logger = logging.getLogger(__name__)


def migrate(ledger: Ledger, mlflow: MlflowStore) -> None:
    """Migrate the registry if it has one champion for all keys.

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
