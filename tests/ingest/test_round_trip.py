"""One set of bars, written as each vendor writes it, reads back the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.bars import BuiltBars, build_bars
from vpoc_ml.ingest.discover import discover
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

from . import vendor_files as vendor

pytestmark = pytest.mark.slow

ES, ESH25 = instrument("ES"), parse_contract("ESH25")
BEGIN = datetime(2025, 1, 15, 23, 0, tzinfo=UTC)  # the opening of the session of the 16th


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """Two full sessions, one weekday each, with volumes above and below a thousand."""
    rng = np.random.default_rng(5)
    minutes = [BEGIN + timedelta(days=day, minutes=n) for day in range(2) for n in range(1380)]
    close = 5900 + 0.25 * np.cumsum(rng.integers(-4, 5, len(minutes)))
    open_ = np.roll(close, 1)
    open_[0] = close[0]
    return pl.DataFrame(
        {
            "ts": pl.Series(minutes, dtype=pl.Datetime("us", "UTC")),
            "open": open_,
            "high": np.maximum(open_, close) + 0.25 * rng.integers(0, 4, len(minutes)),
            "low": np.minimum(open_, close) - 0.25 * rng.integers(0, 4, len(minutes)),
            "close": close,
            "volume": rng.integers(4, 3000, len(minutes)),
        }
    )


def read_back(folder: Path, vix: pl.DataFrame, **settings: object) -> BuiltBars:
    config = IngestConfig(**settings)
    found = discover(folder, ES, config)
    assert (list(found.contracts), found.unreadable) == (["ESH25"], ())
    return build_bars(found.contracts["ESH25"], ESH25, ES, vix, config)


def same(built: BuiltBars, bars: pl.DataFrame) -> None:
    assert built.bars.select(bars.columns).equals(bars)
    assert built.rows_in == bars.height
    assert built.quarantine.is_empty()


@pytest.mark.parametrize("name", vendor.VENDORS)
def test_every_text_format_reads_back_the_same_bars(name: str, bars, tmp_path: Path, flat_vix) -> None:
    made = vendor.VENDORS[name]
    made.write(tmp_path, bars)
    same(built := read_back(tmp_path, flat_vix, **made.settings), bars)
    assert "UTC" in built.notes[0] or "local times" in built.notes[0] or "offset" in built.notes[0]


def zstandard_in_a_zip(path: Path) -> Path:
    return vendor.zipped(vendor.zstandarded(path))


PACKS = [vendor.gzipped, vendor.zipped, vendor.zstandarded, zstandard_in_a_zip]


@pytest.mark.parametrize("pack", PACKS, ids=["gzip", "zip", "zstandard", "zstandard in a zip"])
@pytest.mark.parametrize("name", ["ninjatrader", "databento", "barchart", "merged"])
def test_packed_files_are_read_through(name: str, pack, bars, tmp_path: Path, flat_vix) -> None:
    made = vendor.VENDORS[name]
    pack(made.write(tmp_path, bars))
    same(read_back(tmp_path, flat_vix, **made.settings), bars)


def test_scid(bars, tmp_path: Path, flat_vix) -> None:
    vendor.write_scid(tmp_path / "ESH25-CME.scid", bars)
    same(read_back(tmp_path, flat_vix), bars)


def test_lean_zip_a_day(bars, tmp_path: Path, flat_vix) -> None:
    (tmp_path / "minute").mkdir()
    assert len(vendor.write_lean(tmp_path / "minute", bars)) == 3
    same(read_back(tmp_path, flat_vix), bars)


def test_parquet_with_a_mapping(bars, tmp_path: Path, flat_vix) -> None:
    vendor.write_parquet(tmp_path / "export.parquet", bars)
    same(read_back(tmp_path, flat_vix, mapping=vendor.GENERIC, label_side="start"), bars)


@pytest.mark.parametrize("packed", [False, True], ids=["dbn", "zstd"])
def test_dbn_written_by_the_vendors_package(packed: bool, bars, tmp_path: Path, flat_vix) -> None:
    pytest.importorskip("databento")
    import zstandard

    data = vendor.dbn_bytes(bars)
    path = tmp_path / ("a.dbn.zst" if packed else "a.dbn")
    path.write_bytes(zstandard.compress(data) if packed else data)
    same(read_back(tmp_path, flat_vix), bars)


@pytest.mark.parametrize("pretty", [True, False], ids=["pretty", "raw"])
def test_databento_csv_written_by_the_vendors_package(pretty: bool, bars, tmp_path: Path, flat_vix) -> None:
    pytest.importorskip("databento")
    from databento import DBNStore

    store = DBNStore.from_bytes(vendor.dbn_bytes(bars))
    store.to_csv(tmp_path / "ESH5.csv", pretty_ts=pretty, pretty_px=pretty, map_symbols=pretty)
    same(read_back(tmp_path, flat_vix), bars)


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in vendor.VENDORS if name != "ninjatrader_tick"])
def test_real_contract_is_the_same_in_every_format(name: str, real: BuiltBars, rows, tmp_path: Path, real_vix) -> None:
    made = vendor.VENDORS[name]
    made.write(tmp_path, rows)
    built = read_back(tmp_path, real_vix, **made.settings)
    written = pl.col("ts") >= rows["ts"][0]
    assert built.bars.equals(real.bars.filter(written))
    columns = ["ts", *vendor.VALUES, "reason"]
    strays = real.quarantine.filter(written).select(columns)
    assert strays.height > 3
    assert built.quarantine.select(columns).sort("ts").equals(strays)


@pytest.fixture(scope="module")
def real_vix(real_data: Path) -> pl.DataFrame:
    return read_vix(real_data / "vix" / "vix-daily.csv")


@pytest.fixture(scope="module")
def real(real_data: Path, real_vix: pl.DataFrame) -> BuiltBars:
    return build_bars(real_data / "es_ninjatrader" / "ES 03-25.Last.txt", ESH25, ES, real_vix, IngestConfig())


@pytest.fixture(scope="module")
def rows(real: BuiltBars) -> pl.DataFrame:
    """The last weeks of the real file, strays included."""
    columns = ["ts", *vendor.VALUES]
    return pl.concat([real.bars.select(columns), real.quarantine.select(columns)]).sort("ts").tail(30_000)
