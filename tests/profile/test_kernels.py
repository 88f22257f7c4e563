"""The kernels against the slow reference, on sessions made to break them."""

from __future__ import annotations

import ast
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.profile import reference
from tests.profile.reference import Bar

import vpoc_ml.profile
from vpoc_ml.profile import kernels
from vpoc_ml.profile.kernels import Ints, Rule, TickBars
from vpoc_ml.profile.tick_bars import SPREADS

pytestmark = pytest.mark.slow

SHARE = Fraction(7, 10)
TWO_PRICE = Rule(7, 10, 2, kernels.UNIFORM)

VOLUMES = st.sampled_from([0, 0, 1, 1, 2, 3, 16, 17, 1_000_003])
"""Few distinct volumes make exact ties common."""

SHARES = st.one_of(
    st.sampled_from([SHARE, Fraction(1), Fraction(1, 10_000)]), st.fractions(0, 1, max_denominator=10_000)
)


@st.composite
def adversarial_bar(draw: st.DrawFn) -> Bar:
    """A bar of 1 to 40 ticks anywhere in a range that leaves gaps between bars."""
    low = draw(st.integers(0, 70))
    high = low + draw(st.sampled_from([0, 0, 1, 1, 2, 3, 7, 16, 39]))
    return Bar(low, high, draw(st.integers(low, high)), draw(VOLUMES))


SESSION = st.lists(adversarial_bar(), min_size=1, max_size=25)
SESSIONS = st.lists(SESSION, min_size=1, max_size=4)
SPREAD = st.sampled_from(sorted(SPREADS))


def ticks_of(*sessions: list[Bar]) -> TickBars:
    columns = np.array([bar for bars in sessions for bar in bars], np.int64).T
    starts = np.cumsum([0, *map(len, sessions)]).astype(np.int64)
    return TickBars(*(np.ascontiguousarray(column) for column in columns), starts)


def developing(ticks: TickBars, rule: Rule) -> Ints:
    base = int(ticks.low.min()) - 1
    return kernels.extend_levels(ticks, rule, base, np.zeros(int(ticks.high.max()) - base + 2, np.int64), 0, -1)


@settings(max_examples=400, deadline=None)
@given(sessions=SESSIONS, step=st.sampled_from([1, 2]), share=SHARES, spread=SPREAD)
def test_session_levels_equal_the_reference(sessions, step, share, spread):
    rule = Rule(share.numerator, share.denominator, step, SPREADS[spread])
    found = kernels.session_levels(ticks_of(*sessions), rule)
    assert [tuple(row) for row in found] == [reference.levels_of(bars, share, step, spread) for bars in sessions]


@settings(max_examples=800, deadline=None)
@given(sessions=SESSIONS, step=st.sampled_from([1, 2]), share=SHARES, spread=SPREAD)
def test_developing_levels_equal_the_reference_at_every_bar(sessions, step, share, spread):
    found = developing(ticks_of(*sessions), Rule(share.numerator, share.denominator, step, SPREADS[spread]))
    expected = [levels[:3] for bars in sessions for levels in reference.developing_levels_of(bars, share, step, spread)]
    assert [tuple(row) for row in found] == expected


def wandering(sessions: int, minutes: int, seed: int, volumes: int) -> TickBars:
    """Sessions of a walk with bars of 1 to 40 ticks, gaps and, of few distinct volumes, many ties."""
    draw = np.random.default_rng(seed)
    rows = sessions * minutes
    close = 20_000 + np.cumsum(np.rint(2 * draw.standard_t(3, rows))).astype(np.int64)
    low, high = close - draw.integers(0, 20, rows), close + draw.integers(0, 20, rows)
    flat = draw.random(rows) < 0.2
    low[flat] = high[flat] = close[flat]
    volume = draw.integers(0, volumes, rows) * draw.integers(0, 2, rows)
    return TickBars(low, high, close, volume, np.arange(0, rows + 1, minutes))


@pytest.mark.parametrize("volumes", [2, 5, 100_000])
@pytest.mark.parametrize(
    "rule", [TWO_PRICE, Rule(7, 10, 1, 0), Rule(17, 25, 2, 0), Rule(1, 1, 1, 0), Rule(1, 20, 2, 0)]
)
def test_repaired_levels_equal_regrown_ones_over_long_sessions(rule, volumes, regrown):
    ticks = wandering(20, 700, 5, volumes)
    assert np.array_equal(developing(ticks, rule), regrown(ticks, rule))


@settings(max_examples=200, deadline=None)
@given(bars=SESSION, spread=SPREAD)
def test_the_profile_conserves_every_unit_of_volume(bars, spread):
    ticks = ticks_of(bars)
    units = kernels.session_profile(ticks, SPREADS[spread])
    assert int(units.sum()) == sum(bar.volume for bar in bars) * kernels.SCALE
    assert units.min() >= 0
    assert dict(enumerate(units.tolist(), start=int(ticks.low.min()))) == reference.profile_of(bars, spread)


