"""Environment variables: one prefix, one list, and the names of the earlier release."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from vpoc_ml import environment
from vpoc_ml.lake.mirror import cache_folder
from vpoc_ml.market.instruments import symbols

ROOT = Path(__file__).resolve().parents[1]
NAMES = {value for name, value in vars(environment).items() if name.isupper() and isinstance(value, str)}
CALLS = re.compile(r"environ(?:\.get\(|\[)\s*f?[\"'](\w+)")


@pytest.mark.parametrize(("name", "former"), environment.FORMER_NAMES.items())
def test_a_former_name_still_works_and_the_warning_names_the_new_one(monkeypatch, name, former):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(former, "value")
    with pytest.warns(FutureWarning, match=f"variable {former} is now called {name}"):
        assert environment.read(name) == "value"


def test_the_new_name_wins_without_a_warning(monkeypatch):
    monkeypatch.setenv("VPOC_LAKE", "new")
    monkeypatch.setenv("VPOC_ML_LAKE", "old")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert environment.read(environment.LAKE) == "new"


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("VPOC_CACHE", "")
    monkeypatch.delenv("VPOC_ML_CACHE", raising=False)
    assert environment.read(environment.CACHE) is None


def test_modules_that_read_a_variable_accept_its_former_name(monkeypatch, tmp_path):
    own = tmp_path / "instruments.toml"
    own.write_text(
        '[XX]\ntick = 1.0\npoint_value = 1.0\ncalendar = "CME Globex Equity"\nmonths = ["H"]\nlast_trade = "08:30"\n'
        'expiry = { rule = "third_friday" }\ncost_per_side = 0.0\n'
    )
    monkeypatch.setenv("VPOC_ML_INSTRUMENTS", str(own))
    monkeypatch.setenv("VPOC_ML_CACHE", str(tmp_path))
    with pytest.warns(FutureWarning, match="VPOC_INSTRUMENTS"):
        assert "XX" in symbols()
    with pytest.warns(FutureWarning, match="VPOC_CACHE"):
        assert cache_folder() == tmp_path


def test_command_lines_set_the_new_name_from_the_former_one(monkeypatch):
    monkeypatch.delenv("VPOC_LAKE", raising=False)
    monkeypatch.setenv("VPOC_ML_LAKE", "s3://bucket/es")
    with pytest.warns(FutureWarning):
        environment.accept_former_names()
    assert environment.os.environ["VPOC_LAKE"] == "s3://bucket/es"


def test_every_variable_has_the_prefix_and_no_module_reads_one_past_the_list():
    assert all(name.startswith("VPOC_") for name in NAMES)
    files = [file for folder in ("include", "dags", "plugins") for file in (ROOT / folder).rglob("*.py")]
    read = {name for file in files for name in CALLS.findall(file.read_text())}
    assert not {name for name in read if name.startswith("VPOC_")}
