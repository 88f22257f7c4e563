"""Profiles that lose or double volume, wrong levels, and variances in mixed units."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from tests.profile.reference import Bar, levels_of, profile_of

from vpoc_ml.config import ProfileConfig
from vpoc_ml.leakage.product_builders import feature_builder
from vpoc_ml.profile.histogram import volume_profile
from vpoc_ml.profile.kernels import SCALE
from vpoc_ml.profile.sessions import build_sessions

SHARE = Fraction(7, 10)


@pytest.fixture(scope="module")
def session(rough):
    """The bars of one complete session."""
    return rough.bars.filter(rough.bars["session"] == rough.bars["session"][-1])


@pytest.fixture(scope="module")
def slow_bars(session, rough):
    ticks = {name: rough.instrument.to_ticks(session[name].to_numpy()) for name in ("low", "high", "close")}
    columns = *(ticks[name].tolist() for name in ("low", "high", "close")), session["volume"].to_list()
    return [Bar(*row) for row in zip(*columns, strict=True)]


@pytest.fixture(scope="module")
def profile(slow_bars):
    """Units on every tick, by the definition."""
    return profile_of(slow_bars)


def one_row_a_tick(ticks):
    return np.array_equal(np.diff(ticks), np.ones(len(ticks) - 1))


def test_known_leak_20_profiles_of_several_devices_are_put_one_after_the_other(session, slow_bars, profile, rough):
    halves = [profile_of(half) for half in (slow_bars[::2], slow_bars[1::2])]
    ticks = [tick for half in halves for tick in half]
    assert not one_row_a_tick(ticks)
    heaviest = max(max(half, key=half.get) for half in halves)
    assert max(half.get(heaviest, 0) for half in halves) < profile[heaviest]  # a price counts only once a device
    found = volume_profile(session, rough.instrument)
    assert one_row_a_tick(rough.instrument.to_ticks(found.prices))
    units = np.rint(found.volume * SCALE).astype(np.int64).tolist()
    assert dict(zip(rough.instrument.to_ticks(found.prices).tolist(), units, strict=True)) == profile


def test_known_leak_20_float32_edges_and_a_zero_padded_filter_lose_volume(session, profile, rough):
    found = volume_profile(session, rough.instrument)
    traded = int(session["volume"].sum())
    assert np.rint(found.volume * SCALE).astype(np.int64).sum() == traded * SCALE == sum(profile.values())
    smoothed = np.convolve(found.volume, np.ones(3) / 3, mode="same")
    assert smoothed.sum() < traded - 1
    # the step of a float32 range is rounded once and then multiplied: after 50 prices it is a whole tick off
    edges = np.arange(5000, 5001, 0.01, dtype=np.float32)
    assert not one_row_a_tick(np.rint(edges / 0.01))
    assert one_row_a_tick(rough.instrument.to_ticks(found.prices))


def test_known_leak_21_vpoc_is_a_centroid_and_the_value_area_has_holes(session, slow_bars, profile, rough):
    row = build_sessions(session, rough.instrument, ProfileConfig()).row(0, named=True)
    vpoc, vah, val = rough.instrument.to_ticks([row["vpoc"], row["vah"], row["val"]]).tolist()
    assert (vpoc, vah, val) == levels_of(slow_bars, SHARE, 2)[:3]
    area = [profile[tick] for tick in range(val, vah + 1)]
    total = sum(profile.values())
    assert profile[vpoc] == max(profile.values())
    assert val <= vpoc <= vah
    assert sum(area) >= SHARE * total > min(sum(area[2:]), sum(area[:-2]))

    top = sorted(profile, key=profile.get)[-max(len(profile) // 20, 2) :]
    centroid = round(sum(tick * profile[tick] for tick in top) / sum(profile[tick] for tick in top))
    assert profile[centroid] < max(profile.values())
    greedy, held = [], 0
    for tick in sorted(profile, key=profile.get, reverse=True):
        greedy.append(tick)
        held += profile[tick]
        if held >= SHARE * total:
            break
    assert not one_row_a_tick(sorted(greedy))


def test_known_leak_23_bipower_is_scaled_by_one_over_n_and_subtracted_from_a_root(unpredictable):
    """Without a jump, bipower over realised variance is 1: so is the product's feature, but not the legacy formula.

    At the end of RTH all 390 returns are many ticks, so rounding to the grid has no effect.
    """
    market = unpredictable[-1]
    features = feature_builder()(market, None)
    last = (market.bars["rth"] & ~market.bars["rth"].shift(-1)).fill_null(value=False)
    ratio = features.filter(last)["bpv_ratio_390"].drop_nans()
    assert ratio.len() > 50
    assert ratio.mean() == pytest.approx(1, abs=0.03)

    change = market.bars["close"].log().diff().to_numpy()
    ends = np.flatnonzero(last.to_numpy())
    paths = np.stack([change[end - 389 : end + 1] for end in ends])
    realised, products = (paths**2).sum(axis=1), np.abs(paths[:, 1:] * paths[:, :-1]).sum(axis=1)
    legacy = products / (paths.shape[1] - 1)
    assert (legacy / realised).mean() < 0.01
    assert ((np.sqrt(realised) - legacy) / np.sqrt(realised)).min() > 0.99  # all of the volatility would be a jump
