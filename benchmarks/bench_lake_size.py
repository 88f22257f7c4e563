"""Time and memory of ingest, rolls, profiles and features for lakes of 4, 12 and 40 contracts.

    python benchmarks/bench_lake_size.py           # files of about 115,000 bars: a contract's own quarter and a month
    python benchmarks/bench_lake_size.py --full    # files of one year, about 345,000 bars: 13.9 million for 40

The synthetic market is written to a temporary folder and removed. Each stage runs in two new processes of one thread,
each of which handles one contract at a time. Quote the ratios: the absolute numbers depend on the machine.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from measuring import Cost, one_thread_each, over_all, over_contracts, peak_memory, started_run

SETS = (4, 12, 40)
QUARTER, YEAR = 22, 190
STAGES = ("ingest_contract", "build_rolls", "profile_contract", "features_contract")
NAMES = dict(zip(STAGES, ("ingest", "rolls", "profiles", "features"), strict=True))


def measured(contracts: int, lead: int, folder: Path) -> tuple[int, dict[str, Cost]]:
    """Return the number of bars of a market and the cost of writing it and of each stage."""
    from vpoc_ml.synthetic.generate import write_market

    begin, cpu = time.perf_counter(), time.process_time()
    write_market(folder / "raw", contracts=contracts, lead=lead)
    spent = Cost(time.perf_counter() - begin, time.process_time() - cpu, peak_memory())
    costs = {"(writing the market)": spent}
    chosen = started_run(folder / "lake", folder / "raw", "size")
    for stage in STAGES:
        run = over_all if stage == "build_rolls" else over_contracts
        costs[NAMES[stage]] = run(stage, folder / "lake", "size", chosen)
    return sum(result.rows_out for result in costs["ingest"].results), costs


def show(tables: list[tuple[int, int, dict[str, Cost]]]) -> None:
    print("| stage | contracts | bars | wall s | CPU s | CPU s per million bars | x the smallest | peak MiB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for stage in [*tables[0][2], "all stages"]:
        base = 0.0
        for contracts, bars, costs in tables:
            cost = costs[stage] if stage in costs else total(costs)
            rate = cost.cpu / bars * 1e6
            base = base or rate
            print(
                f"| {stage} | {contracts} | {bars:,} | {cost.wall:.1f} | {cost.cpu:.1f} | {rate:.2f}"
                f" | {rate / base:.2f} | {cost.peak:.0f} |"
            )


def total(costs: dict[str, Cost]) -> Cost:
    """Return the cost of all stages together, without writing the market."""
    stages = [cost for name, cost in costs.items() if name in NAMES.values()]
    return Cost(sum(s.wall for s in stages), sum(s.cpu for s in stages), max(s.peak for s in stages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="files of one year each, 13.9 million bars in all")
    parser.add_argument("--sets", type=int, nargs="+", default=SETS, help="numbers of contracts")
    options = parser.parse_args()
    one_thread_each()
    tables = []
    for contracts in options.sets:
        folder = Path(tempfile.mkdtemp(prefix="lake-size-"))
        try:
            tables.append((contracts, *measured(contracts, YEAR if options.full else QUARTER, folder)))
        finally:
            shutil.rmtree(folder)
    show(tables)


if __name__ == "__main__":
    main()
