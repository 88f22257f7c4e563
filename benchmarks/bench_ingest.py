"""Time and memory of a large file of many contracts: find its contracts, then build the bars of each.

    python benchmarks/bench_ingest.py            # 1 GB
    python benchmarks/bench_ingest.py --mb 100

A Databento-like CSV is written to a temporary folder and removed: quarterly contracts of a year each, one after the
other, four days a week.
Each step runs in a fresh process; the peak is the growth of its resident set over the same work on a small file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.discover import Discovery, discover
from vpoc_ml.ingest.vix.vix_closes import available_at
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import instrument

HEADER = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
FIRST, QUARTERS = 2014, 64
DAYS = 360


def write(path: Path, megabytes: float) -> int:
    """Write contracts until the file has the size; return the number of its rows."""
    rows = 0
    with path.open("w") as file:
        file.write(HEADER)
        for number in range(QUARTERS):
            contract = Contract("ES", FIRST + number // 4, 3 * (number % 4) + 3)
            last = datetime.combine(contract.expiry, datetime.min.time(), UTC)
            ts = pl.datetime_range(last - timedelta(days=DAYS), last, "1m", eager=True, closed="left")
            ts = ts.filter((ts.dt.weekday() <= 4) & (ts.dt.hour() < 20))
            tail = f",33,1,5482,4000.250000000,4000.500000000,4000.000000000,4000.250000000,17,{contract.code}\n"
            file.writelines(timestamp + tail for timestamp in ts.dt.strftime("%Y-%m-%dT%H:%M:%S.000000000Z"))
            rows += ts.len()
            if file.tell() > megabytes * 1e6:
                return rows
    return rows


def find(folder: Path) -> Discovery:
    return discover(folder, instrument("ES"), IngestConfig())


def build(folder: Path) -> int:
    """Build every contract one after the other; return the number of bars."""
    days = pl.date_range(date(FIRST - 1, 1, 1), date(2027, 12, 31), eager=True)
    vix = pl.DataFrame({"date": days, "close": 15.0}).with_columns(available_at=available_at("date"))
    config = IngestConfig(quarantine_limit=1.0)
    bars = 0
    for code, sources in find(folder).contracts.items():
        bars += build_bars(sources, parse_contract(code), instrument("ES"), vix, config).bars.height
    return bars


def measured(work: Callable[[Path], object], small: Path, large: Path) -> tuple[float, float, float, object]:
    """Return wall and CPU seconds, growth of the peak in MiB, and the result, after a first run on a small file."""
    work(small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, cpu = time.perf_counter(), time.process_time()
    result = work(large)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    shown = len(result.contracts) if isinstance(result, Discovery) else result
    return time.perf_counter() - begin, time.process_time() - cpu, peak, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=1000.0, help="size of the file in megabytes")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small", Path(name) / "large"
        small.mkdir(), large.mkdir()
        write(small / "es.csv", 1)
        rows = write(large / "es.csv", chosen.mb)
        size = (large / "es.csv").stat().st_size / 1e6
        print(f"{size:,.0f} MB, {rows:,} rows")
        print("| step | result | wall s | CPU s | MB/s | peak growth MiB |\n|---|---:|---:|---:|---:|---:|")
        for title, work in (("contracts found", find), ("bars built", build)):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                wall, cpu, peak, shown = pool.submit(measured, work, small, large).result()
            print(f"| {title} | {shown:,} | {wall:.1f} | {cpu:.1f} | {size / wall:.0f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
