"""The landing page of Reports over a year of nights: seconds from the request to the HTML.

    python benchmarks/bench_reports.py                  # 250 nights of 12 contracts in a folder
    python benchmarks/bench_reports.py --s3             # and in an object store whose requests take 30 ms each
    python benchmarks/bench_reports.py --keep FOLDER    # leaves the lake there

The year is written as the stages leave it (settings, gate records, live record, decision, metrics, pages), without
training anything. Budget: the first page of a new process in less than a second. The peer is what a page without the
table of nights does: it reads the files of every run's folder. The server of ``--s3`` is a real process on this
machine; each request of the client waits 30 ms more, as over a network.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slow_store import LATENCY, SlowStorage, lake_in_store

from vpoc_ml.lake.store import Lake
from vpoc_ml.reports.nights import all_nights, night_of, record_night
from vpoc_ml.reports.pages.tonight import TonightQuery, tonight_page
from vpoc_ml.reports.schedule import Schedule
from vpoc_ml.reports.site import Site

NIGHTS, CONTRACTS = 250, 12
FIRST = datetime(2025, 6, 2, 22, 30, tzinfo=UTC)
NOW = FIRST + timedelta(days=365)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
"""Every run has settled by then, whenever the benchmark has written its files."""
GATES = ("bars", "features", "leakage", "training-set")
BUDGET = 1.0


def simulate_year(lake: Lake, nights: int = NIGHTS, contracts: int = CONTRACTS) -> list[str]:
    """Write what a year of nights leaves in its runs' folders; return their names, oldest first."""
    draw, runs, at, champion = random.Random(7), [], FIRST, 0
    while len(runs) < nights:
        if at.weekday() < 5:
            run = f"vpoc_nightly--scheduled__{at:%Y-%m-%dT%H-%M-%S}-00-00--{draw.randrange(16**8):08x}"
            champion = simulate_night(lake, run, at, draw, contracts, champion)
            runs.append(run)
        at += timedelta(days=1)
    return runs


def simulate_night(
    lake: Lake, run: str, at: datetime, draw: random.Random, contracts: int, champion: int, kind: str = ""
) -> int:
    """Write one night; return the version of the champion after it. ``kind`` is how it ends, drawn if empty."""
    weights = {"refused": 78, "promoted": 8, "gate": 6, "machine": 3, "rejected": 2, "waiting": 0, "input": 3}
    kind = kind or draw.choices(list(weights), list(weights.values()))[0]
    codes = [f"ES{month}{year}" for year in (24, 25, 26) for month in "HMUZ"][:contracts]
    files: dict[str, object] = {
        "config.json": {"preset": "nightly" if draw.random() < 0.9 else "deep"},
        "inputs.json": {"raw": None, "vix": None, "started": at.isoformat(), "as_of": None},
    }
    failed = draw.choice(GATES[:2]) if kind == "gate" else ""
    for gate in GATES:
        files[f"stages/gate-{gate}.json"] = gate_record(gate, run, codes, draw, at, failed=gate == failed)
        if gate == failed or kind == "input":
            break
    for code in codes:
        for stage in ("ingest", "profile", "features"):
            files[f"stages/{stage}.{code}.json"] = {"stage": stage, "contract": code, "rows_in": 1, "rows_out": 1}
    message = {"gate": gate_message(failed, codes), "machine": "MemoryError", "input": "No file"}
    if kind in message:
        stage = (
            f"gate_{failed}".replace("-", "_") if kind == "gate" else {"machine": "train"}.get(kind, "plan_contracts")
        )
        code = {"gate": 3, "machine": 1, "input": 5}[kind]
        error = {"gate": "GateFailedError", "machine": "MemoryError", "input": "InputError"}[kind]
        record = {"stage": stage, "label": "", "error": error, "message": message[kind], "exit_code": code}
        files[f"failures/{stage}.json"] = record
    else:
        version = champion + draw.randrange(1, 4)
        files |= decided(kind, version, champion, at, draw)
        champion = version if kind == "promoted" else champion
        lake.write_text(f"runs/{run}/report.html", "<h1>report</h1>")
    lake.write_text(f"reports/runs/{run}/gates.html", "<h1>gates</h1>")
    for name, content in files.items():
        lake.write_json(f"runs/{run}/{name}", content)
    return champion


