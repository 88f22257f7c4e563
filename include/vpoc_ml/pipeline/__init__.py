"""What a run consists of: one function per stage, ``(lake, run, ...) -> result``. DAGs and command line call these.

Functions are imported on first use, so a task pays only for the libraries of its own stage. ``stages.py`` lists them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vpoc_ml.pipeline.stages import SEPARATE, STAGES

if TYPE_CHECKING:
    from vpoc_ml.pipeline.champion_stages import models as models
    from vpoc_ml.pipeline.champion_stages import rollback as rollback
    from vpoc_ml.pipeline.champion_stages import run_of_version as run_of_version
    from vpoc_ml.pipeline.decision_stages import approve as approve
    from vpoc_ml.pipeline.decision_stages import promote_by_hand as promote_by_hand
    from vpoc_ml.pipeline.decision_stages import reject as reject
    from vpoc_ml.pipeline.gate_stages import prove_code as prove_code
    from vpoc_ml.pipeline.lineage import model_record as model_record
    from vpoc_ml.pipeline.model_stages import evaluate as evaluate
    from vpoc_ml.pipeline.monitoring_stage import gate_monitoring as gate_monitoring
    from vpoc_ml.pipeline.plan_stage import newest_run as newest_run
    from vpoc_ml.pipeline.plan_stage import plan_contracts as plan_contracts
    from vpoc_ml.pipeline.plan_stage import recall_inputs as recall_inputs
    from vpoc_ml.pipeline.plan_stage import start_run as start_run
    from vpoc_ml.pipeline.plan_stage import start_scoring as start_scoring
    from vpoc_ml.pipeline.report_stage import publish_reports as publish_reports
    from vpoc_ml.pipeline.reproduction import reproduce as reproduce
    from vpoc_ml.pipeline.retention import retain as retain
    from vpoc_ml.pipeline.run import summarize as summarize
    from vpoc_ml.pipeline.score_stage import live_scorer as live_scorer
    from vpoc_ml.pipeline.score_stage import score as score
    from vpoc_ml.pipeline.stages import run_until as run_until
    from vpoc_ml.pipeline.study_stages import analyze_features as analyze_features
    from vpoc_ml.pipeline.study_stages import search as search
    from vpoc_ml.pipeline.study_stages import train_seeds as train_seeds
    from vpoc_ml.pipeline.verification import verify as verify

OPERATIONS = {
    "recall_inputs": "plan_stage",
    "newest_run": "plan_stage",
    "start_run": "plan_stage",
    "start_scoring": "plan_stage",
    "live_scorer": "score_stage",
    "run_until": "stages",
    "prove_code": "gate_stages",
    "rollback": "champion_stages",
    "run_of_version": "champion_stages",
    "models": "champion_stages",
    "model_record": "lineage",
    "summarize": "run",
    "migrate": "migration",
    "verify": "verification",
    "retain": "retention",
}
"""Module of each function that is no stage: it leaves no record in the run."""

_MODULES = {stage.function_name: stage.module for stage in (*STAGES, *SEPARATE)} | OPERATIONS

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
