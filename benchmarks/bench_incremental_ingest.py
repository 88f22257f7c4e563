"""CPU time of one night, which appends one session to the newest of 12 contracts, against a full rebuild.

    python benchmarks/bench_incremental_ingest.py
    python benchmarks/bench_incremental_ingest.py --full    # 40 contracts

Measures every stage from the plan to the features, unchanged contracts included, in one process of one thread that has
already loaded its modules, the exchange calendar and the compiled kernels. At the end the lake that was extended night
by night must hold the same bytes as the rebuilt one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from measuring import NOW, one_thread_each

STAGES = ("plan", "ingest_contract", "build_rolls", "profile_contract", "features_contract")
NIGHTS = 3
LIMIT = 0.05


def all_stages(lake: Path, raw: Path, run: str) -> dict[str, float]:
    """Run every stage of every contract; return the CPU seconds of each stage."""
    from vpoc_ml import pipeline

    spent: dict[str, float] = {}
    begin = time.process_time()
    pipeline.start_run(str(lake), run, "nightly", {}, str(raw), None, now=NOW)
    contracts = list(pipeline.plan_contracts(str(lake), run).contracts)
    for stage in STAGES:
        if stage == "build_rolls":
            pipeline.build_rolls(str(lake), run, contracts)
        elif stage != "plan":
            for contract in contracts:
                getattr(pipeline, stage)(str(lake), run, contract)
        now = time.process_time()
        spent[stage], begin = now - begin, now
    return spent


def last_sessions(path: Path, count: int) -> list[int]:
    """Return the sizes at which a minute export ends before each of its last ``count`` sessions and at its end."""
    content = path.read_bytes()
    offset, cuts, before = 0, [], None
    for line in content.splitlines(keepends=True):
        timestamp = datetime.strptime(f"{line[:13].decode()} +0000", "%Y%m%d %H%M %z")
        if before and timestamp - before > timedelta(minutes=45):  # the exchange was closed
            cuts.append(offset)
        offset, before = offset + len(line), timestamp
    return [*cuts[-count:], len(content)]


def cut_vix(source: Path, target: Path, sessions_back: int) -> None:
    lines = source.read_bytes().splitlines(keepends=True)
    target.write_bytes(b"".join(lines[: len(lines) - sessions_back]))


def show(full: dict[str, float], nights: list[dict[str, float]]) -> float:
    print("| stage | full rebuild, CPU s | one night, CPU s | share |\n|---|---:|---:|---:|")
    middle = {stage: sorted(night[stage] for night in nights)[len(nights) // 2] for stage in STAGES}
    for stage in STAGES:
        name = stage.removesuffix("_contract").removeprefix("build_")
        print(f"| {name} | {full[stage]:.3f} | {middle[stage]:.3f} | {middle[stage] / full[stage]:.1%} |")
    share = sorted(sum(night.values()) for night in nights)[len(nights) // 2] / sum(full.values())
    print(f"| **all** | {sum(full.values()):.3f} | {share * sum(full.values()):.3f} | **{share:.1%}** |")
    return share


def measure(contracts: int, folder: Path) -> tuple[dict[str, float], list[dict[str, float]]]:
    from vpoc_ml.synthetic.generate import write_market

    warm = write_market(folder / "warm", contracts=1)
    all_stages(folder / "warm-lake", warm.vix.parent, "warm")
    market = write_market(folder / "market", contracts=contracts)
    raw = folder / "raw"
    shutil.copytree(folder / "market", raw)
    newest = list(market.files.values())[-1]
    content, sizes = newest.read_bytes(), last_sessions(newest, NIGHTS)
    nights = []
    for night, size in enumerate(sizes):
        (raw / newest.name).write_bytes(content[:size])
        cut_vix(market.vix, raw / market.vix.name, NIGHTS - night)
        nights.append(all_stages(folder / "incremental", raw, f"night-{night}"))
    full = all_stages(folder / "rebuilt", raw, "full")
    require_equal(folder / "rebuilt", folder / "incremental")
    return full, nights[1:]


def require_equal(rebuilt: Path, incremental: Path) -> None:
    """Compare every Parquet artifact of the two lakes byte by byte."""
    same: Counter[bool] = Counter()
    for path in sorted(rebuilt.rglob("*.parquet")):
        other = incremental / path.relative_to(rebuilt)
        same[equal := path.read_bytes() == other.read_bytes()] += 1
        if not equal:
            print(f"DIFFERENT: {path.relative_to(rebuilt)}")
    assert not same[False], "an incremental artifact differs from the rebuilt one"
    print(f"{same[True]} artifacts of the incremental lake equal the rebuilt ones byte for byte\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="a lake of 40 contracts")
    options = parser.parse_args()
    one_thread_each()
    folder = Path(tempfile.mkdtemp(prefix="incremental-", dir=os.environ.get("TMPDIR")))
    try:
        share = show(*measure(40 if options.full else 12, folder))
    finally:
        shutil.rmtree(folder)
    print(f"\nlimit {LIMIT:.0%}: {'kept' if share <= LIMIT else 'NOT kept'}")


if __name__ == "__main__":
    main()
