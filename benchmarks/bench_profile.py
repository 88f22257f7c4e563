"""Speed of session profiles and developing levels, compared with other libraries.

    pip install -e ".[bench]"
    python benchmarks/bench_profile.py

Every peer gets the same bars in the same run. Times are CPU seconds of one thread, the minimum of several runs. Slow
peers run on fewer bars. The table names peers that are not installed. The polars and numpy versions must find the same
levels; the others compute something else, which their rows name. Quote ratios. The benchmark takes about a minute.
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
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is imported
sys.path.append(str(Path(__file__).resolve().parents[1]))  # the slow reference is among the tests

import numba
import numpy as np
import polars as pl
import profile_peers as peers
from tests.profile import reference
from tests.profile.reference import Bar

from vpoc_ml.config import ProfileConfig
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile import kernels
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.kernels import Ints, Rule, TickBars, extend_levels, session_levels
from vpoc_ml.profile.sessions import build_sessions

MINUTES, SESSIONS, CONTRACTS = 1380, 69, 12
RULE = Rule(7, 10, 2, kernels.UNIFORM)
FIRST_CALL = """
import numpy as np, time
from vpoc_ml.profile.kernels import Rule, TickBars, extend_levels, session_levels
one = np.ones(1, np.int64)
bars, rule = TickBars(one, one, one, one, np.array([0, 1])), Rule(7, 10, 2, 0)
begin = time.process_time()
session_levels(bars, rule)
extend_levels(bars, rule, 0, np.zeros(3, np.int64), 0, -1)
print(time.process_time() - begin)
"""
CAVEAT = """wickra and quantwave roll a window of {minutes} bars in {bins} equal bins of its range and know no session:
no peer found computes session-anchored developing levels on the tick grid. wickra grows its area one price at a
time, quantwave takes one price per bar and gives the VPOC only (its vah and val are 0). MarketProfile puts all volume
at the close; at every bar it was run on {slices} slices of one session."""

Row = tuple[str, int, float | None]


def market(sessions: int, seed: int = 1) -> TickBars:
    """Minute bars like those of ES: a value area of about 120 ticks, bars of 7 ticks on average (ESH25: 7.2)."""
    draw = np.random.default_rng(seed)
    rows = sessions * MINUTES
    close = 12_000 + np.abs(np.cumsum(np.rint(2.4 * draw.standard_t(3, rows))).astype(np.int64) % 16_000 - 8_000)
    width = draw.poisson(6, rows)
    low = close - draw.integers(0, width + 1)
    volume = draw.lognormal(5.5, 1.3, rows).astype(np.int64)
    return TickBars(low, np.maximum(low + width, close), close, volume, np.arange(0, rows + 1, MINUTES))


def frame_of(ticks: TickBars) -> pl.DataFrame:
    """The same bars as a canonical frame of one contract."""
    days = [date(2025, 1, 6) + timedelta(days=n) for n in range(ticks.starts.size - 1)]
    start = datetime(2025, 1, 5, 23, tzinfo=UTC)
    times = [start + timedelta(days=n, minutes=m) for n in range(len(days)) for m in range(MINUTES)]
    price = {name: getattr(ticks, name) * 0.25 for name in ("high", "low", "close")}
    bars = pl.DataFrame({"ts": pl.Series(times, dtype=pl.Datetime("us", "UTC")), **price, "volume": ticks.volume})
    return bars.with_columns(
        pl.lit("ESH25").alias("contract"),
        pl.Series("session", [day for day in days for _ in range(MINUTES)]),
        (pl.int_range(pl.len()) % MINUTES).is_between(930, 1319).alias("rth"),
        pl.col("close").alias("open"),
    )


def developing(ticks: TickBars) -> Ints:
    base = int(ticks.low.min()) - 1
    return extend_levels(ticks, RULE, base, np.zeros(int(ticks.high.max()) - base + 2, np.int64), 0, -1)


@numba.njit
def regrown(ticks: TickBars, rule: Rule) -> Ints:
    """The simple kernel: spread the bar, search the full range for the VPOC, grow the area from it."""
    base = ticks.low.min()
    levels = np.empty((ticks.low.size, 3), np.int64)
    for session in range(ticks.starts.size - 1):
        profile = np.zeros(ticks.high.max() - base + 1, np.int64)
        first, last, total = profile.size, -1, 0
        for bar in range(ticks.starts[session], ticks.starts[session + 1]):
            low, high = ticks.low[bar] - base, ticks.high[bar] - base
            units = ticks.volume[bar] * kernels.SCALE
            share = units // (high - low + 1)
            for row in range(low, high + 1):
                profile[row] += share
            profile[ticks.close[bar] - base] += units - share * (high - low + 1)
            first, last, total = min(first, low), max(last, high), total + units
            vpoc = kernels.find_vpoc(profile, first, last)
            val, vah, _ = kernels.find_value_area(profile, first, last, vpoc, total, rule)
            levels[bar, 0], levels[bar, 1], levels[bar, 2] = base + vpoc, base + vah, base + val
    return levels


def reference_bars(ticks: TickBars, count: int) -> list[Bar]:
    return [Bar(*map(int, row)) for row in np.array(ticks[:4]).T[:count]]


# ---------------------------------------------------------------- table


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    return min(_timed(work) for _ in range(repeats))


def _timed(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def peer_row(package: str, pinned: str, bars: int, work: Callable[[], Callable[[], object]], title: str) -> Row:
    """Return the row of a peer, without seconds where it is not installed in the pinned version."""
    if peers.version(package) != pinned:
        return f"{package} {pinned}: {title}", bars, None
    return f"{package} {pinned}: {title}", bars, seconds(work(), 2)


def show(title: str, rows: list[Row]) -> None:
    print(f"\n{title:<64}{'bars':>10}{'CPU s':>10}{'M bars/s':>10}{'slower':>10}")
    fastest = rows[0][1] / (rows[0][2] or 1)
    for name, bars, spent in rows:
        if spent is None:
            print(f"  {name:<62}{'not installed':>20}")
        else:
            speed = f"{bars / spent / 1e6:>10.3f}{fastest * spent / bars:>10,.1f}"
            print(f"  {name:<62}{bars:>10,}{spent:>10.4f}{speed}")


def first_calls() -> list[float]:
    """CPU seconds of the first calls in two processes, one after the other, that share an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", FIRST_CALL]
        runs = [subprocess.run(command, env=environment, capture_output=True, check=True) for _ in range(2)]
    return [float(run.stdout) for run in runs]


