"""Every feature against its definition, written as slow loops over Python numbers in ``oracle_<family>.py``."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from vpoc_ml.features.registry import FEATURE_NAMES, REGISTRY

from . import oracle_calendar, oracle_levels, oracle_price, oracle_vix, oracle_volatility, oracle_volume
from .oracle_market import Definition, Slow

pytestmark = pytest.mark.slow

OPTIONAL_FAMILIES = {
    "price": oracle_price,
    "volume": oracle_volume,
    "volatility": oracle_volatility,
    "levels": oracle_levels,
    "vix": oracle_vix,
    "calendar": oracle_calendar,
}
DEFINITIONS: dict[str, Definition] = {
    name: one for family in OPTIONAL_FAMILIES.values() for name, one in family.DEFINITIONS.items()
}
STEPS = {
    **dict.fromkeys(("vpoc_dev_dist", "vah_dev_dist", "val_dev_dist", "va_pos_dev", "va_width_dev", "vpoc_share"), 7),
    **dict.fromkeys(("profile_cdf", "naked_up", "naked_dn", "hvn_dist_5d"), 11),
    **dict.fromkeys(("days_to_roll", "har_w", "har_m", "yz_20d", "bpv_ratio_390", "semivar_ratio_390"), 7),
    **dict.fromkeys(("rv_390", "rv_ratio_30_390", "rsi_14", "macd_hist", "vol_z_tod", "rvol_sess"), 5),
    **dict.fromkeys(("kyle_lambda_60", "pv_corr_60", "amihud_60"), 3),
}
"""Row step at which the slowest definitions are compared."""


@pytest.fixture(scope="module")
def found(rough, compute) -> pl.DataFrame:
    return compute(*rough)


@pytest.fixture(scope="module")
def slow(rough) -> Slow:
    return Slow(*rough)


def test_every_feature_has_a_definition_in_the_file_of_its_family():
    assert {name: family for family, one in OPTIONAL_FAMILIES.items() for name in one.DEFINITIONS} == {
        name: feature.family for name, feature in REGISTRY.items()
    }


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_feature_equals_its_definition_on_awkward_bars(name, found, slow):
    step = STEPS.get(name, 1)
    rows = range(0, found.height, step)
    expected = np.array([DEFINITIONS[name](slow, t) for t in rows])
    np.testing.assert_allclose(found[name].to_numpy()[::step], expected, rtol=2e-6, atol=1e-6)


def test_awkward_bars_give_no_infinity_and_flat_windows_give_exact_zero(found):
    values = found.select(FEATURE_NAMES)
    assert not values.select(pl.any_horizontal(pl.all().is_infinite().any())).item()
    assert (found["rv_30"] == 0).any()
    assert (found["vol_ratio_30"] == 0).any()
