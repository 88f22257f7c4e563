"""The registry of a lake and its champion: find it, roll back, list the models."""

from __future__ import annotations

import os
from datetime import datetime

from vpoc_ml import environment
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.model_card import ModelSummary
from vpoc_ml.artifacts.stage_results import RollbackResult
from vpoc_ml.errors import ConfigError, InputError, InvalidValueError, RegistryError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.run import Run
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.registry.registry import Registry, registry_folder
from vpoc_ml.registry.store import UNNAMED, Champion, ModelStore


def registry_of(lake: Lake) -> Registry:
    """Return the registry of a lake: its folder, with MLflow there or at ``MLFLOW_TRACKING_URI``."""
    folder = registry_folder(lake)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return Registry(uri, folder=folder) if uri else Registry.local(folder)


def check_registry(lake: Lake) -> None:
    """Ask the registry for what evaluation and promotion will need, before hours of training.

    Raises:
        ConfigError: a lake in an object store without a folder for the registry.
        RegistryRefusedError: MLflow's server refuses; no retry can mend that.
        MlflowException: nobody answers, or the server fails.
    """
    registry_folder(lake)
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        registry_of(lake).mlflow.check()


def existing_registry(lake: Lake) -> Registry | None:
    """Return the registry of a lake without creating one; None where nothing was ever registered."""
    if lake.remote and environment.read(environment.REGISTRY) is None:
        return None
    folder = registry_folder(lake)
    files = (folder / layout.LEDGER, folder / layout.MLFLOW_DATABASE)
    known = os.environ.get("MLFLOW_TRACKING_URI") or any(path.is_file() for path in files)
    return registry_of(lake) if known else None


def model_store(lake: Lake, key: ModelKey) -> ModelStore:
    """Return the models of ``key`` in the registry of a lake."""
    return ModelStore(registry_of(lake), key)


def current_champion(run: Run) -> Champion | None:
    """Return the champion of the run's model key: today's, or for a past night the one of that time."""
    store = model_store(run.lake, run.model_key)
    return store.champion() if run.as_of is None else store.champion_at(run.as_of)


def run_of_version(lake: str, version: int, key: str | None = None) -> str:
    """Return the name of the run that made a registered version.

    Raises:
        RegistryError: the version does not exist.
        InvalidValueError: it is of another key than ``key``.
    """
    found = registry_of(Lake(lake)).mlflow.get(version)
    if key is not None and key != str(found.key):
        raise InvalidValueError("the key", key, f"{found.key}, the key of version {version}")
    return found.run


def rollback(
    lake: str,
    reason: str,
    now: datetime,
    key: str | None = None,
    name: str | None = None,
    expected: int | None = None,
) -> RollbackResult:
    """Restore the previous champion; the reason goes to the ledger.

    Args:
        lake: root of the lake.
        reason: for the ledger.
        now: when, timezone-aware.
        key: text of the key whose champion it is, such as ``ES-1m-rank``; may be None where there is only one.
        name: who decided it; goes to the ledger.
        expected: version of the current champion; a repeated request then fails instead of removing another one.

    Raises:
        RegistryError: there is no previous champion, or the current one is not ``expected``.
        InputError: the reason is empty.
        ConfigError: ``key`` has no decision in the ledger, or is None where there are several.
    """
    if not reason.strip():
        raise InputError("Expected a reason for the rollback; was empty. Give one with --reason.")
    registry = registry_of(Lake(lake))
    known = registry.keys()
    listed = ", ".join(map(str, known)) or "none yet"
    if key is None and not known:
        raise RegistryError("Expected an earlier champion to go back to; the ledger has no decision yet.")
    if key is None and len(known) > 1:
        raise ConfigError(f"Expected the key of one champion; the ledger has {listed}. Name it with --key.")
    chosen = known[0] if key is None else ModelKey.parse(key)
    if chosen not in known:
        raise InvalidValueError("the key (--key)", key, f"one of those in the ledger: {listed}")
    actor = (name or "").strip() or UNNAMED
    restored = ModelStore(registry, chosen).rollback(reason, now, expected=expected, actor=actor)
    return RollbackResult(key=str(chosen), champion=restored.version, run=restored.run, reason=reason)


def models(lake: str, key: str | None = None) -> list[ModelSummary]:
    """Return the registered versions of one key, or of all."""
    wanted = None if key is None else str(ModelKey.parse(key))
    models = registry_of(Lake(lake)).models()
    return [model for model in models if wanted in (None, model.key)]