def gate_record(gate: str, run: str, codes: list[str], draw: random.Random, at: datetime, failed: bool) -> dict:
    """Return the record of a gate, with a warning now and then and, if it failed, a critical failure."""
    found = {"column": "close", "check": "jump", "count": 3, "rows": 9000, "share": 3 / 9000, "expected": "no jump"}
    failures = [{"contract": draw.choice(codes), "severity": "warning", **found}] if draw.random() < 0.2 else []
    failures += [{"contract": codes[0], "severity": "critical", **found}] if failed else []
    record = {"stage": f"gate-{gate}", "gate": gate, "run": run, "contracts": codes, "checks": 900, "report": ""}
    record |= {"failures": failures}
    if gate == "bars" and not failed:
        record |= {"newest_bar": (at - timedelta(minutes=91)).isoformat(), "age_sessions": 0}
    if failed:
        record |= {"error": gate_message(gate, codes), "error_type": "GateFailedError", "exit_code": 3}
    return record


def gate_message(gate: str, codes: list[str]) -> str:
    return f"Gate {gate} FAILED for {codes[0]}: 1 critical of 900 checks"


def decided(kind: str, version: int, champion: int, at: datetime, draw: random.Random) -> dict[str, object]:
    """Return the decision and the live record of a night."""
    text = "The evidence that sessions have a rank IC above zero is 3 to 1 after 61 sessions; 40 to 1 is required."
    approval = {"answer": "rejected", "name": "ann", "time": at.isoformat(), "note": "", "text": "Rejected by ann"}
    decision = {
        "key": "ES-1m-rank",
        "state": kind,
        "promote": kind != "refused",
        "reasons": [text],
        "checks": [{"name": "skill", "passed": kind != "refused", "text": text}],
        "net": round(draw.gauss(-20_000, 40_000), 2),
        "version": version,
        "champion_before": champion or None,
        "decided_at": (at + timedelta(hours=1)).isoformat(),
        "remark": None,
        "approval": approval if kind == "rejected" else None,
    }
    live = {"preset": "4e05e02c813bddaa", "version": version, "champion": True, "sessions": 61, "since": "2025-06-03"}
    live |= {"rank_ic": 0.021, "track_rank_ic": 0.03, "log_for": 3.1, "log_against": -2.0, "log_fading": 1.2}
    return {"decision.json": decision, "stages/live-record.json": {"stage": "live-record", "records": [live]} | ROWS}


ROWS = {"rows_in": 1, "rows_out": 1, "skipped": False}


def page_seconds(lake: Lake) -> tuple[float, str]:
    """Return the median of five requests, and the page."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        page = tonight_page(Site(lake, NOW, registry=None, schedule=lambda: Schedule()), TonightQuery())
        times.append(time.perf_counter() - begin)
    return statistics.median(times), page


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def first_page(root: str) -> dict[str, float]:
    """Return the seconds of the first request in a new process, which has imported the pages, and of the imports."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--page-of", root], capture_output=True, text=True, check=True)
    page = float(done.stdout)
    return {"first page of a process": page, "its start and imports": time.perf_counter() - begin - page}


def measure(lake: Lake, runs: list[str]) -> dict[str, float]:
    """Return seconds of the page with the table, of the line of a night, and of a page without the table."""
    record = seconds(lambda: record_night(lake, runs[-1], LATER))
    page, html = page_seconds(lake)
    return {
        "first lines of all runs": record,
        "line of one more night": seconds(lambda: record_night(lake, runs[-1], LATER)),
        "page": page,
        "page, KiB": len(html) / 1024,
        "peer: every run's folder": seconds(lambda: [night_of(lake, run) for run in runs]),
    }


def show(title: str, found: dict[str, float]) -> None:
    print(title)
    for name, value in found.items():
        print(f"  {name:28} {value:8.3f}")


def in_store(nights: int) -> None:
    """Measure a lake in an object store with slow requests."""
    with lake_in_store() as lake:
        runs = simulate_year(lake, nights)
        lake.storage = SlowStorage("s3://lake/es")
        SlowStorage.requests = 0
        found = measure(lake, runs)
        SlowStorage.requests = 0
        all_nights(lake)
        show(f"object store, {1000 * LATENCY:.0f} ms a request; {SlowStorage.requests} requests a page", found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--page-of", help="only make the page of this lake, once")
    options = parser.parse_args()
    if options.page_of:
        print(seconds(lambda: tonight_page(Site(Lake(options.page_of), NOW), TonightQuery())))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VPOC_CACHE"] = f"{folder}/cache"
        root = options.keep or Path(folder, "lake")
        lake = Lake(root)
        runs = simulate_year(lake, options.nights)
        found = measure(lake, runs)
        found |= first_page(str(root))
        show(f"folder, {len(runs)} nights of {CONTRACTS} contracts", found)
        within = "within" if found["first page of a process"] < BUDGET else "ABOVE"
        print(f"  {within} the budget of {BUDGET:.0f} s")
        if options.s3:
            in_store(options.nights)
        print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
