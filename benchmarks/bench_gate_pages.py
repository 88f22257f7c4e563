"""The pages of the gates over a year of nights: seconds from the request to the HTML.

    python benchmarks/bench_gate_pages.py          # 250 nights of 12 contracts in a folder
    python benchmarks/bench_gate_pages.py --s3     # and in an object store whose requests take 30 ms each

Every night stores the complete history of four gates (11,000 checks) and fails 4 of 1,000 checks, far more than real
nights do. Budget: each page in less than a second. The first request includes the first use of every library.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slow_store import LATENCY, SlowStorage, lake_in_store

from vpoc_ml.artifacts.gate_report import Failure, Severity, Verdict
from vpoc_ml.config import QualityConfig, QualityThresholds
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.store import Lake
from vpoc_ml.quality import history
from vpoc_ml.quality.checks import Check, GateInput, MarketFacts, Measurement
from vpoc_ml.quality.rules import bars_gate, features_gate
from vpoc_ml.reports.gate_results import gate_nights
from vpoc_ml.reports.pages.gate import CheckQuery, GateQuery, check_page, gate_page
from vpoc_ml.reports.pages.gates import CompareQuery, GatesQuery, compare_page, gates_page
from vpoc_ml.reports.site import Site

NIGHTS, ROWS, FAILING, CRITICAL = 250, 95_000, 0.004, 0.1
FIRST = datetime(2025, 6, 2, 22, 30, tzinfo=UTC)
CODES = tuple(f"ES{month}{year}" for year in (24, 25, 26) for month in "HMUZ")
BUDGET = 1.0


def simulate_year(root: Path, nights: int) -> None:
    """Write what the gates of a year of nights store."""
    draw = random.Random(7)
    features = features_gate.checks(REGISTRY, QualityThresholds())
    gates = {
        "bars": bars_gate.checks(QualityConfig(), MarketFacts(0.25)),
        "features": features,
        "leakage": [Check("prefix", "*", "the same features")],
        "training-set": features,
    }
    for night in range(nights):
        for gate, checks in gates.items():
            store_gate(root / "reports", gate, checks, FIRST + timedelta(days=night), draw)


def store_gate(reports: Path, gate: str, checks: list[Check], now: datetime, draw: random.Random) -> None:
    """Write the results of one gate of one night."""
    measured, failures = [], []
    failed: dict[tuple[str, str, str], Severity] = {}
    for check in checks:
        for code in check.scope(CODES):
            count = draw.randint(1, 500) if draw.random() < FAILING else 0
            measured.append(Measurement(code, check.column, check.name, count, ROWS))
            if count:
                severity: Severity = "critical" if draw.random() < CRITICAL else "warning"
                key = {"contract": code, "column": check.column, "check": check.name, "severity": severity}
                share = count / ROWS
                failures.append(Failure(**key, count=count, rows=ROWS, share=share, expected=check.expected))  # type: ignore[arg-type]
                failed[code, check.column, check.name] = severity
    run = f"vpoc_nightly--scheduled__{now:%Y-%m-%d}"
    count = len(measured)
    verdict = Verdict(gate=gate, run=run, contracts=CODES, checks=count, failures=tuple(failures), report="")
    history.store(reports, verdict, GateInput(gate, CODES, checks, measured), failed, now=now)
    write_json(reports / "runs" / run / f"{gate}.json", verdict.to_json())


def page_seconds(lake: Lake) -> dict[str, float]:
    """Return the seconds of one request of each page, the first page twice."""
    site, run = Site(lake, FIRST), gate_nights(lake)[0].run
    check = {"run": run, "gate": "features", "column": "rsi_14", "check": "beyond"}
    pages: dict[str, Callable[[], str]] = {
        "gates of a night, first": lambda: gates_page(site, GatesQuery()),
        "gates of a night": lambda: gates_page(site, GatesQuery()),
        "a gate": lambda: gate_page(site, GateQuery(run=run, gate="features")),
        "a check, 60 nights": lambda: check_page(site, CheckQuery(**check)),  # type: ignore[arg-type]
        "a check, 250 nights": lambda: check_page(site, CheckQuery(**check, nights=250)),  # type: ignore[arg-type]
        "two nights compared": lambda: compare_page(site, CompareQuery()),
    }
    found = {}
    for name, page in pages.items():
        begin = time.perf_counter()
        page()
        found[name] = time.perf_counter() - begin
    return found


def show(title: str, found: dict[str, float]) -> None:
    print(title)
    for name, value in found.items():
        print(f"  {name:26} {value:6.3f} s{'' if value < BUDGET else '  ABOVE the budget'}")


def in_store(root: Path) -> None:
    """Measure the same lake in an object store with slow requests."""
    with lake_in_store() as lake:
        for file in root.rglob("*"):
            if file.is_file():
                lake.storage.upload(file, file.relative_to(root).as_posix())
        lake.storage = SlowStorage("s3://lake/es")
        show(f"object store, {1000 * LATENCY:.0f} ms a request", page_seconds(lake))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--s3", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VPOC_CACHE"] = f"{folder}/cache"
        root = Path(folder, "lake")
        simulate_year(root, options.nights)
        show(f"folder, {options.nights} nights of {len(CODES)} contracts", page_seconds(Lake(root)))
        if options.s3:
            in_store(root)


if __name__ == "__main__":
    main()
