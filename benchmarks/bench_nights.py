"""A cold run and the nights after it: CPU time and peak memory of every stage, from the plan to the reports.

    python benchmarks/bench_nights.py                 # 1 contract: shows that it works
    python benchmarks/bench_nights.py --sets 4 12 40  # the table of docs/performance.md
    python benchmarks/bench_nights.py --sets 12 --keep FOLDER    # leaves the lakes there

The synthetic market of each set lacks the last two sessions at first. A run builds the empty lake (cold), one more
session arrives (night), the last one arrives, a Friday, after which the shipped model is trained again (refit), and
nothing arrives (again). Each run is a process of its own and goes through every stage as ``vpoc-ml run`` does. The
network is small and trains for one epoch, so that the other stages count. The proof against look-ahead is part of the
cold run. Compiled kernels are ready; imports count.

Peak: the largest resident set of any one process. Together: that of the process and the training processes that it
has started; memory that several of them share is counted more than once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_incremental_ingest import cut_vix, last_sessions
from measuring import NOW, one_thread_each, peak_memory

SHORT = (1,)
RUNS = ("cold", "night", "refit", "again")
SESSIONS_BACK = {"cold": 2, "night": 1, "refit": 0, "again": 0}
OVERRIDES = {
    "quality.max_age_sessions": 10_000,
    "model.hidden_dims": (16,),
    "training.epochs": 1,
    "machine.device": "cpu",
}
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class StageCost:
    """What one stage of all contracts or folds cost; memory in MiB, see the module."""

    stage: str
    wall: float
    cpu: float
    peak: float
    together: float


@dataclass(frozen=True)
class RunCost:
    """Stages of one run in their order, and the size of what it worked on."""

    bars: int
    rows: int
    stages: tuple[StageCost, ...]

    @property
    def cpu(self) -> float:
        return sum(stage.cpu for stage in self.stages)

    @property
    def peak(self) -> float:
        return max(stage.peak for stage in self.stages)

    def stage(self, name: str) -> StageCost:
        return next(stage for stage in self.stages if stage.stage == name)


class Meter:
    """Splits the cost of this process and its children by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, StageCost] = {}
        self.largest_child = self.together = 0.0
        self.begun = time.perf_counter(), spent()
        threading.Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        while True:
            begun = list(children())
            self.largest_child = max([self.largest_child, *(memory_of(child, "VmHWM") for child in begun)])
            total = memory_of(os.getpid(), "VmRSS") + sum(memory_of(child, "VmRSS") for child in begun)
            self.together = max(self.together, total)
            time.sleep(POLL_SECONDS)

    def end(self, name: str) -> None:
        """Add what was spent since the last call to the stage ``name``."""
        now, before = (time.perf_counter(), spent()), self.stages.get(name, StageCost(name, 0, 0, 0, 0))
        peak = max(before.peak, peak_memory(), self.largest_child)
        together = max(before.together, peak, self.together)
        wall, cpu = (end - begin for end, begin in zip(now, self.begun, strict=True))
        self.stages[name] = StageCost(name, before.wall + wall, before.cpu + cpu, peak, together)
        self.begun, self.largest_child, self.together = now, 0.0, 0.0
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the next stage begins at what is resident now


def spent() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def children() -> Iterator[int]:
    """Yield the processes that threads of this one have started; not yet those that still share its memory."""
    own = Path("/proc/self/cmdline").read_bytes()
    for thread in Path("/proc/self/task").iterdir():
        try:
            begun = [int(child) for child in (thread / "children").read_text().split()]
            yield from (child for child in begun if Path(f"/proc/{child}/cmdline").read_bytes() != own)
        except OSError:  # the thread or the process has ended
            continue


