"""The instrument and the preset of the how-to pages are what the pages say."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from vpoc_ml import config
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

HOW_TO = Path(__file__).resolve().parents[1] / "docs" / "how-to"


def code_of(page: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", (HOW_TO / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_instrument_of_the_page_can_be_used(tmp_path, monkeypatch):
    file = tmp_path / "my_instruments.toml"
    file.write_text(code_of("own-instrument.md", "toml"))
    monkeypatch.setenv("VPOC_INSTRUMENTS", str(file))
    note = instrument("ZN")
    assert note.tick_size == 1 / 64
    assert note.price_range == (60, 250)
    expiry = parse_contract("ZNH25").expiry
    assert expiry.year == 2025
    assert expiry.month == 3
    assert expiry < date(2025, 3, 31)


def test_a_preset_is_the_same_on_the_command_line_and_in_airflow():
    lines = code_of("own-preset.md", "ini").splitlines()
    listed = config.resolve("nightly", dict(map(config.parse_override, lines)))
    conf = json.loads(code_of("own-preset.md", "json"))
    assert config.resolve(conf.pop("preset"), conf) == listed
    assert listed.dataset.horizon.count == 60
    assert listed != config.resolve("nightly")


@pytest.mark.parametrize("page", sorted(path.name for path in HOW_TO.glob("own-*.md")))
def test_every_page_of_an_extension_is_in_the_navigation(page):
    assert f"how-to/{page}" in (HOW_TO.parents[1] / "mkdocs.yml").read_text()
