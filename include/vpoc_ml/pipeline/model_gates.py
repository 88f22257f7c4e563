"""The gates on a trained model and on the champion's scores: what the functions of ``quality`` need from the lake."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.artifacts.stage_results import GateResult, ScoreResult, TrainingSetResult
from vpoc_ml.artifacts.training_result import TrainingResult
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.pipeline.gate_stages import published_verdict
from vpoc_ml.pipeline.run import Run, stage


@stage
def gate_candidate(run: Run) -> GateResult:
    """Validate the trained model: weights, predictions of the newest training rows, and the course of its training.

    Raises:
        GateFailedError: a critical check failed; the error carries the verdict.
    """
    from safetensors.numpy import load_file

    from vpoc_ml.models.bundle import load_model
    from vpoc_ml.quality.gates import raise_if_failed, validate_candidate
    from vpoc_ml.quality.rules.candidate_gate import SAMPLE, CandidateFacts

    described = run.folder / layout.BEST_MODEL_CARD
    model = load_model(described)
    stored = pl.scan_parquet(run.folder / layout.TRAINING_SET).select("ts", *model.features)
    rows = stored.tail(SAMPLE).collect()
    facts = CandidateFacts(
        weights=load_file(described.with_suffix(".safetensors")),
        features=model.features,
        trained_on=run.result("training-set", TrainingSetResult).features,
        rows=rows,
        predictions=model.predict(rows.select(model.features).to_numpy()) if rows.height else np.empty(0),
        ranks=run.config.dataset.target.kind == "rank",
        training=TrainingResult.read(
            run.folder / layout.TRAINING_RESULT, what="the result of a training", remedy="Train again."
        ),
    )
    contracts = run.plan().contracts
    verdict = validate_candidate(facts, contracts, run=run.name, reports_dir=run.reports, now=run.started)
    raise_if_failed(verdict := published_verdict(run, verdict))
    return GateResult.of(verdict)


@stage
def gate_predictions(run: Run) -> GateResult:
    """Validate the champion's scores of the newest sessions, after stage ``score`` has stored them.

    Raises:
        GateFailedError: a critical check failed; the error carries the verdict.
    """
    from vpoc_ml.quality.gates import raise_if_failed, validate_predictions
    from vpoc_ml.quality.rules.predictions_gate import ScoresFacts

    result = run.result("score", ScoreResult)
    scores = pl.DataFrame(schema=PREDICTIONS) if result.version is None else _newest_scores(run, result.version)
    newest = datetime.fromisoformat(result.newest_bar) if result.newest_bar and result.version is not None else None
    facts = ScoresFacts(
        scores, result.rows_in, result.quarantined, newest, reason=result.note or "", refused=result.refused
    )
    contracts = run.plan().contracts
    verdict = validate_predictions(facts, contracts, run=run.name, reports_dir=run.reports, now=run.started)
    raise_if_failed(verdict := published_verdict(run, verdict))
    return GateResult.of(verdict)


def _newest_scores(run: Run, version: int) -> pl.DataFrame:
    """Return the stored scores of a version in its newest sessions; the newest contracts come first."""
    from vpoc_ml.pipeline.score_stage import predictions_key
    from vpoc_ml.quality.rules.predictions_gate import RECENT

    parts, days = [pl.DataFrame(schema=PREDICTIONS)], 0
    for contract in sorted(run.plan().contracts, key=parse_contract, reverse=True):
        key = predictions_key(run, version, contract)
        if run.lake.manifest(key) is None or days >= RECENT:
            continue
        parts.append(run.lake.read_frame(key))
        days += parts[-1]["session"].n_unique()
    frame = pl.concat(parts)
    newest = frame["session"].unique().sort().tail(RECENT)
    return frame.filter(pl.col("session").is_in(newest.implode()))
