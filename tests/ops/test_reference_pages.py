"""The reference pages name everything that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vpoc_ml import environment, errors
from vpoc_ml.artifacts import schemas
from vpoc_ml.cli import app
from vpoc_ml.config import PRESETS, setting_keys
from vpoc_ml.pipeline.stages import STAGES
from vpoc_ops import reference_pages

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "reference").glob("*.md"))


def cells(text: str) -> list[list[str]]:
    """Return the rows of the Markdown tables in a text, heads and rulers included."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_table_that_a_page_asks_for_is_filled_in(page):
    requested = re.findall(r"^{{ (\w+) }}$", page.read_text(), re.MULTILINE)
    assert set(requested) <= set(reference_pages.TABLES)
    filled = reference_pages.on_page_markdown(page.read_text())
    assert "{{" not in filled
    assert not requested or len(filled.splitlines()) > 20


def test_an_unknown_table_is_an_error():
    with pytest.raises(KeyError, match="setings"):
        reference_pages.on_page_markdown("# Settings\n\n{{ setings }}\n")


@pytest.mark.parametrize("name", ["settings", "presets", "stages", "tables", "checks", "variables", "exit_codes"])
def test_rows_have_as_many_cells_as_their_head(name):
    text = reference_pages.TABLES[name]()
    for part in text.split("\n\n"):
        assert len({len(row) for row in cells(part)}) <= 1, part


def test_every_setting_stage_command_table_error_and_preset_is_named():
    settings = {row[0] for row in cells(reference_pages.settings())}
    assert {f"`{key}`" for key in setting_keys()} <= settings
    assert [row[0] for row in cells(reference_pages.stages())[2:]] == [stage.name for stage in STAGES]
    commands = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    assert commands == set(re.findall(r"^## `vpoc-ml ([\w-]+)`", reference_pages.command_line(), re.M)) & commands
    assert "BARS" in (titles := re.findall(r"^## (\w+)", reference_pages.tables(), re.MULTILINE))
    assert set(titles) == {name for name in dir(schemas) if name.isupper() and isinstance(getattr(schemas, name), dict)}
    assert f"`{errors.GateFailedError.__name__}`" in {row[1] for row in cells(reference_pages.exit_codes())}
    variables = {each for name, each in vars(environment).items() if name.isupper() and isinstance(each, str)}
    assert {row[0].strip("`") for row in cells(reference_pages.variables())[2:]} == variables
    assert cells(reference_pages.presets())[0] == ["setting", *PRESETS]


def test_every_check_says_what_it_means_and_what_to_do():
    for row in cells(reference_pages.checks()):
        assert len(row) == 5
        assert all(row), row