def check(one: TickBars, many: TickBars, day: TickBars) -> None:
    """Check that all versions find the same levels."""
    levels = session_levels(one, RULE)
    assert np.array_equal(levels[:, :3], peers.numpy_sessions(one))
    assert np.array_equal(session_levels(many, RULE)[:, :3], peers.polars_sessions(peers.polars_frame(many)))
    slow = reference.developing_levels_of(reference_bars(day, 60), Fraction(7, 10), 2)
    assert [tuple(row) for row in developing(day)[:60]] == [row[:3] for row in slow]
    assert np.array_equal(developing(many), regrown(many, RULE))
    print(f"value area: median width {np.median(levels[:, 1] - levels[:, 2]):.0f} ticks")
    print(f"identical: sessions to numpy and polars, {many.low.size:,} developing rows to the simple kernel")


def ratio(rows: list[Row], peer: str) -> str:
    """Return the speed of the first row over that of the fastest row with ``peer`` in its name."""
    (_, bars, own), found = rows[0], [row for row in rows if peer in row[0]]
    per_bar = [spent / count for _, count, spent in found if spent is not None]
    return f"{min(per_bar) / ((own or 1) / bars):,.0f}x" if per_bar else "no peer installed:"


def main() -> None:
    many, one, day = market(SESSIONS * CONTRACTS), market(SESSIONS), market(1)
    cold, warm = first_calls()
    print(f"first calls: {cold:.1f} CPU s with an empty compilation cache, {warm:.2f} s in the next process (load"
          f" {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs)")  # fmt: skip
    check(one, many, day)
    bars, one_bars, frame = many.low.size, one.low.size, peers.polars_frame(many)
    sessions: list[Row] = [
        ("kernel", bars, seconds(lambda: session_levels(many, RULE), 15)),
        ("polars, vectorised: explode, merge of block minima", bars, seconds(lambda: peers.polars_sessions(frame))),
        ("numpy add.at, value area in Python", one_bars, seconds(lambda: peers.numpy_sessions(one))),
        peer_row("MarketProfile", "0.2.0", one_bars, lambda: peers.market_profile(one), "close only"),
    ]
    show("Session profiles: VPOC and value area", sessions)
    slices, each_bar = (1, None)
    if peers.version("MarketProfile"):
        slices, each_bar = peers.market_profile_each_bar(day, MINUTES, 25)
    levels: list[Row] = [
        ("kernel", bars, seconds(lambda: developing(many), 15)),
        ("simple kernel: VPOC and area rebuilt at every bar", bars, seconds(lambda: regrown(many, RULE))),
        peer_row("quantwave", "0.8.1", peers.ROLLING, lambda: peers.quantwave(many, MINUTES), "rolling, VPOC only"),
        peer_row("wickra", "2.0.0", peers.ROLLING, lambda: peers.wickra(many, MINUTES), "rolling"),
        peer_row("MarketProfile", "0.2.0", slices, lambda: each_bar, "a slice at every bar"),
    ]
    show("Developing levels at every bar", levels)
    print("\n" + CAVEAT.format(minutes=MINUTES, bins=peers.BINS, slices=slices))
    es, config, contract = instrument("ES"), ProfileConfig(), frame_of(one)
    show("Frames of one contract", [
        ("build_sessions (session, RTH, opening, overnight)", contract.height,
         seconds(lambda: build_sessions(contract, es, config))),
        ("build_developing", contract.height, seconds(lambda: build_developing(contract, es, config))),
    ])  # fmt: skip
    speed = bars / (levels[0][2] or 1) / 1e6
    rolling = ratio([levels[0], levels[2], levels[3]], "rolling")
    print(f"\nsession profiles: {ratio(sessions, 'polars')} polars (target 20x), {ratio(sessions, 'MarketProfile')}"
          f" MarketProfile (250x)\ndeveloping levels: {speed:.1f} M bars/s and core (15), {rolling} the fastest"
          " compiled rolling peer (100x), which rolls a window")  # fmt: skip


if __name__ == "__main__":
    main()