@settings(max_examples=200, deadline=None)
@given(bar=adversarial_bar())
def test_a_triangle_rises_to_the_close_and_falls_from_it(bar):
    units = kernels.session_profile(ticks_of([bar]), kernels.TRIANGULAR)
    peak = bar.close - bar.low
    assert (np.diff(units[: peak + 1]) >= 0).all()
    assert (np.diff(units[peak:]) <= 0).all()


@settings(max_examples=200, deadline=None)
@given(bars=SESSION)
def test_the_value_area_holds_the_share_and_the_vpoc(bars):
    ticks = ticks_of(bars)
    ((vpoc, vah, val, units),) = kernels.session_levels(ticks, TWO_PRICE)
    assert ticks.low.min() <= val <= vpoc <= vah <= ticks.high.max()
    assert 10 * units >= 7 * ticks.volume.sum() * kernels.SCALE


@settings(max_examples=200, deadline=None)
@given(bars=SESSION, step=st.sampled_from([1, 2]))
def test_the_value_area_counts_every_price_it_spans_and_is_minimal(bars, step):
    _, vah, val, units = reference.levels_of(bars, SHARE, step)
    profile = reference.profile_of(bars)
    inside = [profile[tick] for tick in range(val, vah + 1)]
    assert sum(inside) == units
    # one of its ends came last; without that step the share was not yet reached
    shorter = min(sum(inside[cut:]) for cut in (step, 1)), min(sum(inside[: len(inside) - cut]) for cut in (step, 1))
    assert len(inside) == 1 or 10 * min(shorter) < 7 * sum(profile.values())


@settings(max_examples=200, deadline=None)
@given(bars=SESSION)
def test_the_one_price_area_is_the_run_of_heavy_prices_around_the_vpoc(bars):
    # an oracle of another kind: grow nothing, lower a threshold. Ties at the threshold may enter in part, so the
    # area lies between the stretches above it and at it.
    vpoc, vah, val, _ = reference.levels_of(bars, SHARE, 1)
    profile = reference.profile_of(bars)
    lightest = min(profile[tick] for tick in range(val, vah + 1))
    for level in (lightest, lightest + 1):
        low = high = vpoc
        while profile.get(low - 1, -1) >= level:
            low -= 1
        while profile.get(high + 1, -1) >= level:
            high += 1
        if level == lightest:
            assert low <= val <= vah <= high
        elif profile[vpoc] >= level:
            assert val <= low <= high <= vah


def test_a_session_of_five_million_contracts_does_not_overflow():
    low = np.zeros(1380, np.int64)
    ticks = TickBars(low, low, low, np.full(1380, 3623, np.int64), np.array([0, 1380]))  # 5 million contracts
    rule = Rule(9_999, 10_000, 2, 0)
    assert kernels.session_levels(ticks, rule).tolist() == [[0, 0, 0, int(ticks.volume.sum()) * kernels.SCALE]]
    assert developing(ticks, rule)[-1].tolist() == [0, 0, 0]


def test_a_session_without_volume_has_its_middle_as_vpoc_and_an_area_of_one_price():
    ticks = ticks_of([Bar(10, 11, 11, 0), Bar(12, 14, 14, 0)])
    assert kernels.session_levels(ticks, TWO_PRICE).tolist() == [[12, 12, 12, 0]]
    assert developing(ticks, TWO_PRICE).tolist() == [[10, 10, 10], [12, 12, 12]]


@pytest.mark.parametrize("ticks", range(1, 17))
def test_bars_of_up_to_16_ticks_leave_no_remainder(ticks):
    assert kernels.SCALE % ticks == 0


def test_the_value_area_does_not_stop_a_fraction_of_a_unit_early():
    # 7 units, 70 % are 4.9: the 4 of the VPOC are not enough
    profile = np.array([4, 3], np.int64)
    assert kernels.find_value_area(profile, 0, 1, 0, 7, TWO_PRICE) == (0, 1, 7)


def test_compiled_functions_call_only_functions_of_their_file():
    # the cache on disk notices a change in the file of the function it holds, not in the files of its callees
    folder = Path(vpoc_ml.profile.__file__).parent
    trees = {path.stem: ast.parse(path.read_text()) for path in folder.glob("*.py")}
    compiled = {
        function.name: file
        for file, tree in trees.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and any("njit" in ast.unparse(d) for d in function.decorator_list)
    }
    assert len(compiled) > 10
    for file, tree in trees.items():
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in compiled):
            called = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} & compiled.keys()
            assert {compiled[name] for name in called} <= {file}, function.name
