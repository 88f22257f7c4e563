"""Speed of profiles, developing levels and features beside their peers.

    python benchmarks/bench_profile.py

Every peer gets the same bars and must find the same levels; what is too slow runs on fewer bars and is
marked so. Ratios are what to quote: the absolute numbers belong to the machine. Runs in under a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import numpy as np
import polars as pl

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.build import build_features
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.ingest.vix import available_at
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile import kernels, reference
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.kernels import SCALE, developing_levels, session_levels
from vpoc_ml.profile.reference import Bar
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.profile.ticks import TickBars

MINUTES, SESSIONS, CONTRACTS = 1380, 69, 12
COLD_START = """
import time, numpy as np
from vpoc_ml.profile.kernels import developing_levels, session_levels
one, starts = np.ones(1, np.int64), np.array([0, 1])
begin = time.perf_counter()
session_levels(one, one, one, one, starts, 7, 10, 2)
developing_levels(one, one, one, one, starts, 7, 10, 2)
print(time.perf_counter() - begin)
"""


def market(sessions: int) -> TickBars:
    """Minute bars like those of ES: a value area of about 120 ticks, ranges of 1 to 30 ticks."""
    draw = np.random.default_rng(1)
    rows = sessions * MINUTES
    close = 12_000 + np.abs(np.cumsum(np.rint(2.4 * draw.standard_t(3, rows))).astype(np.int64) % 16_000 - 8_000)
    width = draw.poisson(6, rows)
    low = close - draw.integers(0, width + 1)
    volume = draw.lognormal(5.5, 1.3, rows).astype(np.int64)
    return TickBars(low, np.maximum(low + width, close), close, volume, np.arange(0, rows + 1, MINUTES))


def frames(ticks: TickBars) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same bars as a canonical frame of one contract, and a VIX."""
    days = [date(2025, 1, 6) + timedelta(days=n) for n in range(ticks.starts.size - 1)]
    start = datetime(2025, 1, 5, 23, tzinfo=UTC)
    stamps = [start + timedelta(days=n, minutes=m) for n in range(len(days)) for m in range(MINUTES)]
    price = {name: getattr(ticks, name) * 0.25 for name in ("high", "low", "close")}
    bars = pl.DataFrame({"ts": pl.Series(stamps, dtype=pl.Datetime("us", "UTC")), **price, "volume": ticks.volume})
    bars = bars.with_columns(
        pl.lit("ESH25").alias("contract"),
        pl.Series("session", [day for day in days for _ in range(MINUTES)]),
        (pl.int_range(pl.len()) % MINUTES).is_between(930, 1319).alias("rth"),
        pl.col("close").alias("open"),
        pl.lit(16.0).alias("vix"),
    )
    closes = pl.DataFrame({"date": [date(2024, 12, 1) + timedelta(days=n) for n in range(120)]})
    return bars, closes.with_columns(pl.lit(16.0).alias("close"), available_at("date").alias("available_at"))


# ---------------------------------------------------------------- peers


