"""Kinds of scaling against the libraries' own, and on columns that break the usual ones."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import PowerTransformer, QuantileTransformer, RobustScaler

from vpoc_ml.artifacts.feature_statistics import FittedScaler
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling
from vpoc_ml.dataset.scalers import KINDS, apply_column, fit_scaler, scaler_from_json
from vpoc_ml.errors import InputError, InvalidValueError
from vpoc_ml.models.guard import Guard

EXTREMES = np.array([-1.7e308, -1e30, -1.0, -1e-9, 0.0, 1e-9, 1.0, 1e30, 1.7e308])


def ugly(rows: int = 4_000, seed: int = 1) -> dict[str, np.ndarray]:
    """Columns of real feature tables at their worst; every hundredth value is NaN, the second infinite."""
    rng = np.random.default_rng(seed)
    columns = {
        "normal": rng.normal(size=rows),
        "returns": rng.standard_t(2, rows) * 1e-4,
        "price": 5000 + np.cumsum(rng.normal(size=rows)),
        "lognormal": np.exp(rng.normal(0, 2, rows)),
        "mostly_zero": np.where(rng.random(rows) < 0.995, 0.0, rng.exponential(1, rows)),
        "one_value": np.where(np.arange(rows) == 5, 1.0, 0.0),
        "constant": np.full(rows, 3.7),
        "missing": np.full(rows, np.nan),
        "flag": (rng.random(rows) < 0.3) * 1.0,
        "ratio": np.where(rng.random(rows) < 0.003, 1e14, rng.normal(size=rows)),
        "huge": rng.normal(size=rows) * 1e300,
        "tiny": rng.normal(size=rows) * 1e-300,
    }
    for values in columns.values():
        values[::100] = np.nan
        values[1] = np.inf
    return columns


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    return np.stack(list(ugly().values()), axis=1)


def test_every_kind_can_be_chosen_and_no_other():
    choices = DatasetConfig.model_json_schema()["properties"]["scaler"]["enum"]
    assert set(choices) == {"none", *KINDS}
    with pytest.raises(InvalidValueError, match="one of robust"):
        fit_scaler("standard", [np.zeros(3)])
    with pytest.raises(InvalidValueError, match="one of robust"):
        scaler_from_json(FittedScaler(kind="standard", columns=()))


@pytest.mark.parametrize("kind", KINDS)
def test_finite_stays_finite_missing_stays_missing_order_and_json_hold(kind, matrix):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler = fit_scaler(kind, matrix.T)
        scaled = scaler.apply(matrix)
        extreme = scaler.apply(np.repeat(EXTREMES[:, None], matrix.shape[1], axis=1))
    np.testing.assert_array_equal(np.isfinite(scaled), np.isfinite(matrix))
    assert np.isnan(scaled[~np.isfinite(matrix)]).all()
    assert np.isfinite(extreme).all()
    assert (np.diff(extreme, axis=0) >= 0).all()
    again = scaler_from_json(FittedScaler.model_validate(json.loads(scaler.to_artifact().model_dump_json())))
    np.testing.assert_array_equal(again.apply(matrix), scaled)
    names = list(ugly())
    constant = scaled[:, names.index("constant")]
    assert np.nanmax(constant) == np.nanmin(constant)
    for name in ("normal", "returns", "price", "lognormal", "mostly_zero", "flag", "ratio", "huge", "tiny"):
        assert np.nanmax(scaled[:, names.index(name)]) > np.nanmin(scaled[:, names.index(name)]), name


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_scaled_alone_and_only_finite_training_values_are_learned(kind, matrix):
    scaler = fit_scaler(kind, matrix.T)
    np.testing.assert_array_equal(scaler.apply(matrix[7:9]), scaler.apply(matrix)[7:9])
    clean = [column[np.isfinite(column)] for column in matrix.T]
    assert fit_scaler(kind, clean).to_artifact() == scaler.to_artifact()
    assert scaler.apply(matrix[:0]).shape == (0, matrix.shape[1])
    with pytest.raises(InputError, match="12 feature columns"):
        scaler.apply(matrix[:, :3])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-(2.0**40), 2.0**40, width=32), min_size=1, max_size=40))
def test_any_column_gives_a_rising_finite_function(kind, values):
    column = np.array(values)
    scaler = fit_scaler(kind, [column])
    scaled = scaler.apply(np.sort(np.concatenate([column, EXTREMES]))[:, None])[:, 0]
    assert np.isfinite(scaled).all()
    assert (np.diff(scaled) >= -1e-9 * np.abs(scaled[1:])).all()


# ---------------------------------------------------------------- the libraries' own


def one(kind: str, values: np.ndarray, probe: np.ndarray | None = None) -> np.ndarray:
    return fit_scaler(kind, [values]).apply((values if probe is None else probe)[:, None])[:, 0]


def test_robust_is_the_models_guard(matrix):
    for name, column in ugly().items():
        found = fit_robust_scaling(column)
        guarded = Guard([found.median], [found.scale], 6.0)(torch.from_numpy(column[:, None])).numpy()[:, 0]
        finite = np.isfinite(column)
        np.testing.assert_allclose(one("robust", column)[finite], guarded[finite], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["normal", "returns", "price", "lognormal", "flag", "constant"])
def test_robust_scaler_is_sklearns(name):
    column = ugly()[name]
    column = column[np.isfinite(column)]
    np.testing.assert_allclose(one("robust_scaler", column), RobustScaler().fit_transform(column[:, None])[:, 0])


def test_mad_is_scipys_with_a_bound_and_counts_what_it_cuts():
    column = np.random.default_rng(2).standard_cauchy(5_000)
    scale = scipy.stats.median_abs_deviation(column, scale="normal")
    expected = (column - np.median(column)) / scale
    np.testing.assert_allclose(one("mad", column), np.clip(expected, -10, 10))
    share = fit_scaler("mad", [column]).to_artifact().columns[0]["outlier_share"]
    assert share == pytest.approx((np.abs(expected) > 10).mean())
    assert 0.01 < share < 0.1


def test_winsor_cuts_at_the_percentiles_and_keeps_a_rare_column_alive():
    column = np.arange(1001.0)
    assert (one("winsor", column).min(), one("winsor", column).max()) == (10.0, 990.0)
    rare = np.zeros(1_000)
    rare[:5] = 4.0
    assert one("winsor", rare).max() == pytest.approx(np.percentile(rare, 99.9))
    rarer = np.zeros(10_000)
    rarer[0] = 4.0
    assert one("winsor", rarer).max() == 4.0


def test_quantile_is_sklearns():
    column = np.random.default_rng(3).standard_t(3, 4_000)
    probe = np.linspace(-8, 8, 400)
    oracle = QuantileTransformer(n_quantiles=1001, output_distribution="normal", subsample=None).fit(column[:, None])
    np.testing.assert_allclose(one("quantile", column, probe), oracle.transform(probe[:, None])[:, 0], atol=1e-6)


def test_quantile_gives_equal_values_the_middle_of_their_ranks():
    column = np.concatenate([np.linspace(-1, -0.1, 200), np.zeros(600), np.linspace(0.1, 1, 200)])
    assert one("quantile", column, np.zeros(1))[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["normal", "lognormal", "flag", "price"])
def test_yeo_johnson_is_sklearns_of_the_robustly_scaled_column(name):
    column = ugly()[name]
    column = column[np.isfinite(column)]
    found = fit_robust_scaling(column)
    units = ((column - found.median) / found.scale)[:, None]
    expected = PowerTransformer(method="yeo-johnson").fit_transform(units)[:, 0]
    np.testing.assert_allclose(one("yeo_johnson", column), np.clip(expected, -10, 10), atol=1e-5)


def test_yeo_johnson_does_not_depend_on_the_unit():
    column = np.random.default_rng(5).lognormal(0, 1, 2_000)
    np.testing.assert_allclose(one("yeo_johnson", column * 1e-6), one("yeo_johnson", column), atol=1e-6)


@pytest.mark.parametrize("name", ["lognormal", "price"])
def test_box_cox_is_sklearns_where_all_values_are_positive(name):
    """A level of 5000 is divided by its geometric mean for the oracle too, which else returns one number."""
    column = ugly()[name]
    column = column[np.isfinite(column)]
    relative = (column / scipy.stats.gmean(column))[:, None]
    expected = PowerTransformer(method="box-cox").fit_transform(relative)[:, 0]
    np.testing.assert_allclose(one("box_cox", column), np.clip(expected, -10, 10), atol=1e-3)
    assert np.std(one("box_cox", column)) == pytest.approx(1.0)


def test_box_cox_moves_other_columns_up_and_holds_values_below_the_smallest():
    column = np.random.default_rng(6).lognormal(0, 1, 2_000) - 1
    scaler = fit_scaler("box_cox", [column])
    parameters = scaler.to_artifact().columns[0]
    assert column.min() + parameters["shift"] == pytest.approx(fit_robust_scaling(column).scale)
    low, lower = scaler.apply(np.array([[column.min()], [column.min() - 50]]))[:, 0]
    assert low == lower
    skewed = scipy.stats.skew(column)
    assert abs(scipy.stats.skew(scaler.apply(column[:, None])[:, 0])) < 0.05 * skewed


@pytest.mark.parametrize("kind", ["yeo_johnson", "box_cox"])
@pytest.mark.parametrize("monster", [-1e14, 1e14, 1e300])
def test_one_monster_neither_stops_a_power_nor_takes_the_scale_from_the_others(kind, monster):
    clean = np.random.default_rng(3).standard_normal(20_000) * 1e-4
    column = clean.copy()
    column[77] = monster
    scaler = fit_scaler(kind, [column])
    scaled, without = (np.asarray(apply_column(fit.columns[0], clean)) for fit in (scaler, fit_scaler(kind, [clean])))
    assert np.isfinite(apply_column(scaler.columns[0], column)).all()
    assert 0.05 < np.ptp(scaled) / np.ptp(without) < 2
