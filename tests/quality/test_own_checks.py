"""Checks of plugins in the gates: validated with the others, kept in the history, shown with their own words."""

from __future__ import annotations

import pytest

from vpoc_ml.artifacts.gate_report import Verdict
from vpoc_ml.plugins.declared import OwnCheck
from vpoc_ml.plugins.registered import Active, Plugin, set_active
from vpoc_ml.quality.history import scan
from vpoc_ml.reports.pages.gate import text_of


@pytest.fixture
def own():
    """Activate one check of a gate, which finds the first ``count`` rows defective."""

    def activate(gate, count, **limits):
        check = OwnCheck(
            name="planted",
            gate=gate,
            column="close",
            expected="none of the planted rows",
            meaning="A row was planted.",
            action="Remove it.",
            defects=lambda table: table.head(count),
            **limits,
        )
        set_active(Active("lake", (Plugin("checks", "planted", check, "made", "0"),)))

    yield activate
    set_active(Active())


FRAMES = {"bars": "bars", "features": "features", "training-set": "training"}


@pytest.mark.parametrize("gate", FRAMES)
def test_an_own_check_fails_its_gate_above_its_limit(world, validated, own, gate):
    frame = getattr(world, FRAMES[gate])
    before = validated(gate, frame, name="before")
    own(gate, 2)
    verdict = validated(gate, frame)
    assert verdict.checks == before.checks + 1
    (failure,) = [each for each in verdict.failures if each.check == "planted"]
    assert (failure.severity, failure.count, failure.contract) == ("critical", 2, "ESH25")
    assert failure.expected == "none of the planted rows"
    assert failure.first[0] == frame["ts"][0].isoformat()
    assert not verdict.passed
    own(gate, 2, fail_above=2)
    assert not [each for each in validated(gate, frame, name="run2").failures if each.check == "planted"]
    own(gate, 2, fail_above=None, warn_above=1)
    warned = validated(gate, frame, name="run3")
    assert [each.severity for each in warned.failures if each.check == "planted"] == ["warning"]


def test_an_own_check_of_another_gate_is_not_made(world, validated, own):
    own("features", 2)
    verdict = validated("bars", world.bars)
    assert "own_texts" not in verdict.to_json()
    assert not verdict.failures


def test_pages_show_its_words_without_the_plugin(world, validated, own):
    own("bars", 1)
    stored = Verdict.model_validate(validated("bars", world.bars).to_json())
    set_active(Active())
    assert text_of(stored, "planted") == ("A row was planted.", "Remove it.")
    assert text_of(stored, "stale").meaning.startswith("The same prices")
    rows = scan(world.reports).collect()
    assert rows.filter(check="planted")["count"].to_list() == [1]
