"""Gates ``candidate`` and ``predictions``: sane models and scores pass, each planted fault is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.artifacts.training_result import PreflightReport, TrainingResult
from vpoc_ml.quality.gates import validate_candidate, validate_predictions
from vpoc_ml.quality.rules.candidate_gate import CandidateFacts
from vpoc_ml.quality.rules.predictions_gate import ScoresFacts

FEATURES, ROWS = ("a", "b"), 200
START = datetime(2025, 1, 6, 15, tzinfo=UTC)
MINUTES, SESSIONS = 120, 8

TRAINED = TrainingResult(
    preset="nightly",
    epochs=4,
    steps=400,
    seconds=1.0,
    best_epoch=4,
    best_validation_loss=0.0199,
    validation_constant=0.02,
    parameters=50,
    skipped=0,
    rollbacks=0,
    resumed_from_step=0,
    engine="eager",
    engine_reason="",
    device="cpu",
    dead=False,
    rows=1000,
    nonfinite_rows=0,
    preflight=PreflightReport(),
    members=(),
)


def candidate(**changed) -> CandidateFacts:
    draw = np.random.default_rng(3)
    times = pl.Series([START + timedelta(minutes=n) for n in range(ROWS)], dtype=pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({"ts": times, **{name: draw.normal(size=ROWS) for name in FEATURES}})
    weights = {"body.0.weight": draw.normal(size=(4, 2)), "trees": np.zeros(3, np.uint8)}
    facts = CandidateFacts(weights, FEATURES, FEATURES, rows, draw.uniform(0.4, 0.6, ROWS), True, TRAINED)
    return replace(facts, **changed)


def scores() -> pl.DataFrame:
    """Return the scores of every bar of eight sessions, one of which abstains."""
    draw = np.random.default_rng(4)
    times = [START + timedelta(days=day, minutes=n) for day in range(SESSIONS) for n in range(MINUTES)]
    size = len(times)
    predicted = draw.normal(0.5, 0.02, size)
    frame = pl.DataFrame(
        {"ts": pl.Series(times, dtype=pl.Datetime("us", "UTC")), "prediction": predicted, "distance": draw.random(size)}
    )
    return frame.with_columns(
        pl.lit("ESH25").alias("contract"),
        pl.col("ts").dt.date().alias("session"),
        (pl.col("ts") + timedelta(minutes=1)).alias("known_at"),
        (pl.int_range(pl.len()) == 7).alias("abstained"),
        *((pl.col("prediction") + by).alias(name) for name, by in (("low", -0.1), ("high", 0.1))),
        *(pl.lit(0.0).alias(name) for name in ("low_ticks", "high_ticks")),
        pl.when(pl.int_range(pl.len()) == 7).then(0).otherwise(1).cast(pl.Int8).alias("direction"),
        pl.lit(1, pl.Int64).alias("model_version"),
        *(pl.lit("x").alias(name) for name in ("instrument", "horizon", "target")),
    ).select(PREDICTIONS.keys())


@pytest.fixture
def verdict_of(world):
    """Return a function: facts of either gate -> its verdict."""

    def run(facts):
        validate = validate_candidate if isinstance(facts, CandidateFacts) else validate_predictions
        return validate(facts, ["ESH25"], run="run", reports_dir=world.reports, now=world.now)

    return run


def failed(verdict) -> dict[tuple[str, str], str]:
    return {(each.column, each.check): each.severity for each in verdict.failures}


def with_value(array, value):
    changed = array.copy()
    changed.flat[1] = value
    return changed


def test_a_sane_model_passes(verdict_of):
    verdict = verdict_of(candidate())
    assert verdict.passed
    assert not verdict.failures, verdict.message()
    assert verdict.checks == 11


BAD_MODELS = {
    "a weight is NaN": (("weights", "finite"), "critical", {"weights": {"w": np.array([1.0, np.nan])}}),
    "a weight is infinite": (("weights", "finite"), "critical", {"weights": {"w": np.array([np.inf])}}),
    "no weights": (("weights", "rows"), "critical", {"weights": {}}),
    "other features": (("*", "features"), "critical", {"trained_on": ("b", "a")}),
    "a loss is NaN": (
        ("training", "loss"),
        "critical",
        {"training": TRAINED.model_copy(update={"best_validation_loss": float("nan")})},
    ),
    "half of the steps discarded": (
        ("training", "discarded"),
        "critical",
        {"training": TRAINED.model_copy(update={"skipped": 400})},
    ),
    "worse than the constant": (
        ("training", "worse"),
        "warning",
        {"training": TRAINED.model_copy(update={"best_validation_loss": 0.03})},
    ),
    "constant predictions": (("prediction", "constant"), "warning", {"predictions": np.full(ROWS, 0.5)}),
    "no rows": (("prediction", "rows"), "critical", {"rows": candidate().rows.clear(), "predictions": np.empty(0)}),
}


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_a_fault_of_the_model_is_found(fault, verdict_of):
    key, severity, changed = BAD_MODELS[fault]
    verdict = verdict_of(candidate(**changed))
    assert failed(verdict) == {key: severity}, verdict.message()
    assert verdict.passed is (severity == "warning")


def test_bad_predictions_name_their_rows(verdict_of):
    facts = candidate()
    when = (facts.rows["ts"][1].isoformat(),)
    (failure,) = verdict_of(candidate(predictions=with_value(facts.predictions, np.nan))).failures
    assert (failure.check, failure.count, failure.first) == ("finite", 1, when)
    (failure,) = verdict_of(candidate(predictions=with_value(facts.predictions, 1.5))).failures
    assert (failure.check, failure.severity, failure.first, failure.values) == ("outside", "warning", when, ("1.5",))
    assert not verdict_of(candidate(predictions=with_value(facts.predictions, 1.5), ranks=False)).failures


def test_scores_as_on_other_days_pass(verdict_of):
    frame = scores()
    verdict = verdict_of(ScoresFacts(frame, frame.height, 0, frame["ts"][-1]))
    assert verdict.passed
    assert not verdict.failures, verdict.message()


def last_session(**values: pl.Expr) -> pl.DataFrame:
    newest = pl.col("session") == pl.col("session").max()
    return scores().with_columns(
        pl.when(newest).then(value).otherwise(pl.col(name)).cast(PREDICTIONS[name]).alias(name)
        for name, value in values.items()
    )


BAD_SCORES = {
    "NaN": ("finite", "critical", last_session(prediction=pl.lit(float("nan")))),
    "a bound on the wrong side": ("interval", "critical", last_session(low=pl.col("prediction") + 0.05)),
    "a direction of 2": ("direction", "critical", last_session(direction=pl.lit(2))),
    "a direction of a row that abstained": ("direction", "critical", last_session(abstained=pl.lit(True))),
    "known before the bar has ended": ("known", "critical", last_session(known_at=pl.col("ts"))),
    "scored twice": ("unique", "critical", pl.concat([scores(), scores().tail(1)])),
    "a constant": ("constant", "warning", last_session(prediction=pl.lit(0.5), low=pl.lit(0.4), high=pl.lit(0.6))),
    "ten times the spread": (
        "spread",
        "warning",
        last_session(**{name: 0.5 + 10 * (pl.col(name) - 0.5) for name in ("low", "prediction", "high")}),
    ),
}


@pytest.mark.parametrize("fault", BAD_SCORES)
def test_a_fault_of_the_scores_is_found(fault, verdict_of):
    check, severity, frame = BAD_SCORES[fault]
    verdict = verdict_of(ScoresFacts(frame, frame.height, 0, frame["ts"].max()))
    found = {each.check: each.severity for each in verdict.failures}
    assert found[check] == severity, verdict.message()
    assert verdict.passed is (severity == "warning")


@pytest.mark.parametrize(("share", "severity"), [(0.02, None), (0.2, "warning"), (0.7, "critical")])
def test_the_share_that_abstains_gives_the_severity(share, severity, verdict_of):
    many = pl.int_range(pl.len()) < share * pl.len()
    frame = scores().with_columns(abstained=many, direction=pl.when(many).then(0).otherwise(1).cast(pl.Int8))
    found = failed(verdict_of(ScoresFacts(frame, frame.height, 0, frame["ts"][-1])))
    assert found == ({("abstained", "abstained"): severity} if severity else {})


@pytest.mark.parametrize(("minutes", "severity"), [(10, None), (60, "warning"), (3000, "critical")])
def test_scores_that_lag_the_bars_are_found(minutes, severity, verdict_of):
    frame = scores()
    found = failed(verdict_of(ScoresFacts(frame, frame.height, 0, frame["ts"][-1] + timedelta(minutes=minutes))))
    assert found == ({("ts", "lag"): severity} if severity else {})


def test_bars_without_any_score_never_pass(verdict_of):
    verdict = verdict_of(ScoresFacts(scores().clear(), 500, 500, START))
    assert failed(verdict)["*", "unscored"] == failed(verdict)["ts", "lag"] == "critical"


def test_without_a_champion_or_new_bars_nothing_is_due(verdict_of):
    verdict = verdict_of(ScoresFacts(scores().clear(), reason="there is no champion yet"))
    assert verdict.passed
    assert [(each.check, each.severity, each.note) for each in verdict.failures] == [
        ("waits", "info", "there is no champion yet")
    ]
    refused = verdict_of(ScoresFacts(scores().clear(), reason="bars are too old", refused=True))
    assert failed(refused)["*", "scored"] == "warning"
