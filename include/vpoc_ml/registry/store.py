"""The model store: versions and champions, kept in MLflow; decisions, kept in the ledger.

There is one champion a ``ModelKey``; versions, ledger and MLflow's model are shared by all keys. A champion
changes in two steps, the ledger's entry first and MLflow's alias of the key last. A process killed between
them leaves the old champion in office and a decision on record. The ledger is the truth: ``recover``, which
every later promotion or rollback calls first, moves the alias to where the ledger says, so the outcome does
not depend on when the process died. For the same reason an alias that somebody moved by hand is put back.
Every read verifies the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vpoc_ml.errors import ArtifactError, MissingInputError, RegistryError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.registry import ledger as book
from vpoc_ml.registry.champion_history import champions_of, key_of
from vpoc_ml.registry.download import local_copy
from vpoc_ml.registry.ledger import LedgerEntry
from vpoc_ml.registry.mlflow_curves import stored_points
from vpoc_ml.registry.mlflow_store import ModelVersion
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.registry.registry import Registry

logger = logging.getLogger(__name__)

WEIGHTS = "best_model.safetensors"
REQUIRED = (WEIGHTS, "best_model.json", "config.json", "metrics.json", "feature_statistics.json")
OPTIONAL = ("report.html", "training_config.json")


@dataclass(frozen=True)
class Champion:
    """A version that is, was or may become champion. ``folder`` holds its files on this machine."""

    version: int
    run: str
    fingerprint: str
    folder: Path


class ModelStore:
    """The models of one ``key`` in a registry."""

    def __init__(self, registry: Registry, key: ModelKey) -> None:
        self.registry = registry
        self.key = key
        self.folder, self.mlflow, self.ledger = registry.folder, registry.mlflow, registry.ledger
        self.entries, self.locked = registry.entries, registry.locked

    @classmethod
    def local(cls, folder: Path, key: ModelKey) -> ModelStore:
        """Return the models of ``key`` in the registry that lives in ``folder`` alone."""
        return cls(Registry.local(folder), key)

    def log_run(
        self,
        run_dir: Path,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> int:
        """Register the model of ``run_dir`` and return its version; the same run again returns the same version.

        The run's name is the folder's name. ``tags["fingerprint"]`` identifies what it was trained on
        and how; without it the hash of the weights is used. A run whose logging was interrupted is
        completed by the next call.

        Raises:
            MissingInputError: a file of the model is absent.
            RegistryError: this run name is registered with other weights or under another key.
        """
        files, run = _files(run_dir), run_dir.name
        weights = hash_file(run_dir / WEIGHTS)
        with self.locked():
            found = self.mlflow.of_run(run)
            if found is not None:
                self._check_key(found)
                return _same_weights(found, weights)
            own = {"fingerprint": weights, **(tags or {}), "run": run, "weights": weights, "key": str(self.key)}
            return self.mlflow.register(
                run, files, metrics=metrics or {}, params=params or {}, tags=own, curves=stored_points(run_dir)
            )

    def list_models(self) -> list[dict[str, Any]]:
        """Return the versions of the key, oldest first, as ``Registry.models`` describes them."""
        return [model for model in self.registry.models() if model["key"] == str(self.key)]

    def champion(self) -> Champion | None:
        """Return the champion in office with its files on this machine; None before the first promotion.

        Raises:
            RegistryError: the ledger was changed after it was written.
        """
        self.entries()
        version = self.mlflow.alias(self.key)
        return None if version is None else self.get(version)

    def champion_at(self, when: datetime) -> Champion | None:
        """Return the champion that the ledger had in office at ``when`` (timezone-aware); None if there was none."""
        history = champions_of(self.entries(), self.key, when)
        return self.get(history[-1]) if history else None

    def get(self, version: int) -> Champion:
        """Return a version with its files on this machine.

        Raises:
            RegistryError: there is no such version, or it is of another key.
            ArtifactError: its files are gone or its weights are not those that were registered.
        """
        self.entries()
        item = self.mlflow.get(version)
        self._check_key(item)
        target = self.folder / "models" / str(version)
        folder = local_copy(item.source, target, check=lambda found: _check_weights(found, item))
        return Champion(version, item.run, item.fingerprint, folder)

    def champion_folder(self, version: int) -> Path:
        """Return the folder with the files of ``version`` on this machine."""
        return self.get(version).folder

    def promote(self, version: int, reasons: Sequence[str], now: datetime) -> Champion:
        """Make ``version`` champion: the ledger first, the alias last. Promoting the champion changes nothing.

        Raises:
            RegistryError: there is no such version, or the ledger is broken.
            ArtifactError: its files cannot be had; the champion stays.
        """
        with self.locked():
            self.recover(now)
            candidate = self.get(version)
            if self.mlflow.alias(self.key) != version:
                self._append(book.PROMOTE, version, reasons, now)
                self.mlflow.move_alias(self.key, version)
        return candidate

    def refuse(self, version: int, reasons: Sequence[str], now: datetime) -> LedgerEntry:
        """Record that the promotion rule refused a candidate; the champion stays as it is."""
        return self._append(book.REFUSE, version, reasons, now)

    def reject(self, version: int, reasons: Sequence[str], now: datetime) -> LedgerEntry:
        """Record that a person rejected a candidate that the rule would promote; the champion stays as it is."""
        return self._append(book.REJECT, version, reasons, now)

    def expire(self, version: int, reasons: Sequence[str], now: datetime) -> LedgerEntry:
        """Record that nobody approved a candidate in time; the champion stays as it is."""
        return self._append(book.EXPIRE, version, reasons, now)

    def rollback(self, reason: str, now: datetime, *, expected: int | None = None) -> Champion:
        """Put the champion before the present one back into office, and return it.

        Each rollback goes one promotion further back. ``expected`` names the version to be removed, so
        that a request repeated by mistake does not remove two. A call that finds an unfinished rollback
        finishes it and goes no further.

        Raises:
            RegistryError: there is no earlier champion, or another one than ``expected`` is in office.
        """
        with self.locked():
            completed = self.recover(now)
            history = champions_of(self.entries(), self.key)
            if completed is not None and completed.action == book.ROLLBACK:
                return self.get(history[-1])
            previous = self.get(_before(history, expected))
            self._append(book.ROLLBACK, previous.version, [reason], now)
            self.mlflow.move_alias(self.key, previous.version)
        return previous

    def recover(self, now: datetime) -> LedgerEntry | None:
        """Move the alias to where the ledger says; return the decision this completed, None if all was well.

        Raises:
            RegistryError: the ledger names no champion but MLflow has one: the ledger was lost.
        """
        with self.locked():
            entries = self.entries()
            history, alias = champions_of(entries, self.key), self.mlflow.alias(self.key)
            if (not history and alias is None) or history[-1:] == [alias]:
                return None
            if not history:
                raise RegistryError(
                    f"Expected no champion of {self.key}, as {self.ledger.path} names none; MLflow's alias is on"
                    f" version {alias}. Restore the ledger, or delete the alias."
                )
            decisions = [entry for entry in entries if entry.action in (book.PROMOTE, book.ROLLBACK)]
            decision = [entry for entry in decisions if key_of(entry, entries) == str(self.key)][-1]
            self.mlflow.move_alias(self.key, history[-1])
            reason = f"The alias was on version {alias}; entry {decision.seq} says version {history[-1]}."
            logger.warning("%s", reason)
            self._append(book.RECOVER, history[-1], [reason], now)
            return decision

    def _append(self, action: str, version: int, reasons: Sequence[str], now: datetime) -> LedgerEntry:
        with self.locked():
            return self.ledger.append(action, version=version, key=str(self.key), reasons=reasons, now=now)

    def _check_key(self, item: ModelVersion) -> None:
        if item.key != self.key:
            raise RegistryError(
                f"Expected a version of {self.key}; version {item.version} (run {item.run}) is of {item.key}."
                " A model is compared with and replaced by models of its own key only."
            )


def _before(history: Sequence[int], expected: int | None) -> int:
    present = history[-1] if history else None
    if expected is not None and expected != present:
        raise RegistryError(
            f"Expected version {expected} in office to roll back; was {present}."
            " It may have been rolled back already: look at the ledger."
        )
    if len(history) < 2:
        raise RegistryError(
            f"Expected an earlier champion to go back to; the ledger has {len(history)} champion(s) in its history."
            " Promote another version instead."
        )
    return history[-2]


def _files(run_dir: Path) -> list[Path]:
    for name in REQUIRED:
        if not (run_dir / name).is_file():
            raise MissingInputError(run_dir / name, "a file of the model", "Train and evaluate the run first.")
    return [run_dir / name for name in (*REQUIRED, *OPTIONAL) if (run_dir / name).is_file()]


def _same_weights(found: ModelVersion, weights: str) -> int:
    if found.weights != weights:
        raise RegistryError(
            f"Expected run {found.run!r} to be registered once; version {found.version} has weights"
            f" {found.weights[:12]}, these are {weights[:12]}. Give the new run another name."
        )
    return found.version


def _check_weights(folder: Path, item: ModelVersion) -> None:
    path = folder / WEIGHTS
    found = hash_file(path) if path.is_file() else "no file"
    if found != item.weights:
        raise ArtifactError(path, f"the registered weights {item.weights[:12]}", found[:12])