def value_area(units: np.ndarray) -> tuple[int, int, int]:
    """VPOC, VAH, VAL of an array of units, the two-price rule in plain Python."""
    vpoc = kernels.find_vpoc.py_func(units, 0, units.size - 1)
    low = high = vpoc
    held, target = int(units[vpoc]), -(-7 * int(units.sum()) // 10)
    while held < target:
        above = int(units[high + 1 : high + 3].sum()) if high < units.size - 1 else -1
        below = int(units[max(low - 2, 0) : low].sum()) if low else -1
        if above >= below:
            high, held = min(high + 2, units.size - 1), held + above
        else:
            low, held = max(low - 2, 0), held + below
    return vpoc, high, low


def numpy_profile(low: np.ndarray, high: np.ndarray, close: np.ndarray, volume: np.ndarray) -> tuple[int, int, int]:
    """A difference array filled by ``np.add.at``, then the value area in Python."""
    base, rows = low.min(), high - low + 1
    share, edges = volume * SCALE // rows, np.zeros(high.max() - low.min() + 2, np.int64)
    rest = volume * SCALE - share * rows
    for at, units in ((low, share), (high + 1, -share), (close, rest), (close + 1, -rest)):
        np.add.at(edges, at - base, units)
    return tuple(base + row for row in value_area(np.cumsum(edges)[:-1]))


def numpy_sessions(ticks: TickBars) -> np.ndarray:
    parts = (slice(*pair) for pair in zip(ticks.starts[:-1], ticks.starts[1:], strict=True))
    return np.array([numpy_profile(*(column[part] for column in ticks[:4])) for part in parts])


def polars_sessions(ticks: TickBars) -> np.ndarray:
    """One row for each bar and price, summed by polars, then the value area in Python."""
    rows = pl.col("high") - pl.col("low") + 1
    frame = pl.DataFrame(dict(zip(("low", "high", "close", "volume"), ticks[:4], strict=True))).with_columns(
        session=pl.int_range(pl.len()) // MINUTES, share=pl.col("volume") * SCALE // rows
    )
    even = frame.select("session", "share", tick=pl.int_ranges("low", pl.col("high") + 1)).explode("tick")
    rest = frame.select("session", share=pl.col("volume") * SCALE - pl.col("share") * rows, tick="close")
    sums = pl.concat([even, rest]).group_by("session", "tick").agg(pl.col("share").sum()).sort("session", "tick")
    found = []
    for _, part in sums.group_by("session", maintain_order=True):
        tick = part["tick"].to_numpy()
        units = np.zeros(tick[-1] - tick[0] + 1, np.int64)
        units[tick - tick[0]] = part["share"].to_numpy()
        found.append([tick[0] + row for row in value_area(units)])
    return np.array(found)


def reference_bars(ticks: TickBars, count: int) -> list[Bar]:
    return [Bar(*map(int, row)) for row in np.array(ticks[:4]).T[:count]]


# ---------------------------------------------------------------- table


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    return min(_timed(work) for _ in range(repeats))


def _timed(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def show(title: str, rows: list[tuple[str, int, float]]) -> None:
    print(f"\n{title:<52}{'bars':>10}{'CPU s':>10}{'M bars/s':>10}{'slower':>9}")
    fastest = rows[0][1] / rows[0][2]
    for name, bars, spent in rows:
        print(f"  {name:<50}{bars:>10,}{spent:>10.4f}{bars / spent / 1e6:>10.3f}{fastest * spent / bars:>9,.1f}")


def cold_start() -> float:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        done = subprocess.run([sys.executable, "-c", COLD_START], env=environment, capture_output=True, check=True)
    return float(done.stdout)


def main() -> None:
    many, one, day = market(SESSIONS * CONTRACTS), market(SESSIONS), market(1)
    rule, share = (7, 10, 2), Fraction(7, 10)
    levels = session_levels(*one, *rule)
    assert np.array_equal(levels[:, :3], numpy_sessions(one))
    assert np.array_equal(levels[:, :3], polars_sessions(one))
    slow = reference.developing_levels_of(reference_bars(day, 60), share, 2)
    assert [tuple(row) for row in developing_levels(*day, *rule)[:60]] == [row[:3] for row in slow]

    print(f"value area: median width {np.median(levels[:, 1] - levels[:, 2]):.0f} ticks; first call with an empty"
          f" compilation cache: {cold_start():.1f} s")  # fmt: skip
    bars, session = many.low.size, reference_bars(day, MINUTES)
    show("Session profiles", [
        ("kernel", bars, seconds(lambda: session_levels(*many, *rule), 5)),
        ("numpy add.at, value area in Python", one.low.size, seconds(lambda: numpy_sessions(one))),
        ("polars explode, value area in Python", one.low.size, seconds(lambda: polars_sessions(one))),
        ("reference (one session)", MINUTES, seconds(lambda: reference.levels_of(session, share, 2), 1)),
    ])  # fmt: skip
    show("Developing levels at every bar", [
        ("kernel", bars, seconds(lambda: developing_levels(*many, *rule), 3)),
        ("numpy profile rebuilt (one session)", MINUTES, seconds(lambda: [
            numpy_profile(*(column[: count + 1] for column in day[:4])) for count in range(MINUTES)], 1)),
        ("reference (first 100 bars of a session)", 100,
         seconds(lambda: reference.developing_levels_of(session[:100], share, 2), 1)),
    ])  # fmt: skip
    es, config = instrument("ES"), ProfileConfig()
    frame, vix = frames(one)
    daily, levels_frame = build_sessions(frame, es, config), build_developing(frame, es, config)
    show("Frames of one contract", [
        ("build_sessions (session and RTH)", frame.height, seconds(lambda: build_sessions(frame, es, config))),
        ("build_developing", frame.height, seconds(lambda: build_developing(frame, es, config))),
        (f"build_features ({len(FEATURE_NAMES)} columns)", frame.height,
         seconds(lambda: build_features(frame, daily, levels_frame, vix, es))),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
