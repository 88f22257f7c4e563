"""The page is self-contained, draws only valid conclusions, and lies among the reports of its run."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from vpoc_ml import pipeline
from vpoc_ml.analysis.analyze import analyze
from vpoc_ml.artifacts.feature_analysis import FeatureAnalysis
from vpoc_ml.cli import app
from vpoc_ml.config import resolve
from vpoc_ml.errors import MissingInputError
from vpoc_ml.lake.store import Lake
from vpoc_ml.reports.feature_report import findings, render_analysis, write_analysis
from vpoc_ml.reports.inline_svg import histogram_svg, path_svg, three_digits

pytestmark = pytest.mark.slow

CONFIG = resolve("smoke")
NOW = datetime(2025, 3, 17, 22, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def found(made):
    return analyze(made.folder, CONFIG).to_json()


@pytest.fixture
def own(found):
    return copy.deepcopy(found)


def test_page_is_self_contained(found):
    html = render_analysis("night", found)
    assert not re.findall(r"https?:(?!//www\.w3\.org/2000/svg)|<script|<link|@import|url\(", html)
    assert re.findall(r'src="([^"]{0,26})', html) == ["data:image/svg+xml;base64,"] * 4
    assert html.count("<svg ") == 2 * 6 + 2 * 7
    assert "test rows of this run were not read" in html


def test_page_is_the_same_twice_and_escapes_names(own):
    assert render_analysis("a", own) == render_analysis("a", own)
    own["features"]["<b>vwap"] = own["features"].pop("vwap")
    for scaler in own["scalers"].values():
        scaler["features"]["<b>vwap"] = scaler["features"].pop("vwap")
    html = render_analysis("<script>", own)
    assert "<script>" not in html
    assert "<b>vwap" not in html


def test_findings_name_significant_and_needed_features(found, noise):
    planted, nothing = findings(found), findings(analyze(noise.folder, CONFIG).to_json())
    assert planted[0].endswith("tests: close_change_pct; mom_15m.")
    assert all("loses without price" in sentence for sentence in planted[1:3])
    assert "clusters" in planted[5]
    assert nothing[0].endswith("tests: none.")
    assert all("No group is shown to be needed" in sentence for sentence in nothing[1:3])


def test_one_contract_has_no_drift_to_draw(made, make_run):
    run = make_run(made.frame.with_columns(contract=pl.lit("ESH25")))
    html = render_analysis("one", analyze(run.folder, CONFIG).to_json())
    assert "One contract only" in html
    assert "Population stability" not in html
    assert "Between contracts" not in html


def test_missing_values_and_unavailable_kinds_are_shown(own):
    own["targets"]["binary"] = {"predicts": "p", "chosen": False, "refused": "Expected <more> classes."}
    html = render_analysis("night", own)
    assert "Expected &lt;more&gt; classes." in html
    assert re.search(r"Not finite in training rows: rv_30 1(\.0\d*)? %", html)


def test_json_beside_the_page_is_the_analysis(found, tmp_path):
    page = write_analysis(tmp_path, "night", FeatureAnalysis.model_validate(found))
    assert page == tmp_path / "feature-analysis.html"
    assert json.loads((tmp_path / "feature-analysis.json").read_text()) == found


@pytest.fixture
def lake(made, tmp_path):
    """A lake with a started run that has a training set and nothing else."""
    root = tmp_path / "lake"
    (root / "raw").mkdir(parents=True)
    pipeline.start_run(str(root), "night", "smoke", {}, None, None, now=NOW)
    folder = Lake(root).folder("runs/night")
    for name in ("training_set.parquet", "feature_statistics.json"):
        (folder / name).write_bytes((made.folder / name).read_bytes())
    return root


def test_command_writes_among_the_reports_of_the_run(lake):
    result = CliRunner().invoke(app, ["report", "features", "--lake", str(lake), "--run", "night", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    page = lake / "reports" / "runs" / "night" / "feature-analysis.html"
    assert page.is_file()
    assert said["report"] == str(page)
    assert said["features"] == 6
    assert pipeline.summarize(str(lake), "night").stages[0].stage == "analyze-features"


def test_a_run_without_a_training_set_raises(lake):
    (lake / "runs" / "night" / "training_set.parquet").unlink()
    with pytest.raises(MissingInputError, match="training set"):
        pipeline.analyze_features(str(lake), "night")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.500"), (-12.345, "-12.3"), (1234.5, "1234"), (2e-9, "2.0e-09"), (0.00123, "0.00123")],
)
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


def test_bars_fill_the_height_and_escape_their_label():
    root = ET.fromstring(histogram_svg([0, 2, 4], 'a "<b>"', 30, 10))
    assert root.attrib["aria-label"] == 'a "<b>"'
    assert root[0].attrib["d"] == "M0 10V10H10V5H20V0H30V10Z"


def test_path_breaks_where_a_value_is_missing():
    drawn = path_svg([np.array([0.0, 1.0, np.nan, 1.0]), np.array([0.5, 0.5])], "x")
    path = ET.fromstring(drawn).findall("{*}path")
    assert [one.attrib["d"].count("M") for one in path[1:]] == [2, 1, 1]  # two pieces, the line between, the next part
    assert "nan" not in drawn


@pytest.mark.parametrize("values", [np.full(5, 2.0), np.full(3, np.nan), np.zeros(0)])
def test_path_of_nothing_or_of_a_constant_is_drawn(values):
    ET.fromstring(path_svg([values], "x"))
