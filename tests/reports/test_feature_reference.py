"""The reference page agrees with the code, and every feature has its chart."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.features.build import FUNCTIONS
from vpoc_ml.features.registry import ALL_FEATURES, OPTIONAL_FEATURES, REGISTRY
from vpoc_ml.reports import feature_reference
from vpoc_ml.reports.feature_reference import bounds_text, envelope, page, pictured, sketch, warmup_text, write_page

DOCS = Path(__file__).resolve().parents[2] / "docs"
LARGEST = 6_000


def test_stored_page_is_up_to_date():
    assert (DOCS / "features.md").read_text() == page(), "run `make features-page`"


def test_every_feature_has_its_chart_and_no_other_exists():
    wanted = {name for name, feature in ALL_FEATURES.items() if pictured(feature)}
    assert {file.stem for file in (DOCS / "features").iterdir()} == wanted, "run `make features-page`"
    assert set(REGISTRY) < wanted


def test_page_shows_every_existing_chart():
    shown = re.findall(r"!\[[^]]*\]\((features/[^)]+)\)", page())
    assert len(shown) == len(set(shown)) == sum(map(pictured, ALL_FEATURES.values()))
    assert all((DOCS / name).is_file() for name in shown)


@pytest.mark.parametrize("file", sorted((DOCS / "features").glob("*.svg")), ids=lambda file: file.stem)
def test_chart_is_small_and_describes_itself(file):
    text = file.read_text()
    assert len(text) <= LARGEST
    root = ET.fromstring(text)
    assert root.attrib["aria-label"].startswith(f"{file.stem}, ")
    assert max(len(path.attrib["d"]) for path in root.findall("{*}path")) > 50
    assert "nan" not in text
    assert not re.search(r"\bid=|<!--|<metadata|<script", text)


def test_page_describes_every_feature():
    text = page()
    for name, function in FUNCTIONS.items():
        section = text.split(f"\n### {name}\n")[1].split("\n### ")[0]
        feature = REGISTRY[name]
        assert (function.__doc__ or "").strip().splitlines()[0] in section
        for part in (feature.formula.replace("|", "\\|"), f"| {feature.window} |", f"| {feature.unit} |"):
            assert part in section
    for name, feature in OPTIONAL_FEATURES.items():
        assert f"| `{name}` | `{feature.formula.replace('|', chr(92) + '|')}` | {feature.window} |" in text


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((-np.inf, np.inf), "none"),
        ((0, np.inf), "from 0"),
        ((-np.inf, 1), "up to 1"),
        ((-19 / 20**0.5, 6), "-4.249 to 6"),
    ],
)
def test_bounds_in_words(bounds, text):
    assert bounds_text(bounds) == text


@pytest.mark.parametrize(
    ("sessions", "bars", "text"),
    [
        (0, 0, "-"),
        (1, 1, "1 session, 1 bar"),
        (2, 390, "2 sessions, 390 bars"),
        (22, 0, "22 sessions"),
    ],
)
def test_warmup_in_words(sessions, bars, text):
    assert warmup_text(REGISTRY["vwap"]._replace(warmup_sessions=sessions, warmup_bars=bars)) == text


def test_envelope_keeps_every_extreme():
    rng = np.random.default_rng(4)
    values = rng.standard_normal(1000)
    values[137], values[611] = 50, -50
    kept = envelope(values, 100)
    assert kept.size <= 200
    assert {50.0, -50.0} <= set(kept)
    positions = [int(np.flatnonzero(values == value)[0]) for value in kept]
    assert positions == sorted(positions)
    assert np.array_equal(envelope(values, 500), values)


def column(values: np.ndarray, sessions: int = 64) -> pl.DataFrame:
    return pl.DataFrame({"session": np.repeat(np.arange(sessions), values.size // sessions), "x": values})


def test_feature_that_changes_with_the_session_shows_all_sessions():
    feature = REGISTRY["vix_lag1"]
    drawn = sketch(column(np.repeat(np.arange(64.0), 10)), feature)
    assert "end of 64 sessions" in drawn
    assert "two sessions" in sketch(column(np.arange(640.0)), feature)
    assert "two sessions" in sketch(column(np.tile([0.0, 1.0], 320)), REGISTRY["is_rth"])


def test_charts_of_removed_features_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_reference, "sketches", lambda: iter([("mom_15m", "<svg/>")]))
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "gone.svg").write_text("<svg/>")
    assert write_page(tmp_path) == [tmp_path / "features.md", tmp_path / "features" / "mom_15m.svg"]
    assert [file.name for file in (tmp_path / "features").iterdir()] == ["mom_15m.svg"]


@pytest.mark.slow
def test_charts_are_reproducible_and_match_the_stored_ones(monkeypatch):
    features = feature_reference.synthetic_features()
    monkeypatch.setattr(feature_reference, "synthetic_features", lambda: features)
    first = dict(feature_reference.sketches())
    assert first == dict(feature_reference.sketches())
    stored = {name: (DOCS / "features" / f"{name}.svg").read_text() for name in REGISTRY}
    changed = [name for name in REGISTRY if first[name] + "\n" != stored[name]]
    assert not changed, "run `make features-page`"
