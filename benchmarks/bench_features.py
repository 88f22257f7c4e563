"""Speed and memory of the features, compared with the same formulas in polars.

    python benchmarks/bench_features.py

The data are 12 contracts of 69 full sessions, 1.14 million bars. Both versions get sessions, developing levels and VIX.
The values must agree before anything is timed. Times are CPU seconds of one thread, the minimum of several runs. Quote
ratios. The benchmark takes about a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is imported

import feature_peers as peers
import numpy as np
import polars as pl
from bench_profile import market
from measuring import peak_memory

from vpoc_ml.config import ProfileConfig
from vpoc_ml.features.build import FUNCTIONS, in_warmup, tabulate
from vpoc_ml.features.history import Past, empty_past, extend_past
from vpoc_ml.features.inputs import Inputs, build_inputs
from vpoc_ml.features.registry import FEATURE_NAMES, REGISTRY
from vpoc_ml.ingest.vix.vix_closes import available_at
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.profile.developing import build_developing
from vpoc_ml.profile.sessions import build_sessions

MINUTES, SESSIONS, CONTRACTS = 1380, 69, 12
CODES = [f"ES{month}{year}" for year in (22, 23, 24) for month in "HMUZ"]
SHARED = tuple(name for name in FEATURE_NAMES if name not in peers.ABSENT)
ES, CONFIG = instrument("ES"), ProfileConfig()


class Market(NamedTuple):
    """One contract: its bars, sessions and developing levels, and the VIX."""

    bars: pl.DataFrame
    daily: pl.DataFrame
    developing: pl.DataFrame
    vix: pl.DataFrame


def bar_times(code: str) -> pl.DataFrame:
    """The minutes of the last 69 full sessions before the contract's roll."""
    roll = parse_contract(code, where="here").scheduled_roll
    table = sessions(ES.calendar, roll - timedelta(days=130), roll).filter(minutes=MINUTES).tail(SESSIONS)
    minutes = pl.datetime_ranges("open", "close", "1m", closed="left").alias("ts")
    return table.select("session", minutes, "rth_open", "rth_close").explode(
        "ts", keep_nulls=False, empty_as_null=False
    )


def contract_market(number: int) -> Market:
    """One contract of a random market, with all inputs of the features."""
    ticks = market(SESSIONS, seed=number)
    draw = np.random.default_rng(number)
    opened = np.clip(np.concatenate((ticks.close[:1], ticks.close[:-1])), ticks.low, ticks.high)
    price = {name: 0.25 * values for name, values in zip(
        ("open", "high", "low", "close"), (opened, ticks.high, ticks.low, ticks.close), strict=True)}  # fmt: skip
    bars = bar_times(CODES[number]).select(
        pl.col("ts").cast(pl.Datetime("us", "UTC")),
        pl.lit(CODES[number]).alias("contract"),
        "session",
        pl.col("ts").is_between("rth_open", "rth_close", closed="left").alias("rth"),
    )
    bars = bars.with_columns(
        **{name: pl.Series(values) for name, values in price.items()}, volume=pl.Series(np.maximum(ticks.volume, 1))
    )
    days = pl.date_range(bars["session"][0] - timedelta(days=30), bars["session"][-1], eager=True).alias("date")
    vix = pl.DataFrame({"date": days, "close": 15 + 10 * draw.random(days.len())}).with_columns(
        available_at("date").alias("available_at")
    )
    known = vix.select(pl.col("available_at").alias("ts"), pl.col("close").alias("vix"))
    bars = bars.join_asof(known, on="ts", allow_exact_matches=False)
    return Market(bars, build_sessions(bars, ES, CONFIG), build_developing(bars, ES, CONFIG), vix)


def inputs_of(one: Market, past: Past | None = None) -> Inputs:
    return build_inputs(*one, ES, past, CONFIG)


