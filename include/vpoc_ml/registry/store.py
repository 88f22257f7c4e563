"""The models of one key: versions and champions in MLflow, decisions in the ledger.

Each ``ModelKey`` has one champion. All keys share the ledger and the registered model in MLflow. The champion changes
in two steps: first the ledger entry is written, then MLflow's champion alias is moved. If the process is killed
between them, the decision is recorded and the alias still names the old champion. The ledger decides: ``recover``
moves the alias to the version that the ledger names. Every promotion and rollback calls it first. It also corrects an
alias that was moved by hand. Every read verifies the ledger.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.model_card import ModelSummary
from vpoc_ml.errors import ArtifactError, MissingInputError, RegistryError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.registry import ledger as book
from vpoc_ml.registry.ledger import RULE, LedgerEntry, champions_of, key_of, presets_tried
from vpoc_ml.registry.mlflow_copies import stored_points
from vpoc_ml.registry.mlflow_store import ModelVersion, local_copy
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.registry.registry import Registry

logger = logging.getLogger(__name__)

UNNAMED = "a person without a name"
WEIGHTS = f"{layout.BEST_MODEL}.safetensors"
REQUIRED = (WEIGHTS, layout.BEST_MODEL_CARD, layout.CONFIG, layout.METRICS, layout.FEATURE_STATISTICS)
OPTIONAL = (
    layout.REPORT,
    layout.TRAINING_CONFIG,
    layout.LINEAGE,
    layout.TRACK_RECORD,
    layout.TRACK_RECORD_PREDICTIONS,
    layout.SESSION_SCORES,
    layout.MONITORING_REFERENCE,
)


@dataclass(frozen=True)
class Champion:
    """A version that is, was or may become champion. ``folder`` holds a local copy of its files."""

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
        """Return the models of ``key`` in a registry that is stored in ``folder`` only."""
        return cls(Registry.local(folder), key)

    def log_run(
        self,
        run_dir: Path,
        *,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> int:
        """Register the model of ``run_dir`` and return its version. The same run returns the same version again.

        The run's name is the folder's name. ``tags["fingerprint"]`` identifies training data, settings and code;
        without it the hash of the weights is used. The next call completes an interrupted registration.

        Raises:
            MissingInputError: a file of the model is missing.
            RegistryError: this run name is registered with other weights or under another key.
        """
        for name in REQUIRED:
            if not (run_dir / name).is_file():
                raise MissingInputError(run_dir / name, "a file of the model", "Train and evaluate the run first.")
        run, files = run_dir.name, [run_dir / n for n in (*REQUIRED, *OPTIONAL) if (run_dir / n).is_file()]
        weights = hash_file(run_dir / WEIGHTS)
        with self.locked():
            found = self.mlflow.of_run(run)
            if found is not None:
                self._check_key(found)
                if found.weights != weights:
                    raise RegistryError(
                        f"Expected run {run!r} to be registered once; version {found.version} has weights"
                        f" {found.weights[:12]}, these are {weights[:12]}. Give the new run another name."
                    )
                return found.version
            hashes = json.dumps({path.name: hash_file(path) for path in files})
            own = {"fingerprint": weights, **(tags or {}), "run": run, "weights": weights, "key": str(self.key)}
            own["files"] = hashes
            return self.mlflow.register(
                run, files, metrics=metrics or {}, params=params or {}, tags=own, curves=stored_points(run_dir)
            )

    def version_of(self, run: str) -> int:
        """Return the version that a run registered.

        Raises:
            RegistryError: it has registered none.
        """
        found = self.mlflow.of_run(run)
        if found is None:
            raise RegistryError(
                f"Expected a registered version of run {run}; found none. Run it up to the decision first."
            )
        self._check_key(found)
        return found.version

    def consider(self, version: int, preset: str, reasons: Sequence[str], now: datetime) -> dict[str, int]:
        """Record a candidate, once; return the newest version of every preset tried, in the order of the first trial.

        Args:
            version: the registered candidate.
            preset: identity of its settings and code.
            reasons: what its evidence is.
            now: timezone-aware.
        """
        with self.locked():
            if not any((each.action, each.version) == (book.CANDIDATE, version) for each in self.entries()):
                self._append(book.CANDIDATE, version, reasons, now, preset=preset)
            return presets_tried(self.entries(), self.key)

    def list_models(self) -> list[ModelSummary]:
        """Return the versions of the key, oldest first."""
        return [model for model in self.registry.models() if model.key == str(self.key)]

    def champion(self) -> Champion | None:
        """Return the current champion with a local copy of its files; None before the first promotion.

        Raises:
            RegistryError: the ledger was changed after it was written.
        """
        self.entries()
        version = self.mlflow.alias(self.key)
        return None if version is None else self.get(version)

    def champion_at(self, when: datetime) -> Champion | None:
        """Return the champion at ``when`` (timezone-aware), according to the ledger; None if there was none."""
        history = champions_of(self.entries(), self.key, when)
        return self.get(history[-1]) if history else None

    def get(self, version: int) -> Champion:
        """Return a version with a local copy of its files.

        Raises:
            RegistryError: the version does not exist or has another key.
            ArtifactError: its files are missing or its weights differ from the registered ones.
        """
        self.entries()
        item = self.mlflow.get(version)
        self._check_key(item)

        def check_weights(folder: Path) -> None:
            path = folder / WEIGHTS
            found = hash_file(path) if path.is_file() else "no file"
            if found != item.weights:
                raise ArtifactError(path, f"the registered weights {item.weights[:12]}", found[:12])

        folder = local_copy(item.source, self.folder / "models" / str(version), check=check_weights)
        return Champion(version, item.run, item.fingerprint, folder)

    def promote(self, version: int, reasons: Sequence[str], now: datetime, actor: str = RULE) -> Champion:
        """Make ``version`` the champion; ``actor`` decided it. Promoting the current champion changes nothing.

        Raises:
            RegistryError: the version does not exist, or the ledger is broken.
            ArtifactError: its files cannot be read; the champion stays.
        """
        with self.locked():
            self.recover(now)
            candidate = self.get(version)
            if self.mlflow.alias(self.key) != version:
                self._append(book.PROMOTE, version, reasons, now, actor=actor)
                self.mlflow.move_alias(self.key, version)
        return candidate

    def refuse(self, version: int, reasons: Sequence[str], now: datetime) -> LedgerEntry:
        """Record that the promotion rule refused a candidate. The champion stays."""
        return self._append(book.REFUSE, version, reasons, now)

    def reject(self, version: int, reasons: Sequence[str], now: datetime, actor: str) -> LedgerEntry:
        """Record that a person rejected a candidate accepted by the rule. The champion stays."""
        return self._append(book.REJECT, version, reasons, now, actor=actor)

    def expire(self, version: int, reasons: Sequence[str], now: datetime) -> LedgerEntry:
        """Record that nobody approved a candidate in time. The champion stays."""
        return self._append(book.EXPIRE, version, reasons, now)

    def rollback(self, reason: str, now: datetime, *, expected: int | None = None, actor: str = UNNAMED) -> Champion:
        """Restore the previous champion and return it; ``actor`` decided it.

        Each rollback goes one promotion further back. ``expected`` is the current champion; a request repeated by
        mistake then fails instead of removing a second one. If an earlier rollback was interrupted, this call only
        completes it.

        Raises:
            RegistryError: there is no previous champion, or the current one is not ``expected``.
        """
        with self.locked():
            completed = self.recover(now)
            history = champions_of(self.entries(), self.key)
            if completed is not None and completed.action == book.ROLLBACK:
                return self.get(history[-1])
            current = history[-1] if history else None
            if expected is not None and expected != current:
                raise RegistryError(
                    f"Expected version {expected} as the champion to roll back; found {current}."
                    " It may have been rolled back already: check the ledger."
                )
            if len(history) < 2:
                raise RegistryError(
                    f"Expected a previous champion to restore; the ledger has {len(history)} champion(s) in its"
                    " history. Promote another version instead."
                )
            previous = self.get(history[-2])
            self._append(book.ROLLBACK, previous.version, [reason], now, actor=actor)
            self.mlflow.move_alias(self.key, previous.version)
        return previous

    def recover(self, now: datetime) -> LedgerEntry | None:
        """Move the alias to the ledger's champion; return the decision that this completed, None if nothing was wrong.

        Raises:
            RegistryError: MLflow has a champion and the ledger has none, so the ledger was lost.
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
            reason = f"The alias was on version {alias}; entry {decision.seq} names version {history[-1]}."
            logger.warning("%s", reason)
            self._append(book.RECOVER, history[-1], [reason], now)
            return decision

    def _append(
        self,
        action: str,
        version: int,
        reasons: Sequence[str],
        now: datetime,
        *,
        preset: str | None = None,
        actor: str = RULE,
    ) -> LedgerEntry:
        with self.locked():
            return self.ledger.append(
                action, version=version, key=str(self.key), preset=preset, actor=actor, reasons=reasons, now=now
            )

    def _check_key(self, item: ModelVersion) -> None:
        if item.key != self.key:
            raise RegistryError(
                f"Expected a version of {self.key}; version {item.version} (run {item.run}) is of {item.key}."
                " A model is compared with and replaced by models of its own key only."
            )
