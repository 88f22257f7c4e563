"""A reader of a plugin: recognised by content, read like the others, and part of the bars' build key."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import PluginError
from vpoc_ml.lake.store import Lake
from vpoc_ml.plugins.registered import Active, set_active

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "own-vendor-file.md"
PLUGIN = PAGE.read_text().split("```python\n")[1].split("```")[0]


@pytest.fixture(autouse=True)
def no_plugins():
    yield
    set_active(Active())


@pytest.fixture
def acme(delivery):
    """The delivery in the format of the page."""
    (file,) = delivery.glob("ES*.txt")
    rows = (line.replace(";", "|").replace("00|", "|", 1) for line in file.read_text().splitlines())
    (delivery / "ESH23.acme").write_text("\n".join(["#acme minutes", *rows]) + "\n")
    file.rename(delivery.parent / file.name)
    return delivery


def bars(lake, run):
    (contract,) = pipeline.plan_contracts(lake, run).contracts
    return pipeline.ingest_contract(lake, run, contract)


def test_the_bars_are_those_of_the_same_rows_in_a_known_format(lake, start, acme):
    (known,) = acme.parent.glob("ES*.txt")
    Path(lake).mkdir()
    Path(lake, "plugins.py").write_text(PLUGIN)
    assert bars(lake, start()).reason == "new"
    plan = pipeline.summarize(lake, "night")
    assert not plan.unreadable
    made = Lake(lake).read_frame("bars/ES/ESH23.parquet")
    assert Lake(lake).manifest("bars/ES/ESH23.parquet").inputs["own acme"]
    assert bars(lake, start("again")).reason == "unchanged"
    Path(lake, "plugins.py").write_text(PLUGIN.replace('HEADER = "#acme minutes"', 'HEADER = "#acme " + "minutes"'))
    assert bars(lake, start("changed")).reason == "inputs changed: own acme"
    (acme / "ESH23.acme").unlink()
    known.rename(acme / known.name)
    Path(lake, "plugins.py").unlink()
    bars(lake, start("known"))
    assert Lake(lake).read_frame("bars/ES/ESH23.parquet").equals(made)


def test_without_the_plugin_the_file_is_listed_as_unknown(lake, start, acme):
    from vpoc_ml.errors import MissingInputError

    with pytest.raises(MissingInputError, match=r"ESH23\.acme: expected"):
        bars(lake, start())


def test_a_name_of_the_product_is_refused(lake, start):
    Path(lake).mkdir()
    Path(lake, "plugins.py").write_text(PLUGIN.replace('name = "acme"', 'name = "sierra"').replace("sierra", "lean"))
    with pytest.raises(PluginError, match="a name that no reader of the product has; found lean"):
        start()
