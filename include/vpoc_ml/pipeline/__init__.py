"""One function per stage: (lake, run, ...) -> small JSON. DAGs and command line both call these.

Names are loaded on first use, so that a task pays only for the libraries of its own stage.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpoc_ml.pipeline.analysis import analyze_features
    from vpoc_ml.pipeline.champion import models, rollback, score
    from vpoc_ml.pipeline.contracts import build_rolls, features_contract, ingest_contract, profile_contract
    from vpoc_ml.pipeline.decision import approve, decide, expire, promote, promote_by_hand, reject
    from vpoc_ml.pipeline.gates import gate_bars, gate_features, gate_training_set
    from vpoc_ml.pipeline.leakage import gate_leakage, prove_code
    from vpoc_ml.pipeline.model import build_training_set, evaluate, train
    from vpoc_ml.pipeline.order import run_until
    from vpoc_ml.pipeline.reports import publish_reports
    from vpoc_ml.pipeline.seeds import train_seeds
    from vpoc_ml.pipeline.start import plan_contracts, start_run
    from vpoc_ml.pipeline.successor import features_successor
    from vpoc_ml.pipeline.summary import summarize
    from vpoc_ml.pipeline.trials import search

_HOME = {
    "start_run": "start",
    "plan_contracts": "start",
    "ingest_contract": "contracts",
    "build_rolls": "contracts",
    "profile_contract": "contracts",
    "features_contract": "contracts",
    "features_successor": "successor",
    "gate_bars": "gates",
    "gate_features": "gates",
    "gate_leakage": "leakage",
    "prove_code": "leakage",
    "gate_training_set": "gates",
    "build_training_set": "model",
    "train": "model",
    "evaluate": "model",
    "decide": "decision",
    "promote": "decision",
    "promote_by_hand": "decision",
    "approve": "decision",
    "reject": "decision",
    "expire": "decision",
    "rollback": "champion",
    "score": "champion",
    "models": "champion",
    "publish_reports": "reports",
    "analyze_features": "analysis",
    "summarize": "summary",
    "run_until": "order",
    "train_seeds": "seeds",
    "search": "trials",
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
