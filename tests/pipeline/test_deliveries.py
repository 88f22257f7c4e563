"""What a delivery folder may look like: sub-folders, torn files beside whole ones, copies, contradictions, zips."""

import shutil
from pathlib import Path

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.lake.store import Lake

from .conftest import NOW


def prices(folder):
    return next(folder.glob("ES*.txt"))


def ingest(lake, run, contract="ESH23"):
    pipeline.plan_contracts(lake, run)
    return pipeline.ingest_contract(lake, run, contract)


@pytest.fixture
def two(delivery):
    """The delivery with the same minutes as a second contract, ESM23, in a sub-folder."""
    (delivery / "later").mkdir()
    shutil.copy(prices(delivery), delivery / "later" / "ES 06-23.Last.txt")
    return delivery


def test_torn_file_leaves_its_contract_as_it_was_and_the_others_go_on(lake, start, two):
    start("one")
    built = {code: ingest(lake, "one", code).rows_out for code in ("ESH23", "ESM23")}
    torn = two / "later" / "ES 06-23.Last.txt"
    torn.write_bytes(torn.read_bytes()[:-9])
    start("two")
    plan = pipeline.plan_contracts(lake, "two")
    assert plan.contracts == ("ESH23",)
    assert [item.name for item in plan.unreadable] == ["later/ES 06-23.Last.txt"]
    assert "cut off or still being written" in plan.unreadable[0].reason
    assert ingest(lake, "two").reason == "unchanged"
    assert Lake(lake).manifest("bars/ES/ESM23.parquet").rows == built["ESM23"]


def test_torn_contract_that_was_requested_is_the_error(lake, start, two):
    torn = two / "later" / "ES 06-23.Last.txt"
    torn.write_bytes(torn.read_bytes()[:-9])
    start(overrides={"data.contracts": ["ESM23"]})
    with pytest.raises(UnreadableFileError, match="cut off or still being written"):
        pipeline.plan_contracts(lake, "night")


def test_copy_of_a_file_rebuilds_nothing(lake, start, delivery):
    start("one")
    first = ingest(lake, "one")
    assert (first.reason, first.skipped) == ("new", False)
    shutil.copy(prices(delivery), delivery / "ESH23 again.txt")
    start("two")
    second = ingest(lake, "two")
    assert (second.reason, second.skipped) == ("unchanged", True)


def test_second_file_that_goes_on_where_the_first_ends_extends_the_contract(lake, start, delivery):
    path = prices(delivery)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9000]))
    start("one")
    assert ingest(lake, "one").rows_in == 9000
    (delivery / "ES 03-23 b.txt").write_bytes(b"".join(lines[8000:]))
    start("two")
    result = ingest(lake, "two")
    assert result.reason == "inputs changed: raw"
    assert result.rows_in == len(lines)
    assert "1000 rows were delivered identically by several files and count once" in result.notes


def test_contradiction_keeps_the_bars_and_the_option_settles_it(lake, start, delivery):
    start("one")
    before = ingest(lake, "one").rows_out
    lines = prices(delivery).read_text().splitlines()
    changed = [*lines[:99], lines[99].rsplit(";", 1)[0] + ";77777", *lines[100:200]]
    (delivery / "ES 03-23 corrected.txt").write_text("\r\n".join(changed) + "\r\n", newline="")
    start("two")
    with pytest.raises(UnreadableFileError, match=r"line 100: .* line 100: .*ingest\.conflicts=latest"):
        ingest(lake, "two")
    assert Lake(lake).manifest("bars/ES/ESH23.parquet").rows == before
    start("three", overrides={"ingest.conflicts": "latest"})
    result = ingest(lake, "three")
    assert result.rows_out == before
    assert "config changed" in result.reason


@pytest.mark.real
def test_real_lean_zips_go_through_the_pipeline(lake, real_data, tmp_path):
    raw = tmp_path / "lean"
    shutil.copytree(real_data / "es_lean", raw)
    for path in raw.rglob("*"):
        path.chmod(0o755)
    vix = Path(real_data / "vix" / "vix-daily.csv")
    pipeline.start_run(lake, "night", "smoke", None, str(raw), str(vix), NOW)
    plan = pipeline.plan_contracts(lake, "night")
    assert plan.contracts[:2] == ("ESZ13", "ESH14")
    result = pipeline.ingest_contract(lake, "night", "ESZ13")
    assert (result.rows_in, result.rows_out, result.sessions) == (16_673, 16_672, 18)
