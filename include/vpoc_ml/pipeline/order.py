"""Runs the stages in their order for the command line. The DAGs run the same stages, contracts in parallel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from vpoc_ml.artifacts.plan import Plan
from vpoc_ml.artifacts.stage_results import StageResult
from vpoc_ml.artifacts.training_progress import OnProgress
from vpoc_ml.pipeline.stages import STAGES, is_after


def run_until(
    lake: str,
    run: str,
    last: str,
    now: datetime,
    *,
    on_stage: Callable[[StageResult], None] = lambda result: None,
    on_progress: OnProgress | None = None,
) -> None:
    """Run the stages of a started run up to and including ``last``; unchanged ones skip themselves.

    Where they make a training set, too few sessions for it end the run with the roll table, before any profile.

    ``on_stage`` receives each stage's result, ``on_progress`` each progress record of the training.
    """
    options: dict[str, dict[str, Any]] = {"rolls": {"last": last}, "train": {"on_progress": on_progress}}
    contracts: list[str] = []
    for stage in STAGES:
        if is_after(stage.name, last):
            break
        for arguments in stage.arguments(contracts, now):
            result = stage.function(lake, run, *arguments, **options.get(stage.name, {}))
            if isinstance(result, Plan):
                contracts = list(result.contracts)
            on_stage(result)
