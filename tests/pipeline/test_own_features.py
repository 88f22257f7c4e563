"""Own features in the lake: they are stored with the others, and a change rebuilds what depends on them only."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpoc_ml.plugins.registered import Active, set_active

from .test_feature_families import World

pytestmark = pytest.mark.slow

PLUGIN = """
from vpoc_ml.plugins import OwnCheck, OwnFeature

def body(x):
    return (x.close - x.open) * SCALE

SCALE = 1
FEATURES = [
    OwnFeature(name="body", family="candle", formula="C - O in ticks", window="1 m", compute=body)
]
CHECKS = [
    OwnCheck(name="cheap", gate="bars", expected="a price", meaning="m", action="a", defects=lambda rows: rows.head(0))
]
"""
OWN = {"features.own": "candle"}


@pytest.fixture
def world(tmp_path):
    set_active(Active())
    made = World(tmp_path)
    made.deliver("ES", 4000.0)
    yield made
    set_active(Active())


def test_a_changed_feature_is_computed_again_where_it_is_selected_and_nowhere_else(world):
    file = Path(world.root, "plugins.py")
    file.write_text(PLUGIN)
    assert set(world.run("plain", "ES").values()) == {"new"}
    assert "body" not in world.features("ESM24").columns
    reasons = world.run("own", "ES", OWN)
    assert all("own body" in reason for reason in reasons.values()), reasons
    features, bars = world.features("ESM24"), world.lake.read_frame("bars/ES/ESM24.parquet")
    assert features.columns[-1] == "body"
    assert (features["body"] == ((bars["close"] - bars["open"]) / 0.25).cast(features["body"].dtype)).all()
    assert set(world.run("again", "ES", OWN).values()) == {"unchanged"}
    for harmless in (f"# a comment\n{PLUGIN}", PLUGIN.replace('expected="a price"', 'expected="a high price"')):
        file.write_text(harmless)
        assert set(world.run("again", "ES", OWN).values()) == {"unchanged"}
    file.write_text(PLUGIN.replace("SCALE = 1", "SCALE = 2"))
    assert set(world.run("other", "ES", OWN).values()) == {"inputs changed: own body"}
    assert (world.features("ESM24")["body"] == 2 * features["body"]).all()
    file.write_text(PLUGIN)
    plain = world.run("plain", "ES")
    assert all("own body" in reason for reason in plain.values())
    file.write_text(PLUGIN.replace("SCALE = 1", "SCALE = 3"))
    assert set(world.run("plain", "ES").values()) == {"unchanged"}
