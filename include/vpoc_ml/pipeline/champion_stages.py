"""The registry of a lake and what is done with its champion: score the newest bars, roll back, list the models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from vpoc_ml import environment
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.manifest_details import ScoresDetails
from vpoc_ml.artifacts.model_card import ModelSummary
from vpoc_ml.artifacts.stage_results import UNCHANGED, RollbackResult, ScoreResult, WorkResult
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.errors import ConfigError, InputError, InvalidValueError, RegistryError
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.models.bundle import load_model
from vpoc_ml.pipeline.run import Run, result_of_manifest, stage
from vpoc_ml.pipeline.run_sessions import data_age
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.registry.registry import Registry
from vpoc_ml.registry.store import Champion, ModelStore
from vpoc_ml.scoring import score_bars


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


def registry_of(lake: Lake) -> Registry:
    """Return the registry of a lake: its folder, with MLflow there or at ``MLFLOW_TRACKING_URI``."""
    folder = registry_folder(lake)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return Registry(uri, folder=folder) if uri else Registry.local(folder)


def model_store(lake: Lake, key: ModelKey) -> ModelStore:
    """Return the models of ``key`` in the registry of a lake."""
    return ModelStore(registry_of(lake), key)


def current_champion(run: Run) -> Champion | None:
    """Return the champion of the run's model key: today's, or for a past night the one of that time."""
    store = model_store(run.lake, run.model_key)
    return store.champion() if run.as_of is None else store.champion_at(run.as_of)


@stage
def score(run: Run, now: datetime) -> ScoreResult:
    """Score the champion on the front contracts' bars after its training data; each file is rewritten completely.

    Scores begin after the last label the champion trained or stopped on, so every one is out of sample. They go to
    ``predictions/<key>/v<version>/``, those of a past night to the same folders below the run's own. Bars older than
    ``quality.max_age_sessions`` are not scored.
    """
    champion = current_champion(run)
    if champion is None:
        note = f"there is no champion of {run.model_key} yet"
        return ScoreResult(rows_in=0, rows_out=0, skipped=True, note=note)
    contracts, allowed = run.plan().contracts, run.config.quality.max_age_sessions
    age = data_age(run, contracts)
    if allowed != ANY_AGE and age.age_sessions > allowed:
        note = f"not scored: bars are {age.age_sessions} sessions old, quality.max_age_sessions is {allowed}"
        return ScoreResult(rows_in=0, rows_out=0, skipped=True, reason=note, note=note, **dict(age))
    front = run.lake.read_frame(run.roll_key())
    periods = front.filter(pl.col("contract").is_in(contracts)).rows(named=True)
    scored = [_score_contract(run, champion, period) for period in periods]
    reasons = "; ".join(dict.fromkeys(result.reason for result in scored if result.reason))
    return ScoreResult(
        rows_in=sum(result.rows_in for result in scored),
        rows_out=sum(result.rows_out for result in scored),
        quarantined=sum(result.quarantined for result in scored),
        skipped=not reasons,
        reason=reasons or UNCHANGED,
        key=str(run.model_key),
        version=champion.version,
        scored_at=now.isoformat(),
        newest_bar=age.newest_bar,
        age_sessions=age.age_sessions,
    )


def predictions_key(run: Run, version: int, contract: str) -> str:
    """Return the lake key of a version's scores of a contract."""
    key = layout.predictions_key(str(run.model_key), version, contract)
    return key if run.as_of is None else layout.run_file(run.name, key)


def _score_contract(run: Run, champion: Champion, period: Mapping[str, Any]) -> WorkResult:
    """Write a contract's scores unless they are there for the same features and model."""
    contract = period["contract"]
    key, out = run.key("features", contract), predictions_key(run, champion.version, contract)
    inputs = {"features": run.lake.content_hash(key), "model": champion.fingerprint, "front": str(dict(period))}
    build_key = BuildKey(inputs, "", code_digest(score_bars, load_model))
    reason = run.lake.stale_reason(out, build_key)
    if reason is None:
        stored = run.lake.require_manifest(out)
        return result_of_manifest(WorkResult, stored, None)
    model = load_model(champion.folder / layout.BEST_MODEL_CARD)
    in_front = pl.col("session").is_between(period["first_session"], period["last_session"])
    scores = score_bars(
        model,
        run.lake.read_frame(key).filter(in_front),
        since=model.model_card.learned_until(),
        key=run.model_key,
        model_version=champion.version,
    )
    details = ScoresDetails(rows_in=scores.rows, quarantined=scores.skipped)
    made = run.lake.write_frame(out, scores.frame, build_key, details.to_json())
    return result_of_manifest(WorkResult, made, reason)


def rollback(lake: str, reason: str, now: datetime, key: str | None = None) -> RollbackResult:
    """Restore the previous champion; the reason goes to the ledger.

    Args:
        lake: root of the lake.
        reason: for the ledger.
        now: when, timezone-aware.
        key: text of the key whose champion it is, such as ``ES-1m-rank``; may be None where there is only one.

    Raises:
        RegistryError: there is no previous champion.
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
    restored = ModelStore(registry, chosen).rollback(reason, now)
    return RollbackResult(key=str(chosen), champion=restored.version, run=restored.run, reason=reason)


def models(lake: str, key: str | None = None) -> list[ModelSummary]:
    """Return the registered versions of one key, or of all."""
    wanted = None if key is None else str(ModelKey.parse(key))
    models = registry_of(Lake(lake)).models()
    return [model for model in models if wanted in (None, model.key)]
