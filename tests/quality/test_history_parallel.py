"""The history keeps every gate of every run once, also when gates run at the same time."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta

import polars as pl
import pytest

from vpoc_ml.artifacts.schemas import GATE_HISTORY
from vpoc_ml.quality import history
from vpoc_ml.quality.checks import ContractFacts, MarketFacts
from vpoc_ml.quality.gates import validate_bars
from vpoc_ml.reports.gate_pages import publish_data_docs, read_verdicts, write_gates_page

pytestmark = pytest.mark.slow

GATES = ("bars", "features")

WORKER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import polars as pl
from vpoc_ml.quality.gates import validate_bars
from vpoc_ml.quality.checks import ContractFacts, MarketFacts
root, worker = Path(sys.argv[1]), sys.argv[2]
calendar = pl.read_parquet(root / "calendar.parquet")
for night in range(2):
    facts = {"ESH25": ContractFacts(root / "bars.parquet", calendar)}
    validate_bars(facts, MarketFacts(0.25), run=f"w{worker}n{night}", reports_dir=root / "reports",
                  now=datetime(2026, 11, 20, 2, night, tzinfo=UTC))
"""


def test_one_row_per_check_and_a_repeated_gate_replaces_its_rows(world, validated):
    first = validated("bars", world.bars, name="night:1")
    validated("features", world.features, name="night:1")
    validated("bars", world.bars.with_columns(close=pl.lit(6000.0)), name="night:1")
    table = history.scan(world.reports).collect()
    assert table.schema == pl.Schema(GATE_HISTORY)
    bars = table.filter(pl.col("gate") == "bars")
    assert bars.height == first.checks
    assert bars.select("run", "gate", "contract", "column", "check").is_unique().all()
    assert bars.filter(check="constant", column="close")["failed"].to_list() == ["warning"]
    assert set(table["gate"]) == {"bars", "features"}


def test_empty_history_has_its_schema(tmp_path):
    assert history.scan(tmp_path).collect().schema == pl.Schema(GATE_HISTORY)


def test_parallel_gates_lose_nothing(world):
    world.file("bars", world.bars)
    world.calendar.write_parquet(world.root / "calendar.parquet")
    commands = [[sys.executable, "-c", WORKER, str(world.root), str(n)] for n in range(3)]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0, 0]
    runs = {f"w{worker}n{night}" for worker in range(3) for night in range(2)}
    assert set(history.scan(world.reports).collect()["run"]) == runs
    publish_data_docs(world.reports)
    pages = {
        page.relative_to(world.reports / "data_docs").parts[2] for page in world.reports.rglob("measurements-bars.html")
    }
    assert pages == runs
    assert all(read_verdicts(world.reports, run, GATES)[0].passed for run in runs)


def test_docs_keep_the_newest_results_and_delete_pages_of_the_others(world):
    path = world.file("bars", world.bars)
    for night in range(4):
        now = world.now + timedelta(days=night)
        contracts = {"ESH25": ContractFacts(path, world.calendar)}
        validate_bars(contracts, MarketFacts(0.25), run=f"night{night}", reports_dir=world.reports, now=now)
        write_gates_page(world.reports, f"night{night}", GATES)
        publish_data_docs(world.reports, limit=2)
    for kind, root in (("json", "gx"), ("html", "data_docs")):
        kept = {file.parts[-3] for file in (world.reports / root / "validations").rglob(f"*.{kind}")}
        assert kept == {"night2", "night3"}
    assert not (world.reports / "data_docs" / "validations" / "bars" / "night0").exists()
    index = (world.reports / "data_docs" / "index.html").read_text()
    assert "night3" in index
    assert "night1" not in index
    for night in range(4):
        page = world.reports / "runs" / f"night{night}" / "gates.html"
        links = re.findall(r'href="(\.\./[^"]+)"', page.read_text())
        assert len(links) == (1 if night >= 2 else 0)
        assert all((page.parent / link).resolve().is_file() for link in links)
        assert ("Data Docs expired" in page.read_text()) == (night < 2)
    write_gates_page(world.reports, "night1", GATES)
    write_gates_page(world.reports, "night3", GATES)
    assert "Data Docs expired" in (world.reports / "runs" / "night1" / "gates.html").read_text()
    assert "Data Docs expired" not in (world.reports / "runs" / "night3" / "gates.html").read_text()
