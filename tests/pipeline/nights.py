"""Nights on a small lake of three contracts: what is delivered, what the data stages then do, what the lake holds."""

import shutil
from pathlib import Path

from vpoc_ml import pipeline
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.store import Lake
from vpoc_ml.synthetic.generate import write_market

from .conftest import NOW

H, M, U = "ES 03-23.Last.txt", "ES 06-23.Last.txt", "ES 09-23.Last.txt"
KEPT = {  # days of each file: 30 sessions before each roll, the roll and a little more
    H: [(b"20230124", b"20231231")],
    M: [(b"20230301", b"20230401"), (b"20230512", b"20231231")],
    U: [(b"20230601", b"20230708")],
}
KINDS = ("bars", "quarantine", "sessions", "developing", "features", "roll", "vix")


def write_vendor(folder: Path) -> None:
    """Write three overlapping contracts, cut to what their rolls need, and the VIX."""
    write_market(folder, contracts=3, seed=7, mode="signal")
    for name, days in KEPT.items():
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        kept = (line for line in lines if any(first <= line[:8] < end for first, end in days))
        (folder / name).write_bytes(b"".join(kept))


def deliver(vendor: Path, folder: Path, *names: str) -> None:
    """Copy vendor files and the VIX into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*names, "VIX_History.csv"):
        shutil.copy(vendor / name, folder / name)


def night(place: Path) -> tuple[set[tuple[str, str | None, str]], dict[str, str]]:
    """Run every data stage in order; return (stage, contract, reason) of those that worked, and what was left out."""
    lake, run = str(place / "lake"), "night"
    pipeline.start_run(lake, run, "smoke", None, str(place / "raw"), None, NOW)
    plan = pipeline.plan_contracts(lake, run)
    codes = list(plan.contracts)
    results = [pipeline.ingest_contract(lake, run, code) for code in codes]
    results.append(pipeline.build_rolls(lake, run, codes))
    results += [pipeline.profile_contract(lake, run, code) for code in codes]
    results += [pipeline.features_contract(lake, run, code) for code in codes]
    assert all(result.skipped == (result.reason == "unchanged") for result in results)
    worked = {(each.stage, each.contract, each.reason) for each in results if not each.skipped}
    return worked, {each.name: each.reason for each in plan.unreadable}


def contents(root: str | Path) -> dict[str, str]:
    """Return key and hash of every artifact of the lake at ``root``, each of which must match its manifest."""
    lake = Lake(root)
    found = {key: lake.content_hash(key) for kind in KINDS for key in lake.keys(kind)}
    assert {key: hash_file(lake.local(key)) for key in found} == found
    return found
