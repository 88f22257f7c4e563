"""Large files: bounded memory, one pass per contract, endless lines, and packed content."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import UnreadableFileError
from vpoc_ml.ingest import file_streams
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.discover import discover
from vpoc_ml.ingest.file_streams import blocks, open_unpacked
from vpoc_ml.ingest.merge import hash_source
from vpoc_ml.ingest.readers import READERS
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

from . import vendor_files as vendor

pytestmark = pytest.mark.slow

ES, ESH25 = instrument("ES"), parse_contract("ESH25")
CODES = ["ESH3", "ESM3", "ESU3", "ESZ3", "ESH4", "ESM4", "ESU4", "ESZ4"]
MEASURED = """
    import resource, sys
    from pathlib import Path
    import polars as pl
    from datetime import date
    from vpoc_ml.config import IngestConfig
    from vpoc_ml.ingest.bars import build_bars
    from vpoc_ml.ingest.discover import discover
    from vpoc_ml.ingest.vix.vix_closes import available_at
    from vpoc_ml.market.contracts import parse_contract
    from vpoc_ml.market.instruments import instrument

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    es, folder = instrument("ES"), Path(sys.argv[1])
    days = pl.date_range(date(2022, 1, 1), date(2025, 12, 31), eager=True)
    vix = pl.DataFrame({"date": days, "close": 15.0}).with_columns(available_at=available_at("date"))
    config = IngestConfig(quarantine_limit=1.0)
    small = discover(folder / "small", es, config)
    build_bars(small.contracts["ESH23"], parse_contract("ESH23"), es, vix, config)
    before = peak()
    large = discover(folder / "large", es, config)
    rows = [build_bars(s, parse_contract(c), es, vix, config).rows_in for c, s in large.contracts.items()]
    print(peak() - before, sum(rows))
