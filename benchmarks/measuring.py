"""What the benchmarks of the pipeline share: a made market, stages in two worker processes, and their cost."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WORKERS = 2
NOW = datetime(2026, 1, 2, 6, tzinfo=UTC)
THREADS = ("POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of CPU, the largest resident set of a process in MiB, and the stage's results."""

    wall: float
    cpu: float
    peak: float
    results: tuple[dict[str, Any], ...] = ()


def one_thread_each() -> None:
    """Give each process one thread: two processes fill two cores, and CPU seconds mean the same everywhere."""
    os.environ.update(dict.fromkeys(THREADS, "1"))


def started_run(lake: Path, raw: Path, run: str) -> list[str]:
    """Start a run over the raw files and plan it; return its contracts."""
    from vpoc_ml import pipeline

    pipeline.start_run(str(lake), run, "nightly", {}, str(raw), None, now=NOW)
    return list(pipeline.plan_contracts(str(lake), run).contracts)


def over_contracts(stage: str, lake: Path, run: str, contracts: Sequence[str]) -> Cost:
    """Run a stage of each contract, two at a time in fresh processes whose imports and compiled kernels are ready."""
    with _workers() as pool:
        begin = time.perf_counter()
        done = list(pool.map(_timed, [(stage, str(lake), run, contract) for contract in contracts]))
        wall = time.perf_counter() - begin
    return Cost(wall, sum(cpu for cpu, _, _ in done), max(peak for _, peak, _ in done), tuple(r for _, _, r in done))


def over_all(stage: str, lake: Path, run: str, contracts: Sequence[str]) -> Cost:
    """Run a stage that needs every contract, in one fresh process."""
    with _workers(1) as pool:
        begin = time.perf_counter()
        cpu, peak, result = pool.submit(_timed, (stage, str(lake), run, list(contracts))).result()
        return Cost(time.perf_counter() - begin, cpu, peak, (result,))


@contextmanager
def _workers(count: int = WORKERS) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_warm) as pool:
        list(pool.map(_wait, [0.3] * count))  # both processes are up before the clock starts
        yield pool


def _warm() -> None:
    """Import every stage, compile or load the kernels and build the exchange's calendar."""
    import polars as pl

    from vpoc_ml import pipeline
    from vpoc_ml.config import ProfileConfig
    from vpoc_ml.market.exchange_calendar import is_session
    from vpoc_ml.market.instruments import instrument
    from vpoc_ml.profile.developing import build_developing
    from vpoc_ml.profile.sessions import build_sessions

    for stage in ("ingest_contract", "build_rolls", "profile_contract", "features_contract"):
        getattr(pipeline, stage)
    es, price = instrument("ES"), dict.fromkeys(("open", "high", "low", "close"), 4000.0)
    is_session(es.calendar, NOW.date())
    keys = {"ts": NOW, "contract": "ESH26", "session": NOW.date(), "rth": True}
    bar = pl.DataFrame({**keys, **price, "volume": 1, "vix": 16.0}).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC"))
    )
    build_sessions(bar, es, ProfileConfig())
    build_developing(bar, es, ProfileConfig())


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _timed(job: tuple[str, str, str, Any]) -> tuple[float, float, dict[str, Any]]:
    from vpoc_ml import pipeline

    stage, *rest = job
    begin = time.process_time()
    result = getattr(pipeline, stage)(*rest)
    return time.process_time() - begin, peak_memory(), result


def peak_memory() -> float:
    """Return the largest resident set of this process in MiB; getrusage would count that of its parent too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
