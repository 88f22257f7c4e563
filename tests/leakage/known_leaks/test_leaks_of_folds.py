"""Folds that are fitted, chosen or placed with sessions after their window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import resolve
from vpoc_ml.dataset.assemble import label_rows
from vpoc_ml.dataset.scalers import fit_scaler
from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.evaluation.baselines import fit_ridge_baseline
from vpoc_ml.evaluation.forecasts import CANDIDATE
from vpoc_ml.evaluation.policy import DecisionRows, choose_policy
from vpoc_ml.evaluation.walk_forward import forecasts_of
from vpoc_ml.leakage.folds import check_folds
from vpoc_ml.leakage.product_builders import RidgeModel, walk_forward_builder
from vpoc_ml.leakage.prove import config_for_proof
from vpoc_ml.leakage.training_set import Tables
from vpoc_ml.models.stacking import StackRows, fit_stack

from .planted_builders import NIGHTLY, PLAIN, SEED, caught, features_of

pytestmark = pytest.mark.slow

CONFIG = config_for_proof(NIGHTLY)
CORRECT = walk_forward_builder(CONFIG)
TICKS = 10
"""Cost of a round turn of the planted policies, in ticks."""


@pytest.fixture(scope="module")
def tables(two_contracts) -> Tables:
    return Tables.of_markets(two_contracts, PLAIN)


def violations_of(walk, tables, config=CONFIG):
    found = check_folds(walk, tables, config.dataset, SEED)
    assert found.comparisons > 0
    return found.violations


def rows_of(tables, days=None):
    """Labelled rows of all sessions, or of some."""
    rows = label_rows(tables.bars, tables.features, tables.front, tables.instrument, CONFIG)
    frame = rows.frame.filter(pl.col("ret").is_finite())
    return replace(rows, frame=frame if days is None else frame.filter(pl.col("session").is_in(days)))


def with_leak(plant):
    """The product's folds with one number, or the window, replaced by ``plant(fitted, tables, fold)``."""
    return replace(CORRECT, fit=lambda tables, fold: plant(CORRECT.fit(tables, fold), tables, fold))


def with_number(name, compute):
    """The product's folds with one more number, computed from the fold, its rows, and the rows of its test sessions."""

    def plant(made, tables, fold):
        found = compute(made, rows_of(tables, fold.test).frame)
        window = made.window._replace(statistics=made.window.statistics | {name: found})
        return made._replace(window=window)

    return with_leak(plant)


def parts_of(made):
    labelled = made.window.frame.filter(pl.col("weight") == 1)
    return [labelled.filter(pl.col("split") == name) for name in ("train", "validation")]


def ranked(made, rows):
    """Rows with the rank of their return among the fold's training returns."""
    rank = RankTarget.fit(made.window.frame.filter(pl.col("split") == "train")["ret"].to_numpy())
    return rows.with_columns(y=pl.Series(rank.apply(rows["ret"].to_numpy())))


# ---------------------------------------------------------------- the product's own folds


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"dataset.horizon": "2s"},
        {"dataset.horizon": "close", "dataset.history_sessions": 8, "dataset.train_share": 0.1},
        {"dataset.embargo_sessions": 5, "dataset.scaler": "robust", "dataset.target": "vol_scaled"},
    ],
    ids=str,
)
def test_the_product_s_folds_pass(tables, chosen):
    config = config_for_proof(resolve("nightly", chosen))
    assert violations_of(walk_forward_builder(config), tables, config) == []


# ---------------------------------------------------------------- numbers fitted on a later fold


def test_a_scaler_fitted_on_all_sessions_is_found(tables):
    def plant(made, tables, fold):
        names, every = features_of(made.window.frame), rows_of(tables).frame
        scaler = fit_scaler("robust", [every[name].to_numpy() for name in names]).to_artifact()
        return made._replace(window=made.window._replace(statistics=made.window.statistics | {"scaler": scaler}))

    violations = violations_of(with_leak(plant), tables)
    assert [one.feature for one in violations] == ["scaler"]
    assert caught(violations, "scaler", "folds")


def test_target_ranks_among_the_test_returns_are_found(tables):
    def plant(made, tables, fold):
        frame = made.window.frame
        rank = RankTarget.fit(np.append(frame["ret"].to_numpy(), rows_of(tables, fold.test).frame["ret"].to_numpy()))
        frame = frame.with_columns(y=pl.Series(rank.apply(frame["ret"].to_numpy()), dtype=pl.Float32))
        return made._replace(window=made.window._replace(frame=frame))

    violations = violations_of(with_leak(plant), tables)
    assert [one.feature for one in violations] == ["y"]
    assert caught(violations, "y", "folds")


