"""Stages around the champion: promote a candidate that earned it, roll back, score the newest bars."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from vpoc_ml.errors import ConfigError, InputError
from vpoc_ml.lake.hashing import hash_code
from vpoc_ml.lake.store import Lake, Recipe
from vpoc_ml.models.bundle import load_model
from vpoc_ml.pipeline.names import GATES
from vpoc_ml.pipeline.run import Result, Run, because, stage
from vpoc_ml.registry.promotion import Evidence, decide
from vpoc_ml.registry.store import Champion, ModelStore
from vpoc_ml.scoring.batch import score_bars


def registry_folder(lake: Lake) -> Path:
    """Return the folder of the ledger and the models' copies: ``VPOC_ML_REGISTRY``, else ``registry/`` of the lake.

    Raises:
        ConfigError: the lake lies in an object store, where no ledger can be appended to, and no folder is named.
    """
    named = os.environ.get("VPOC_ML_REGISTRY")
    if named is None and lake.remote:
        raise ConfigError(
            f"Expected a folder for the registry of the lake {lake.root}; was none."
            " Set VPOC_ML_REGISTRY to a folder that every machine which evaluates, promotes or scores can see"
            " (and MLFLOW_TRACKING_URI where MLflow is a server)."
        )
    return Path(named) if named else lake.folder("registry")


def model_store(lake: Lake) -> ModelStore:
    """Return the model store of a lake: its registry's folder, with MLflow there or at ``MLFLOW_TRACKING_URI``."""
    folder = registry_folder(lake)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return ModelStore(uri, folder=folder) if uri else ModelStore.local(folder)


@stage("promote", files=("run",))
def promote(run: Run, now: datetime, approved_by: str | None = None) -> Result:
    """Register the candidate, decide by the promotion rule, and move the champion only if it was earned.

    The decision and all its reasons go to the ledger whether or not the champion changes.
    """
    store = model_store(run.lake)
    store.recover(now)
    metrics = json.loads((run.folder / "metrics.json").read_text())
    fingerprint = run.result("train")["fingerprint"]
    champion = store.champion()
    version = store.log_run(
        run.folder,
        metrics=_headline(metrics),
        params=_flat(json.loads(run.config.to_json())),
        tags={"fingerprint": fingerprint, "config_hash": run.config.digest()},
    )
    evidence = Evidence.of(
        metrics,
        fingerprint=fingerprint,
        champion_fingerprint=champion.fingerprint if champion else None,
        gate_failures=[gate for gate in GATES if not run.result(f"gate-{gate}")["passed"]],
    )
    decision = decide(evidence, run.config.promotion)
    if decision.promote:
        reasons = [*decision.reasons, *([f"approved by {approved_by}"] if approved_by else [])]
        store.promote(version, reasons, now)
    else:
        store.refuse(version, decision.reasons, now)
    result = {
        **decision.to_json(),
        "version": version,
        "champion_before": champion.version if champion else None,
        "approved_by": approved_by,
    }
    run.lake.write_json(f"{run.prefix}/decision.json", result)
    return result


@stage("score")
def score(run: Run, now: datetime) -> Result:
    """Score the champion on the front contracts' bars it has not learned from; files are rewritten whole.

    Scores begin after the last label the champion trained or stopped on, so every one is out of sample.
    """
    champion = model_store(run.lake).champion()
    if champion is None:
        return {"rows_in": 0, "rows_out": 0, "quarantined": 0, "skipped": True, "note": "there is no champion yet"}
    front = run.lake.read_frame(f"roll/{run.config.data.instrument}.parquet")
    periods = front.filter(pl.col("contract").is_in(run.plan()["contracts"])).rows(named=True)
    scored = [_score_contract(run, champion, period) for period in periods]
    totals = {name: sum(result[name] for result in scored) for name in ("rows_in", "rows_out", "quarantined")}
    reasons = "; ".join(dict.fromkeys(result["why"] for result in scored if result["why"])) or None
    return {**totals, **because(reasons), "version": champion.version, "scored_at": now.isoformat()}


def _score_contract(run: Run, champion: Champion, period: Mapping[str, Any]) -> Result:
    """Write ``predictions/v<version>/<contract>.parquet`` unless it is there for the same features and model."""
    contract = period["contract"]
    key, out = run.key("features", contract), f"predictions/v{champion.version}/{contract}.parquet"
    inputs = {"features": run.lake.sha(key), "model": champion.fingerprint, "front": str(dict(period))}
    recipe = Recipe(inputs, "", hash_code("scoring"))
    why = run.lake.why(out, recipe)
    if why is None:
        stored = run.lake.described(out)
        return {**stored.details, "rows_out": stored.rows, "why": None}
    statistics = json.loads((champion.folder / "feature_statistics.json").read_text())
    seen = datetime.fromisoformat(statistics["splits"]["validation"]["last_label_end"])
    in_front = pl.col("session").is_between(period["first_session"], period["last_session"])
    scores = score_bars(
        load_model(champion.folder / "best_model.json"),
        run.lake.read_frame(key).filter(in_front),
        since=seen,
        model_version=champion.version,
    )
    details = {"rows_in": scores.rows, "quarantined": scores.skipped}
    made = run.lake.write_frame(out, scores.frame, recipe, details)
    return {**details, "rows_out": made.rows, "why": why}


def rollback(lake: str, reason: str, now: datetime) -> Result:
    """Restore the champion before today's; the reason goes to the ledger.

    Raises:
        RegistryError: there is no earlier champion.
        InputError: the reason is empty.
    """
    if not reason.strip():
        raise InputError("Expected a reason for the rollback; was empty. Say why with --reason.")
    restored = model_store(Lake(lake)).rollback(reason, now)
    return {"champion": restored.version, "run": restored.run, "reason": reason}


def models(lake: str) -> list[Result]:
    """Return every registered version, newest first, and which one is the champion."""
    return model_store(Lake(lake)).list_models()


def _headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the candidate's point estimates and the net result, for MLflow's charts."""
    candidate = metrics["models"]["candidate"]
    values = {name: value["value"] for name, value in candidate.items() if isinstance(value, dict)}
    return {**values, "net": metrics["backtest"]["net"]}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
