"""All optional families: features do not depend on later data, on chunk edges, or on the roll."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vpoc_ml.errors import ArtifactError, InsufficientSessionsError
from vpoc_ml.features.build import build_in_chunks, in_warmup
from vpoc_ml.features.extras import garch
from vpoc_ml.features.history import HISTORY_SESSIONS, Predecessor, required_history
from vpoc_ml.features.registry import EXTRA_HISTORY, OPTIONAL_FAMILIES, OPTIONAL_FEATURES

from .conftest import VIX

pytestmark = pytest.mark.slow

NAMES = list(OPTIONAL_FEATURES)
PRICES = ("open", "high", "low", "close")
ROLL_AT = 60
quick = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def differing(found: pl.DataFrame, expected: pl.DataFrame) -> list[str]:
    one, other = (frame.select(NAMES).to_numpy().view(np.int32) for frame in (found, expected))
    wrong = (one != other).any(axis=0)
    return [name for name, bad in zip(NAMES, wrong, strict=True) if bad]


@pytest.fixture
def complete(thin, extras) -> pl.DataFrame:
    return extras(*thin)


@quick
@given(data=st.data())
def test_features_of_a_prefix_are_the_prefix_of_the_features(data, thin, extras, complete):
    rows = data.draw(st.integers(1, complete.height - 1))
    assert differing(extras(thin.bars.head(rows), thin.pair), complete.head(rows)) == []


@quick
@given(data=st.data())
def test_later_bars_of_either_instrument_change_no_earlier_row(data, thin, extras, complete):
    rows = data.draw(st.integers(complete.height // 2, complete.height - 1))
    later = pl.int_range(pl.len()) >= rows
    bars = thin.bars.with_columns(
        *(pl.when(later).then(pl.col(name) + 70).otherwise(name).alias(name) for name in PRICES),
        volume=pl.when(later).then(pl.col("volume") * 3 + 1).otherwise("volume"),
    )
    after = pl.col("ts") >= thin.bars["ts"][rows]
    pair = thin.pair.with_columns(close=pl.when(after).then(pl.col("close") * 1.01).otherwise("close"))
    changed = extras(bars, pair)
    assert differing(changed.head(rows), complete.head(rows)) == []
    assert differing(changed, complete)


@pytest.mark.parametrize(("rows", "skip"), [(1, 2_200), (7, 1_700), (1000, 0), (10_000, 0)])
def test_chunks_give_the_same_bits(rows, skip, thin, complete, es):
    """Single bars and sevens over two sessions: each chunk is computed from 83 sessions carried and no more."""
    end = complete.height if skip == 0 else skip + 70
    bars = thin.bars.head(end)
    parts = build_in_chunks(bars, VIX, es, rows=rows, skip=skip, extras=OPTIONAL_FAMILIES, pair=thin.pair)
    assert differing(pl.concat(parts), complete[skip:end]) == []


@pytest.mark.parametrize("ratio", [0.5, 0.125])
def test_from_the_roll_on_the_features_equal_those_without_a_roll(ratio, thin, extras, complete, es, as_predecessor):
    """A power of two is exact, so the spliced rows equal those of the uncut series to the last bit."""
    first = thin.bars["session"].unique().sort()[ROLL_AT]
    front = pl.col("session") >= first
    own = thin.bars.with_columns(
        pl.when(front).then(pl.col(name)).otherwise(pl.col(name) + 40).alias(name) for name in PRICES
    )
    before = as_predecessor(thin.bars, es, first, ratio=ratio)
    found = extras(own, thin.pair, before)
    assert differing(found.filter(front), complete.filter(front)) == []
    assert differing(found.filter(~front), complete.filter(~front))
    few = Predecessor(before.bars, before.sessions.tail(52), ratio, first)
    with pytest.raises(InsufficientSessionsError, match="53 sessions"):
        extras(own, thin.pair, few)


def test_values_are_missing_in_the_declared_warm_up_and_nowhere_else(thin, extras, complete):
    for family in OPTIONAL_FAMILIES:
        names = [name for name in NAMES if OPTIONAL_FEATURES[name].family == family]
        warm = complete.filter(~in_warmup(complete, names))
        assert warm.height > 0
        for name in names:
            assert not warm[name].is_nan().any(), name
    assert not complete.select(pl.any_horizontal(pl.col(NAMES).is_infinite().any())).item()


def test_values_lie_in_their_hard_bounds_vary_and_differ(complete):
    values = complete.filter(~in_warmup(complete, NAMES)).select(NAMES)
    for name in NAMES:
        low, high = OPTIONAL_FEATURES[name].hard
        assert values[name].is_between(low, high).all(), name
        assert values[name].n_unique() > 1, name
    same = np.abs(np.corrcoef(values.to_numpy().astype(np.float64), rowvar=False)) > 0.999
    copies = [(NAMES[i], NAMES[j]) for i, j in zip(*np.nonzero(np.triu(same, 1)), strict=True)]
    assert copies == []


def test_no_family_reads_more_sessions_than_it_declares():
    assert garch.SESSIONS + garch.EARLIER_FITS <= HISTORY_SESSIONS
    assert required_history(("garch", "cointegration")).history == required_history().history == HISTORY_SESSIONS
    assert required_history(("har", "hurst")).history == EXTRA_HISTORY["har"] == 83
    assert required_history(("har",)).sessions == 53


def test_families_are_computed_only_when_named(thin, extras):
    bars = thin.bars.head(500)
    assert extras(bars, None, families=()).columns == ["ts", "contract", "session"]
    found = extras(bars, None, families=("hurst", "fracdiff"))
    assert found.columns == ["ts", "contract", "session", "hurst_390m", "fracdiff_04"]
    with pytest.raises(ArtifactError, match=r"features\.pair"):
        extras(bars, None, families=("cointegration",))