def test_a_ridge_penalty_chosen_on_the_test_sessions_is_found(tables):
    def plant(made, test):
        train, _ = parts_of(made)
        return fit_ridge_baseline(train, ranked(made, test), features_of(train))

    violations = violations_of(with_number("ridge", plant), tables)
    assert [one.feature for one in violations] == ["ridge"]
    assert caught(violations, "ridge", "folds")


def test_an_epoch_chosen_on_the_test_sessions_is_found(tables):
    def plant(made, test):
        """Gradient descent of a linear model; the epoch with the smallest loss on the test sessions."""
        train, _ = parts_of(made)
        names = features_of(train)
        scale = {name: (train[name].median(), train[name].std()) for name in names}

        def inputs(rows):
            return np.stack([((rows[name] - scale[name][0]) / scale[name][1]).clip(-5, 5) for name in names], axis=1)

        x, y = inputs(train), train["y"].to_numpy() - 0.5
        held, wanted = inputs(test), ranked(made, test)["y"].to_numpy() - 0.5
        weights, losses = np.zeros(len(names)), []
        for _ in range(30):
            losses.append(float(np.square(held @ weights - wanted).mean()))
            weights += 0.2 * x.T @ (y - x @ weights) / len(y)
        return int(np.argmin(losses))

    assert caught(violations_of(with_number("best_epoch", plant), tables), "best_epoch", "folds")


def stack_on(rows_for):
    """The product's folds with the stack of a session fitted on the rows ``rows_for(fold, session)``."""

    def stack(track):
        fitted = {}
        for number, day in track.select("fold", "session").unique().iter_rows():
            rows = track.filter(rows_for(number, day))
            scores = np.stack([rows[f"part_{name}"].to_numpy() for name in ("ridge", "half")])
            session = rows["session"].rank("dense").to_numpy().astype(np.int64)
            fitted[day] = fit_stack(StackRows.of(scores, rows["y"].to_numpy(), session, ("ridge", "half")))
        return fitted

    return replace(CORRECT, stack=stack)


@pytest.mark.parametrize(
    "rows_for",
    [
        lambda number, day: pl.col("fold") == number,
        lambda number, day: pl.col("fold") >= "0",
        lambda number, day: pl.col("session") <= day,
        lambda number, day: (
            (pl.col("fold") < number)
            | (pl.col("fold") == number) & (pl.col("session") <= day) & (pl.col("session").min().over("fold") < day)
        ),
    ],
    ids=["the fold", "all folds", "the session itself", "the session itself, but not at the begin of a fold"],
)
def test_a_stack_that_knows_its_own_session_is_found(tables, rows_for):
    violations = violations_of(stack_on(rows_for), tables)
    assert [one.feature for one in violations] == ["stack"]
    assert caught(violations, "stack", "folds")


def test_a_stack_of_earlier_sessions_passes_where_labels_end_in_their_own_session(tables):
    walk = stack_on(lambda number, day: pl.col("session") < day)
    assert violations_of(walk, tables) == []
    config = config_for_proof(resolve("nightly", {"dataset.horizon": "2s"}))
    over = replace(walk_forward_builder(config), stack=walk.stack)
    assert caught(violations_of(over, tables, config), "stack", "folds")


def test_the_product_s_stack_is_fitted_on_some_fold_of_the_proof(tables):
    fitted = [CORRECT.fit(tables, fold) for fold in CORRECT.plan(tables)]
    track = pl.concat(each.track.with_columns(fold=pl.lit(str(at))) for at, each in enumerate(fitted))
    assert CORRECT.stack(track.sort("ts", "contract"))


# ---------------------------------------------------------------- policies


def policy_on(rows_for):
    """The product's folds with the policy of a fold chosen on the rows ``rows_for(track, fold)``."""

    def choose(track, instrument):
        chosen = {}
        for number in sorted(set(track["fold"]) - {"0"}):
            mine = rows_for(number)
            inside = track.select(mine).to_series()
            forecast = forecasts_of(track)[0].where(inside.to_numpy())
            first = track.filter(pl.col("fold") == number)["session"][0]
            chosen[first] = choose_policy(
                DecisionRows.of(track.filter(inside), forecast, instrument.tick_size), cost=TICKS
            )
        return chosen

    return choose


