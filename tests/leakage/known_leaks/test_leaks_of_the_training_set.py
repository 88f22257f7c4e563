"""Rows, labels and fitted numbers of a training set that depend on later rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import rankdata
from sklearn.feature_selection import f_regression
from sklearn.preprocessing import RobustScaler, StandardScaler

from vpoc_ml.config.choices import Horizon
from vpoc_ml.leakage.lookback import check_lookback
from vpoc_ml.leakage.product_builders import training_set_builder
from vpoc_ml.leakage.training_set import check_training

from .planted_builders import (
    CORRECT,
    DATASET,
    NIGHTLY,
    PLAIN,
    SEED,
    caught,
    declared,
    features_of,
    with_carry,
    with_leak,
)

NAMES = ["mom_5m", "range_10", "vol_ratio_10"]


def violations_of(fit, markets):
    return check_training(fit, PLAIN, markets, DATASET, SEED).violations


def with_columns(made, columns):
    return made._replace(frame=made.frame.with_columns(pl.Series(name, column) for name, column in columns.items()))


def transformed(made, transform):
    """Replace the features by ``transform`` of all rows."""
    names = features_of(made.frame)
    table = transform(made.frame.select(names).to_numpy().astype(np.float64))
    return with_columns(made, {name: table[:, at] for at, name in enumerate(names)})


def robust_scaled(table):
    return RobustScaler().fit_transform(table)


def standardised(table):
    return StandardScaler().fit_transform(table)


def winsorised(table):
    low, high = np.nanpercentile(table, [1, 99], axis=0)
    return np.clip(table, low, high)


def test_the_correct_training_set_passes(two_contracts):
    assert violations_of(CORRECT, two_contracts) == []


def test_known_leak_03_scaler_is_fitted_on_all_rows_before_the_split(two_contracts):
    violations = violations_of(with_leak(lambda made, tables: transformed(made, robust_scaled)), two_contracts)
    assert all(caught(violations, name, "training") for name in NAMES)


def test_known_leak_04_target_is_the_rank_in_the_full_sample(two_contracts):
    def ranked(made, tables):
        return with_columns(made, {"y": rankdata(made.frame["ret"].to_numpy(), nan_policy="omit") / made.frame.height})

    violations = violations_of(with_leak(ranked), two_contracts)
    assert [one.feature for one in violations] == ["y"]
    assert caught(violations, "y", "training")


def test_known_leak_05_only_rows_that_move_by_a_thousandth_are_kept(two_contracts):
    def moving(made, tables):
        return made._replace(frame=made.frame.filter(pl.col("ret").abs() > 0.0005))

    assert caught(violations_of(with_leak(moving), two_contracts), "rows", "training")


def test_known_leak_09_label_horizon_in_bars_crosses_gaps_and_the_night(two_contracts):
    def in_bars(made, tables):
        parts = []
        for bars in tables.bars.values():
            later = (pl.col("close").shift(-1) / pl.col("close")).log()
            parts.append(bars.select("ts", "contract", wrong=later))
        frame = made.frame.join(pl.concat(parts), on=("ts", "contract"), how="left", maintain_order="left")
        return made._replace(frame=frame.with_columns(ret="wrong").drop("wrong"))

    violations = violations_of(with_leak(in_bars), two_contracts)
    assert caught(violations, "ret", "training")
    assert "nan" in [one.expected for one in violations if one.feature == "ret"]


def test_known_leak_10_splits_of_80_and_20_percent_touch_each_other(two_contracts):
    def touching(made, tables):
        edges = (int(0.6 * made.frame.height), int(0.8 * made.frame.height))
        names = np.array(["train", "validation", "test"])
        frame = made.frame.sort("ts")
        return made._replace(frame=frame.with_columns(split=names[np.digitize(np.arange(frame.height), edges)]))

    violations = violations_of(with_leak(touching), two_contracts)
    assert caught(violations, "validation", "training")
    assert caught(violations, "test", "training")


@pytest.mark.parametrize("transform", [standardised, winsorised])
def test_known_leak_22_scaler_or_winsor_limits_are_fitted_at_signal_time(two_contracts, transform):
    violations = violations_of(with_leak(lambda made, tables: transformed(made, transform)), two_contracts)
    assert any(caught(violations, name, "training") for name in NAMES)


def test_known_leak_22_features_are_selected_on_all_rows(two_contracts):
    def selected(made, tables):
        rows = made.frame.drop_nans().drop_nulls()
        names = features_of(made.frame)
        scores, _ = f_regression(rows.select(names).to_numpy(), rows["ret"].abs().to_numpy())
        return made._replace(statistics=made.statistics | {"selection": scores.tolist()})

    assert caught(violations_of(with_leak(selected), two_contracts), "selection", "training")


def test_known_leak_22_every_second_row_is_left_out_before_the_windows(steady):
    def thinned(bars):
        kept = bars[::2].select("ts", ratio=pl.col("volume") / pl.col("volume").rolling_mean(30))
        return {"vol_ratio_30": bars.select("ts").join_asof(kept, on="ts")["ratio"]}

    registry = declared("vol_ratio_30", "30 m", family="volume", bars=29)
    build = with_carry(thinned)
    assert caught(check_lookback(build, steady, build(steady, None), registry), "vol_ratio_30", "lookback")
    correct = with_carry(lambda bars: {"vol_ratio_30": pl.col("volume") / pl.col("volume").rolling_mean(30)})
    assert check_lookback(correct, steady, correct(steady, None), registry) == []


def test_statistics_of_the_training_rows_that_depend_on_a_later_session_are_found(two_contracts):
    """The same check as for the matrix, for a number that is stored beside it."""

    def mean_of_all(made, tables):
        return made._replace(statistics=made.statistics | {"mean": [made.frame["mom_5m"].drop_nans().mean()]})

    assert caught(violations_of(with_leak(mean_of_all), two_contracts), "mean", "training")


def test_a_horizon_of_minutes_is_checked_in_minutes(two_contracts):
    config = NIGHTLY.model_copy(update={"dataset": DATASET.model_copy(update={"horizon": Horizon.of("5m")})})
    fit = training_set_builder(config)
    assert check_training(fit, PLAIN, two_contracts, config.dataset, SEED).violations == []
    assert caught(check_training(fit, PLAIN, two_contracts, DATASET, SEED).violations, "ret", "training")


def over_sessions(horizon, embargo):
    dataset = DATASET.model_copy(update={"horizon": Horizon.of(horizon), "embargo_sessions": embargo})
    return NIGHTLY.model_copy(update={"dataset": dataset})


OVER_SESSIONS = [(horizon, embargo) for horizon in ("1s", "2s", "5s") for embargo in (0, 1)]


@pytest.mark.parametrize(("horizon", "embargo"), OVER_SESSIONS)
def test_labels_that_end_in_later_sessions_pass(two_contracts, horizon, embargo):
    config = over_sessions(horizon, embargo)
    fit = training_set_builder(config)
    assert check_training(fit, PLAIN, two_contracts, config.dataset, SEED).violations == []


def median_of(days):
    """The statistics with a number of the sessions ``days(after the training rows)``."""

    def plant(made, tables):
        last = made.frame.filter(pl.col("split") == "train")["session"].max()
        rows = pl.concat(tables.features.values()).filter(pl.col("session") > last).sort("ts")
        rows = rows.filter(pl.col("session").is_in(days(rows["session"].unique().sort()).implode()))
        return made._replace(statistics=made.statistics | {"median": rows["mom_5m"].drop_nans().median()})

    return plant


def entry_of_the_next_session(made, tables):
    bars = pl.concat(tables.bars.values()).sort("ts")
    entries = bars.group_by("session", maintain_order=True).agg(entry=pl.col("open").first())
    entries = entries.with_columns(entry=pl.col("entry").shift(-1))
    frame = made.frame.join(entries, on="session", how="left", maintain_order="left")
    return made._replace(frame=frame.with_columns(mom_5m=pl.col("entry").cast(pl.Float32)).drop("entry"))


def label_of_one_session_more(made, tables):
    ends = {}
    for bars in tables.bars.values():
        closes = bars.group_by("session", maintain_order=True).agg(pl.col("close").last())["close"].to_list()
        ends |= dict(zip(bars["session"].unique(maintain_order=True), [*closes[2:], None, None], strict=True))
    end = made.frame["session"].replace_strict(ends, return_dtype=pl.Float64)
    return with_columns(made, {"ret": (end / made.frame["entry_price"]).log()})


@pytest.mark.parametrize("embargo", [0, 1])
@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (lambda made, tables: transformed(made, robust_scaled), "mom_5m"),
        (lambda made, tables: with_columns(made, {"y": made.frame["ret"].rank() / made.frame.height}), "y"),
        (median_of(lambda days: days), "median"),
        (median_of(lambda days: days.head(1)), "median"),
        (entry_of_the_next_session, "mom_5m"),
        (label_of_one_session_more, "ret"),
    ],
    ids=["scaler", "rank", "later sessions", "session of the label's end", "next session's open", "longer label"],
)
def test_a_look_ahead_of_a_training_set_with_labels_over_a_session_is_found(two_contracts, plant, name, embargo):
    config = over_sessions("1s", embargo)
    correct = training_set_builder(config)

    def fit(tables):
        return plant(correct(tables), tables)

    assert caught(check_training(fit, PLAIN, two_contracts, config.dataset, SEED).violations, name, "training")
