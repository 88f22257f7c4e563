"""One function per stage: (lake, run, ...) -> small JSON. DAGs and command line both call these.

Names are loaded on first use, so that a task pays only for the libraries of its own stage.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpoc_ml.pipeline.analysis_stage import analyze_features
    from vpoc_ml.pipeline.champion_stages import models, rollback, score
    from vpoc_ml.pipeline.contract_stages import build_rolls, features_contract, ingest_contract, profile_contract
    from vpoc_ml.pipeline.decision_stages import approve, decide, expire, promote, promote_by_hand, reject
    from vpoc_ml.pipeline.gate_stages import gate_bars, gate_features, gate_training_set
    from vpoc_ml.pipeline.leakage_stage import gate_leakage, prove_code
    from vpoc_ml.pipeline.model_stages import build_training_set, evaluate, train
    from vpoc_ml.pipeline.order import run_until
    from vpoc_ml.pipeline.plan_stage import plan_contracts, start_run
    from vpoc_ml.pipeline.report_stage import publish_reports
    from vpoc_ml.pipeline.search_stage import search
    from vpoc_ml.pipeline.seed_stage import train_seeds
    from vpoc_ml.pipeline.successor import features_successor
    from vpoc_ml.pipeline.summary import summarize

_HOME = {
    "start_run": "start",
    "plan_contracts": "start",
    "ingest_contract": "contract_stages",
    "build_rolls": "contract_stages",
    "profile_contract": "contract_stages",
    "features_contract": "contract_stages",
    "features_successor": "successor",
    "gate_bars": "gate_stages",
    "gate_features": "gate_stages",
    "gate_leakage": "leakage_stage",
    "prove_code": "leakage_stage",
    "gate_training_set": "gate_stages",
    "build_training_set": "model_stages",
    "train": "model_stages",
    "evaluate": "model_stages",
    "decide": "decision",
    "promote": "decision",
    "promote_by_hand": "decision",
    "approve": "decision",
    "reject": "decision",
    "expire": "decision",
    "rollback": "champion",
    "score": "champion",
    "models": "champion",
    "publish_reports": "report_stage",
    "analyze_features": "analysis_stage",
    "summarize": "summary",
    "run_until": "order",
    "train_seeds": "seed_stage",
    "search": "search_stage",
}

__all__ = [
    "analyze_features",
    "approve",
    "build_rolls",
    "build_training_set",
    "decide",
    "evaluate",
    "expire",
    "features_contract",
    "features_successor",
    "gate_bars",
    "gate_features",
    "gate_leakage",
    "gate_training_set",
    "ingest_contract",
    "models",
    "plan_contracts",
    "profile_contract",
    "promote",
    "promote_by_hand",
    "prove_code",
    "publish_reports",
    "reject",
    "rollback",
    "run_until",
    "score",
    "search",
    "start_run",
    "summarize",
    "train",
    "train_seeds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