def test_a_band_chosen_on_the_fold_that_it_trades_is_found(tables):
    walk = replace(CORRECT, choose=policy_on(lambda number: pl.col("fold") == number))
    violations = violations_of(walk, tables)
    assert [one.feature for one in violations] == ["policy"]
    assert caught(violations, "policy", "folds")


def test_a_band_chosen_on_all_folds_is_found_and_one_of_earlier_folds_passes(tables):
    walk = replace(CORRECT, choose=policy_on(lambda number: pl.col("fold") >= "0"))
    assert caught(violations_of(walk, tables), "policy", "folds")
    assert violations_of(replace(CORRECT, choose=policy_on(lambda number: pl.col("fold") < number)), tables) == []


def test_a_band_chosen_on_labels_that_end_in_the_fold_is_found(tables):
    config = config_for_proof(resolve("nightly", {"dataset.horizon": "2s"}))
    walk = replace(walk_forward_builder(config), choose=policy_on(lambda number: pl.col("fold") < number))
    assert caught(violations_of(walk, tables, config), "policy", "folds")


# ---------------------------------------------------------------- boundaries and predictions


def test_a_validation_tail_that_overlaps_the_test_sessions_is_found(tables):
    def plan(tables):
        return [replace(fold, validation=(*fold.validation[1:], *fold.test[:2])) for fold in CORRECT.plan(tables)]

    violations = violations_of(replace(CORRECT, plan=plan), tables)
    assert caught(violations, "*", "folds")
    assert any("no label across" in one.expected for one in violations)


def test_a_window_that_ends_in_the_gap_is_found(tables):
    def plan(tables):
        days = sorted(set(rows_of(tables).frame["session"]))
        folds = CORRECT.plan(tables)
        return [replace(fold, validation=(*fold.validation, days[days.index(fold.test[0]) - 1])) for fold in folds]

    violations = violations_of(replace(CORRECT, plan=plan), tables)
    assert any("0 sessions between" in one.found for one in violations)


def test_rows_of_the_gap_that_a_fit_uses_are_found(tables):
    def plant(made, tables, fold):
        """The median of the rows from the first training session to the last validation session, the gap included."""
        every = rows_of(tables).frame.filter(pl.col("session").is_between(fold.train[0], fold.validation[-1]))
        numbers = made.window.statistics | {"centre": every["mom_5m"].mean()}
        return made._replace(window=made.window._replace(statistics=numbers))

    violations = violations_of(with_leak(plant), tables)
    assert caught(violations, "centre", "folds")
    assert "gaps of fold" in violations[0].found or "gaps of fold" in violations[0].expected


def test_boundaries_that_depend_on_the_last_session_are_found(tables):
    def plan(tables):
        """As many sessions to each fold, whatever night it is."""
        folds = CORRECT.plan(tables)
        days = [day for fold in folds for day in fold.test]
        cuts = np.array_split(np.arange(len(days)), len(folds))
        return [replace(fold, test=tuple(days[at] for at in cut)) for fold, cut in zip(folds, cuts, strict=True)]

    assert caught(violations_of(replace(CORRECT, plan=plan), tables), "plan", "folds")


def test_predictions_by_a_model_of_all_sessions_are_found(tables):
    """The newest model predicts every session."""

    def plant(made, tables, fold):
        every = ranked(made, rows_of(tables).frame)
        model = RidgeModel(fit_ridge_baseline(every, every, features_of(every)), 0.5)
        rows = rows_of(tables, fold.test).frame
        scores = model.predict(rows.select(model.features).to_numpy())
        return made._replace(track=made.track.with_columns(pl.Series(CANDIDATE, scores)))

    assert caught(violations_of(with_leak(plant), tables), CANDIDATE, "folds")


@pytest.mark.parametrize("times", [0, 2])
def test_a_session_that_is_not_predicted_once_is_found(tables, times):
    def plant(made, tables, fold):
        first = pl.col("session") == fold.test[0]
        return made._replace(track=pl.concat([made.track.filter(~first), *[made.track.filter(first)] * times]))

    assert caught(violations_of(with_leak(plant), tables), "sessions", "folds")


def test_a_single_fold_proves_nothing(tables):
    found = check_folds(replace(CORRECT, plan=lambda tables: CORRECT.plan(tables)[:1]), tables, CONFIG.dataset, SEED)
    assert (found.comparisons, caught(found.violations, "plan", "folds")) == (0, True)
