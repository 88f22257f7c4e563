"""The stages in their order, for the command line; the DAG runs the same stages, contracts in parallel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from vpoc_ml.pipeline import contract_stages as per_contract
from vpoc_ml.pipeline import gate_stages, leakage_stage, model_stages, plan_stage
from vpoc_ml.pipeline.run import Result
from vpoc_ml.pipeline.run_names import STAGES


def run_until(
    lake: str,
    run: str,
    last: str,
    now: datetime,
    *,
    on_stage: Callable[[Result], None] = lambda result: None,
    on_progress: Callable[[Result], None] | None = None,
) -> None:
    """Run the stages of a started run up to and including ``last``; unchanged ones skip themselves.

    Where they make a training set, too few sessions for it end the run with the roll table, before any profile.

    ``on_stage`` receives each stage's result, ``on_progress`` each progress record of the training.
    """
    on_stage(planned := plan_stage.plan_contracts(lake, run))
    chosen: list[str] = planned["contracts"]
    names = STAGES[1 : STAGES.index(last) + 1]
    for name in names:
        if name == "rolls":
            on_stage(per_contract.build_rolls(lake, run, chosen, last=last))
            continue
        for result in _stage(name, lake, run, chosen, now, on_progress):
            on_stage(result)


def _stage(
    name: str,
    lake: str,
    run: str,
    chosen: list[str],
    now: datetime,
    on_progress: Callable[[Result], None] | None,
) -> list[Result]:
    each: dict[str, Callable[[str, str, str], Result]] = {
        "ingest": per_contract.ingest_contract,
        "profile": per_contract.profile_contract,
        "features": per_contract.features_contract,
    }
    if name in each:
        return [each[name](lake, run, contract) for contract in chosen]
    over_all: dict[str, Callable[[str, str, list[str]], Result]] = {
        "gate-bars": gate_stages.gate_bars,
        "gate-features": gate_stages.gate_features,
        "gate-leakage": leakage_stage.gate_leakage,
        "training-set": model_stages.build_training_set,
    }
    if name in over_all:
        return [over_all[name](lake, run, chosen)]
    if name in ("decide", "promote", "score"):
        from vpoc_ml.pipeline import (
            champion_stages,
            decision_stages,  # mlflow and torch are not needed before
        )

        work = {"decide": decision_stages.decide, "promote": decision_stages.promote, "score": champion_stages.score}[
            name
        ]
        return [work(lake, run, now)]
    if name == "train":
        return [model_stages.train(lake, run, on_progress=on_progress)]
    whole = {"gate-training-set": gate_stages.gate_training_set, "evaluate": model_stages.evaluate}
    return [whole[name](lake, run)]