"""


def contract_lines(code: str, start: datetime, minutes: int) -> list[str]:
    """Databento lines of consecutive minutes, quickly."""
    ts = pl.datetime_range(start, start + timedelta(minutes=minutes - 1), "1m", eager=True).dt.strftime(
        "%Y-%m-%dT%H:%M"
    )
    tail = f":00.000000000Z,33,1,5482,4000.250000000,4000.500000000,4000.000000000,4000.250000000,17,{code}"
    return [f"{timestamp}{tail}" for timestamp in ts]


def test_large_file_of_many_contracts_is_built_in_bounded_memory(tmp_path: Path) -> None:
    header = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    starts = [datetime(2022, 12, 12, tzinfo=UTC) + timedelta(days=91 * n) for n in range(len(CODES))]
    part = [contract_lines(code, start, 56 * 1440) for code, start in zip(CODES, starts, strict=True)]
    (tmp_path / "small" / "a.csv").write_text("\n".join([header, *part[0][:20_000]]) + "\n")
    with (tmp_path / "large" / "a.csv").open("w") as file:
        file.write(header + "\n")
        file.writelines("\n".join(lines) + "\n" for lines in part)
    size = (tmp_path / "large" / "a.csv").stat().st_size / 2**20
    assert size > 60
    command = [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(out[1]) == sum(map(len, part))
    assert float(out[0]) < size / 2, f"{out[0]} MiB more for a file of {size:.0f} MiB"


def test_span_reads_only_the_contracts_part_and_finds_every_row(tmp_path: Path, flat_vix, monkeypatch) -> None:
    monkeypatch.setattr(file_streams, "BLOCK", 4096)
    first = contract_lines("ESZ4", datetime(2024, 12, 2, 15, 0, tzinfo=UTC), 300)
    second = contract_lines("ESH5", datetime(2024, 12, 3, 15, 0, tzinfo=UTC), 300)
    mixed = [line for pair in zip(first[200:], second[:100], strict=True) for line in pair]
    broken = "2024-12-03T15:00:00.000000000Z,33,1,5482,bad"
    lines = [vendor.databento(pl.DataFrame(schema=dict.fromkeys(("ts", *vendor.VALUES), pl.Int64)))[0]]
    lines += [*first[:200], broken, *mixed, *second[100:], broken, second[0]]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    found = discover(tmp_path, ES, config := IngestConfig(quarantine_limit=0.5))
    whole = (tmp_path / "a.csv").stat().st_size
    spans = {code: sources[0].span for code, sources in found.contracts.items()}
    assert spans["ESH25"].start > 0
    assert spans["ESZ24"].stop < whole
    old = build_bars(found.contracts["ESZ24"], parse_contract("ESZ24"), ES, flat_vix, config)
    new = build_bars(found.contracts["ESH25"], ESH25, ES, flat_vix, config)
    assert (old.bars.height, old.quarantine["line"].to_list()) == (300, [202])
    assert new.bars.height == 300
    assert new.quarantine.select("line", "reason", "text").rows() == [
        (len(lines) - 1, "unparsable", broken),
        (len(lines), "duplicate", second[0]),
    ]


def test_fingerprint_of_a_contract_ignores_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [vendor.databento(pl.DataFrame(schema=dict.fromkeys(("ts", *vendor.VALUES), pl.Int64)))[0]]
    lines += contract_lines("ESZ4", datetime(2024, 12, 2, 15, 0, tzinfo=UTC), 100)
    lines += contract_lines("ESH5", datetime(2024, 12, 3, 15, 0, tzinfo=UTC), 100)
    path.write_text("\n".join(lines) + "\n")
    before = {code: hash_source(sources[0]) for code, sources in discover(tmp_path, ES).contracts.items()}
    path.write_text("\n".join([*lines, *contract_lines("ESH5", datetime(2024, 12, 4, 15, tzinfo=UTC), 9)]) + "\n")
    after = {code: hash_source(sources[0]) for code, sources in discover(tmp_path, ES).contracts.items()}
    assert before["ESZ24"] == after["ESZ24"]
    assert before["ESH25"] != after["ESH25"]


def test_line_of_many_megabytes_is_quarantined_without_being_held(tmp_path: Path, minutes, noon, flat_vix) -> None:
    path, size = tmp_path / "ES 03-25.txt", 24 * 2**20
    lines = minutes(noon, 300)
    with path.open("w") as file:
        file.write("\n".join(lines[:100]) + "\n" + "7" * size + "\n" + "\n".join(lines[100:]) + "\n")
    with open_unpacked(path) as stream:
        assert max(len(block.text) for block in blocks(stream)) < file_streams.BLOCK + file_streams.LONGEST_LINE
    built = build_bars(path, ESH25, ES, flat_vix, IngestConfig())
    assert built.bars.height == 300
    line, text = built.quarantine.select("line", "text").row(0)
    assert line == 101
    assert text.endswith("... (a line of 25,165,825 bytes)")


def test_file_that_is_one_endless_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ES 03-25.txt"
    path.write_text("7" * (6 * 2**20))
    with pytest.raises(UnreadableFileError) as caught:
        build_bars(path, ESH25, ES, pl.DataFrame(), IngestConfig())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("block", [64, 1000, 4 * 2**20])
def test_rows_do_not_depend_on_where_blocks_end(block: int, write, minutes, noon, monkeypatch) -> None:
    monkeypatch.setattr(file_streams, "BLOCK", block)
    path = write([*minutes(noon, 50), "broken", *minutes(noon + timedelta(minutes=50), 50)])
    source = discover(path.parent, ES).contracts["ESH25"][0]
    rows = pl.concat(READERS["ninjatrader"].batches(source, ES, IngestConfig()))
    assert rows["line"].to_list() == list(range(1, 102))
    assert rows["ts"].is_null().arg_true().to_list() == [50]


def build_found(folder: Path, vix: pl.DataFrame) -> None:
    build_bars(discover(folder, ES).contracts["ESH25"], ESH25, ES, vix, IngestConfig())


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("pack", [vendor.gzipped, vendor.zipped, vendor.zstandarded], ids=["gzip", "zip", "zstd"])
def test_truncated_archives_are_refused(pack, keep: float, write, minutes, noon, flat_vix) -> None:
    packed = pack(write(minutes(noon, 2000)))
    data = packed.read_bytes()
    packed.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UnreadableFileError, match="cut off"):
        build_found(packed.parent, flat_vix)


def test_a_truncated_scid_is_recognised_by_its_size(tmp_path: Path) -> None:
    bars = pl.DataFrame(
        {"ts": [datetime(2025, 1, 15, 17, tzinfo=UTC)], **dict.fromkeys(("open", "high", "low", "close"), 6000.0)}
    ).with_columns(volume=5)
    path = vendor.write_scid(tmp_path / "ESH25.scid", bars)
    path.write_bytes(path.read_bytes() + b"\x00" * 7)
    with pytest.raises(UnreadableFileError, match="part of record 2"):
        discover(tmp_path, ES)


def test_a_truncated_gzip_leaves_only_its_contract_out(tmp_path: Path, minutes, noon) -> None:
    for name in ("ES 03-25.txt", "ES 06-25.txt"):
        path = tmp_path / name
        path.write_text("\n".join(minutes(noon, 2000)) + "\n")
    packed = vendor.gzipped(path)
    packed.write_bytes(packed.read_bytes()[:-40])
    found = discover(tmp_path, ES)
    assert list(found.contracts) == ["ESH25"]
    assert found.unreadable[0].contracts == ("ESM25",)