def memory_of(process: int, field: str) -> float:
    """Return a field of the process's status in MiB, such as its resident set; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return 0.0


def one_run(lake: Path, raw: Path, run: str, out: Path) -> None:
    """Run every stage in this process and write its cost to ``out``."""
    meter = Meter()
    from vpoc_ml import pipeline
    from vpoc_ml.artifacts.stage_results import StageResult

    counts = {"ingest": 0, "training-set": 0}

    def on_stage(result: StageResult) -> None:
        if result.stage in counts:
            counts[result.stage] += result.to_json()["rows_out"]
        meter.end(result.stage)

    pipeline.start_run(str(lake), run, "nightly", OVERRIDES, str(raw), None, now=NOW)
    meter.end("imports")
    pipeline.run_until(str(lake), run, "score", NOW, on_stage=on_stage)
    pipeline.publish_reports(str(lake), run, NOW)
    meter.end("reports")
    cost = RunCost(counts["ingest"], counts["training-set"], tuple(meter.stages.values()))
    out.write_text(json.dumps(asdict(cost)))


def measure(contracts: int, folder: Path) -> dict[str, RunCost]:
    """Return the cost of each run over a market of ``contracts`` contracts."""
    from vpoc_ml.synthetic.generate import write_market

    market = write_market(folder / "market", contracts=contracts)
    raw = folder / "raw"
    shutil.copytree(folder / "market", raw)
    newest = list(market.files.values())[-1]
    content, sizes = newest.read_bytes(), last_sessions(newest, 2)
    costs = {}
    for run in RUNS:
        back = SESSIONS_BACK[run]
        (raw / newest.name).write_bytes(content[: sizes[-1 - back]])
        cut_vix(market.vix, raw / market.vix.name, back)
        out = folder / f"{run}.json"
        command = [sys.executable, __file__, "--one", str(folder / "lake"), str(raw), run, str(out)]
        subprocess.run(command, check=True, env=os.environ | {"VPOC_CACHE": str(folder / "cache")})
        stored = json.loads(out.read_text())
        costs[run] = RunCost(stored["bars"], stored["rows"], tuple(StageCost(**each) for each in stored["stages"]))
    return costs


def show(tables: dict[int, dict[str, RunCost]]) -> None:
    """Print one row a set, then one row a stage of each set."""
    print("| contracts | bars | rows | cold, CPU s | night | refit | again | night / cold | refit / cold | peak MiB |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for contracts, runs in tables.items():
        cold, night, refit, again = (runs[name] for name in RUNS)
        print(
            f"| {contracts} | {cold.bars:,} | {cold.rows:,} | {cold.cpu:.1f} | {night.cpu:.1f} | {refit.cpu:.1f}"
            f" | {again.cpu:.1f} | {night.cpu / cold.cpu:.1%} | {refit.cpu / cold.cpu:.1%}"
            f" | {max(run.peak for run in runs.values()):,.0f} |"
        )
    for contracts, runs in tables.items():
        print(f"\n{contracts} contracts: CPU s, wall s, peak and together MiB of each stage\n")
        heads = " | ".join(f"{name} CPU | wall | peak | together" for name in RUNS)
        print(f"| stage | {heads} |\n|---|{'---:|' * 4 * len(RUNS)}")
        for stage in (each.stage for each in runs["cold"].stages):
            cells = [runs[name].stage(stage) for name in RUNS]
            numbers = (f"{c.cpu:.2f} | {c.wall:.2f} | {c.peak:,.0f} | {c.together:,.0f}" for c in cells)
            print(f"| {stage} | " + " | ".join(numbers) + " |")


@contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """Yield the folder of the lakes, which is removed unless it is to be kept."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="nights-") as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, nargs="+", default=SHORT, help="numbers of contracts")
    parser.add_argument("--keep", type=Path, help="folder in which markets and lakes are left")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    one_thread_each()
    if options.one:
        lake, raw, run, out = options.one
        one_run(Path(lake), Path(raw), run, Path(out))
        return
    with place(options.keep) as folder:
        show({contracts: measure(contracts, folder / str(contracts)) for contracts in options.sets})


if __name__ == "__main__":
    main()
