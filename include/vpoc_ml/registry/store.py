"""The model store: versions and the champion, kept in MLflow; decisions, kept in the ledger.

The champion changes in two steps, the ledger's entry first and MLflow's alias ``champion`` last. A
process killed between them leaves the old champion in office and a decision on record. The ledger is
the truth: ``recover``, which every later promotion or rollback calls first, moves the alias to where
the ledger says, so the outcome does not depend on when the process died. For the same reason an alias
that somebody moved by hand is put back.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vpoc_ml.errors import ArtifactError, MissingInputError, RegistryError
from vpoc_ml.registry import ledger as book
from vpoc_ml.registry.copies import fetch
from vpoc_ml.registry.ledger import Entry, Ledger

logger = logging.getLogger(__name__)

MODEL, ALIAS, EXPERIMENT = "vpoc", "champion", "vpoc"
WEIGHTS = "best_model.safetensors"
REQUIRED = (WEIGHTS, "best_model.json", "config.json", "metrics.json", "feature_statistics.json")
OPTIONAL = ("report.html", "training_config.json")


@dataclass(frozen=True)
class Version:
    """One registered model. ``folder`` holds its files on this machine."""

    version: int
    run: str
    fingerprint: str
    folder: Path


class ModelStore:
    """Versions of the registered model ``vpoc`` at ``tracking_uri``.

    ``folder`` holds what belongs to this machine: the ledger, local copies of models under ``models/``
    and, for a local store, the artifacts.
    """

    def __init__(self, tracking_uri: str, *, folder: Path, artifacts: str | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.folder = folder.resolve()
        self.artifacts = artifacts
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        self._mlflow: Any = None

    @classmethod
    def local(cls, folder: Path) -> ModelStore:
        """Return the store that lives in ``folder`` alone: SQLite, artifacts beside it."""
        root = folder.resolve()
        root.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{root / 'mlflow.db'}", folder=root, artifacts=(root / "artifacts").as_uri())

    # ------------------------------------------------------------ versions

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
            RegistryError: this run name is registered with other weights.
        """
        files = _files(run_dir)
        weights = hash_bytes(run_dir / WEIGHTS)
        own = {"fingerprint": weights, **(tags or {}), "run": run_dir.name, "weights": weights}
        with self.ledger.locked():
            found = self._version_of_run(run_dir.name)
            if found is not None:
                return _same_weights(found, run_dir.name, weights)
            run = self._open_run(run_dir.name, own)
            self._log(run.info.run_id, files, metrics or {}, params or {})
            version = self._client.create_model_version(
                MODEL, source=f"{run.info.artifact_uri}/model", run_id=run.info.run_id, tags=own
            )
            self._client.set_terminated(run.info.run_id)
        return int(version.version)

    def list_models(self) -> list[dict[str, Any]]:
        """Return version, run, fingerprint, creation time (ms since 1970) and ``champion`` of every version."""
        champion = self._alias()
        found = self._client.search_model_versions(f"name='{MODEL}'")
        return [
            {
                "version": int(item.version),
                "run": item.tags["run"],
                "fingerprint": item.tags["fingerprint"],
                "created": int(item.creation_timestamp),
                "champion": int(item.version) == champion,
            }
            for item in sorted(found, key=lambda item: int(item.version))
        ]

    def champion(self) -> Version | None:
        """Return the champion in office with its files on this machine; None before the first promotion."""
        version = self._alias()
        return None if version is None else self.get(version)

    def get(self, version: int) -> Version:
        """Return a version with its files on this machine.

        Raises:
            RegistryError: there is no such version.
            ArtifactError: its weights are not those that were registered.
        """
        item = self._item(version)
        return Version(version, item.tags["run"], item.tags["fingerprint"], self._copy(item))

    def champion_folder(self, version: int) -> Path:
        """Return the folder with the files of ``version`` on this machine."""
        return self.get(version).folder

    # ------------------------------------------------------------ decisions

    def promote(self, version: int, reasons: Sequence[str], now: datetime) -> Version:
        """Make ``version`` champion: the ledger first, the alias last. A champion stays champion, unrecorded.

        Raises:
            RegistryError: there is no such version, or the ledger is broken.
        """
        with self.ledger.locked():
            self.recover(now)
            candidate = self.get(version)
            if self._alias() != version:
                self.ledger.append(book.PROMOTE, version=version, reasons=reasons, now=now)
                self._move_alias(version)
        return candidate

    def refuse(self, version: int | None, reasons: Sequence[str], now: datetime) -> Entry:
        """Record that a candidate was refused; the champion stays as it is."""
        return self.ledger.append(book.REFUSE, version=version, reasons=reasons, now=now)

    def rollback(self, reason: str, now: datetime, *, expected: int | None = None) -> Version:
        """Put the champion before the present one back into office, and return it.

        Each rollback goes one promotion further back. ``expected`` names the version to be removed, so
        that a request that is repeated by mistake does not remove two. A call that finds an unfinished
        rollback finishes it and goes no further.

        Raises:
            RegistryError: there is no earlier champion, or another one than ``expected`` is in office.
        """
        with self.ledger.locked():
            pending = self.recover(now)
            history = champions(self.ledger.entries())
            if pending is not None and pending.action == book.ROLLBACK:
                return self.get(history[-1])
            if expected is not None and history[-1:] != [expected]:
                raise RegistryError(
                    f"Expected version {expected} as champion to roll back; was {history[-1:] or 'none'}."
                    " It may have been rolled back already: look at the ledger."
                )
            if len(history) < 2:
                raise RegistryError(
                    f"Expected an earlier champion to go back to; the ledger has {len(history)} champion(s)."
                    " Promote another version instead."
                )
            previous = self.get(history[-2])
            self.ledger.append(book.ROLLBACK, version=previous.version, reasons=[reason], now=now)
            self._move_alias(previous.version)
        return previous

    def recover(self, now: datetime) -> Entry | None:
        """Move the alias to where the ledger says; return the decision this completed, None if all was well."""
        with self.ledger.locked():
            entries = self.ledger.entries()
            history = champions(entries)
            target, alias = (history[-1] if history else None), self._alias()
            if target == alias:
                return None
            if target is None:
                raise RegistryError(
                    f"Expected no champion, as {self.ledger.path} names none; MLflow's alias is on version {alias}."
                    " Restore the ledger, or delete the alias."
                )
            decision = [entry for entry in entries if entry.action in (book.PROMOTE, book.ROLLBACK)][-1]
            self._move_alias(target)
            reason = (
                f"The alias was on {_shown(alias)}; entry {decision.seq} ({decision.action}) says version {target}."
            )
            logger.warning("%s", reason)
            self.ledger.append(book.RECOVER, version=target, reasons=[reason], now=now)
            return decision

    # ------------------------------------------------------------ MLflow

    @property
    def _client(self) -> Any:
        if self._mlflow is None:
            self._mlflow = _quiet_client(self.tracking_uri)
            self._prepare(self._mlflow)
        return self._mlflow

    def _prepare(self, client: Any) -> None:
        if client.get_experiment_by_name(EXPERIMENT) is None:
            client.create_experiment(EXPERIMENT, artifact_location=self.artifacts)
        if not client.search_registered_models(f"name='{MODEL}'"):
            client.create_registered_model(MODEL)

    def _open_run(self, name: str, tags: Mapping[str, str]) -> Any:
        experiment = self._client.get_experiment_by_name(EXPERIMENT).experiment_id
        unfinished = self._client.search_runs(
            [experiment], f"tags.run = '{name}' and tags.weights = '{tags['weights']}'"
        )
        if unfinished:
            return unfinished[0]
        return self._client.create_run(experiment, tags=dict(tags), run_name=name)

    def _log(self, run_id: str, files: Sequence[Path], metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            self._client.log_param(run_id, name, value)
        for name, number in metrics.items():
            self._client.log_metric(run_id, name, number)
        for path in files:
            self._client.log_artifact(run_id, str(path), "model")

    def _version_of_run(self, run: str) -> Any:
        found = self._client.search_model_versions(f"name='{MODEL}' and tags.run = '{run}'")
        return found[0] if found else None

    def _alias(self) -> int | None:
        aliases = self._client.get_registered_model(MODEL).aliases
        return int(aliases[ALIAS]) if ALIAS in aliases else None

    def _move_alias(self, version: int) -> None:
        self._client.set_registered_model_alias(MODEL, ALIAS, str(version))

    def _item(self, version: int) -> Any:
        found = self._client.search_model_versions(f"name='{MODEL}' and version_number = {version}")
        if not found:
            raise RegistryError(
                f"Expected a registered version of {MODEL}; was {version}. `vpoc-ml models` lists them."
            )
        return found[0]

    def _copy(self, item: Any) -> Path:
        target = self.folder / "models" / str(item.version)
        return fetch(item.source, target, check=lambda folder: _check_weights(folder, item))


def champions(entries: Sequence[Entry]) -> list[int]:
    """Return the champions in order of office, the present one last; a rollback takes the last one off."""
    history: list[int] = []
    for entry in entries:
        if entry.action == book.PROMOTE and entry.version is not None:
            history.append(entry.version)
        elif entry.action == book.ROLLBACK:
            history.pop()
    return history


def hash_bytes(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _quiet_client(tracking_uri: str) -> Any:
    """MLflow's client without telemetry, migration logs and its advice on this and that."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # after the import, which sets its own levels
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _files(run_dir: Path) -> list[Path]:
    for name in REQUIRED:
        if not (run_dir / name).is_file():
            raise MissingInputError(run_dir / name, "a file of the model", "Train and evaluate the run first.")
    return [run_dir / name for name in (*REQUIRED, *OPTIONAL) if (run_dir / name).is_file()]


def _same_weights(item: Any, run: str, weights: str) -> int:
    if item.tags["weights"] != weights:
        raise RegistryError(
            f"Expected run {run!r} to be registered once; version {item.version} has weights"
            f" {item.tags['weights'][:12]}, these are {weights[:12]}. Give the new run another name."
        )
    return int(item.version)


def _check_weights(folder: Path, item: Any) -> None:
    path = folder / WEIGHTS
    found = hash_bytes(path) if path.is_file() else "no file"
    if found != item.tags["weights"]:
        raise ArtifactError(path, f"the registered weights {item.tags['weights'][:12]}", found[:12])


def _shown(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