def ours(one: Market, names: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(tabulate(inputs_of(one), {name: FUNCTIONS[name] for name in names}))


class PeerInputs(NamedTuple):
    """The same data in the form of the polars version."""

    bars: pl.DataFrame
    daily: pl.DataFrame
    vix: pl.DataFrame


def peer_inputs(markets: Sequence[Market]) -> PeerInputs:
    bars = pl.concat(one.bars.with_columns(one.developing.select("vpoc", "vah", "val")) for one in markets)
    daily = pl.concat(
        one.daily.select("contract", "session", "open", "high", "low", "close", "vpoc", "vah", "val") for one in markets
    )
    vix = pl.concat(one.vix.with_columns(contract=pl.lit(one.daily["contract"][0])) for one in markets)
    return PeerInputs(bars, daily, vix)


def check(one: Market) -> None:
    """Check that both versions compute the same values."""
    found, expected = ours(one, SHARED), peers.compute(*peer_inputs([one]), over=False)
    assert set(expected.columns) == set(SHARED)
    keys = one.bars.select("session")
    for name in SHARED:
        known = ~in_warmup(keys, [name])
        values, others = (frame[name].filter(known).to_numpy() for frame in (found, expected))
        np.testing.assert_allclose(values, others, rtol=2e-4, atol=2e-4, err_msg=name)
    print(f"the same values: {len(SHARED)} features, {keys.height:,} bars of one contract")
    for name, reason in peers.ABSENT.items():
        print(f"  not in the ratio: {name} ({reason})")


# ---------------------------------------------------------------- table


def seconds(work: Callable[[], object], repeats: int) -> float:
    return min(_timed(work) for _ in range(repeats))


def _timed(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def in_turns(*works: Callable[[], object], rounds: int = 7) -> list[float]:
    """The minimum CPU seconds of each, measured in alternation, so that a slow machine affects all of them."""
    spent = [[_timed(work) for work in works] for _ in range(rounds)]
    return [min(times) for times in zip(*spent, strict=True)]


def one_by_one(work: Callable[[Any], object], contracts: Sequence[Any]) -> None:
    """Do the work of every contract, with one result in memory at a time, as in the pipeline."""
    for one in contracts:
        work(one)


def each(markets: Sequence[Market], work: Callable[[Market], object], repeats: int = 5) -> float:
    """The minimum CPU seconds of every contract, summed."""
    return sum(seconds(lambda one=one: work(one), repeats) for one in markets)


def by_family(markets: Sequence[Market]) -> None:
    """Print the cost of each family with new inputs. Cached values that families share are counted for each."""
    for family in dict.fromkeys(feature.family for feature in REGISTRY.values()):
        names = [name for name in FEATURE_NAMES if REGISTRY[name].family == family]
        spent = each(markets, lambda one, names=names: ours(one, names), 3) - each(markets, inputs_of, 3)
        print(f"  {family:<12}{len(names):>3} features {1e3 * spent:>8.0f} ms")


def first_calls() -> list[float]:
    """CPU seconds of all features of a contract in two processes, one after the other, that share an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, __file__, "first"]
        runs = [subprocess.run(command, env=environment, capture_output=True, check=True) for _ in range(2)]
    return [float(run.stdout) for run in runs]


def peak(contracts: int) -> float:
    """Peak MiB of a process that builds and computes ``contracts`` contracts one after the other."""
    run = subprocess.run([sys.executable, __file__, str(contracts)], capture_output=True, check=True)
    return float(run.stdout)


def in_process(what: str) -> None:
    """Print the CPU seconds of one contract's features, or the peak memory for a number of contracts."""
    if what == "first":
        one = contract_market(0)
        print(_timed(lambda: ours(one, FEATURE_NAMES)))
        return
    for number in range(int(what)):
        ours(contract_market(number), FEATURE_NAMES)
    print(peak_memory())


def main() -> None:
    cold, warm = first_calls()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs; all features of one contract: {cold:.1f} CPU s"
          f" with an empty compilation cache, {warm:.2f} s in the next process")  # fmt: skip
    markets = [contract_market(number) for number in range(CONTRACTS)]
    check(markets[0])
    bars = sum(one.bars.height for one in markets)
    pasts = [extend_past(empty_past(), one.bars, one.daily, ES) for one in markets]
    given, apart = peer_inputs(markets), [peer_inputs([one]) for one in markets]
    kernels, alone, over, everything = in_turns(
        lambda: one_by_one(lambda one: ours(one, SHARED), markets),
        lambda: one_by_one(lambda one: peers.compute(*one, over=False), apart),
        lambda: peers.compute(*given, over=True),
        lambda: one_by_one(lambda one: ours(one, FEATURE_NAMES), markets),
    )
    input_cost = each(markets, inputs_of)
    with_past = sum(seconds(lambda pair=pair: inputs_of(*pair), 5) for pair in zip(markets, pasts, strict=True))
    print(f"\n{bars:,} bars, {CONTRACTS} contracts{'features':>32}{'CPU s':>10}{'Mcells/s':>10}{'slower':>9}")
    for title, count, spent in (
        ("ours, contract by contract", len(SHARED), kernels),
        ("polars, contract by contract", len(SHARED), alone),
        ("polars, all at once with .over", len(SHARED), over),
        ("ours, all features", len(FEATURE_NAMES), everything),
    ):
        print(f"  {title:<50}{count:>12}{spent:>10.3f}{bars * count / spent / 1e6:>10.0f}{spent / kernels:>9.1f}")
    print(f"of which building the inputs {input_cost:.3f} s, with 30 sessions of history {with_past:.3f} s")
    by_family(markets)
    few, many = peak(4), peak(CONTRACTS)
    print(f"peak memory: {few:.0f} MiB for 4 contracts, {many:.0f} MiB for {CONTRACTS}")
    print(f"{min(alone, over) / kernels:.1f}x polars (goal 5x)")


if __name__ == "__main__":
    in_process(sys.argv[1]) if len(sys.argv) > 1 else main()
