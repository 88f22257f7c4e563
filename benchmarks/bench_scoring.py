"""Latency of one bar that is scored as soon as it has ended, beside the batch.

    python benchmarks/bench_scoring.py

The market is a martingale with two contracts of about 63 full sessions; the model is a stack of net, ridge and 100
trees on all 54 features. A scorer gets the last session of a contract bar by bar. Before anything is printed, features
and predictions must have the bits of the batch. Wall times are of one process with one thread; on a busy machine read
the CPU times. The end of the session before and the first bar are shown apart. Takes about half a minute.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from measuring import one_thread_each

one_thread_each()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import torch  # noqa: E402
from tests.scoring.replay import batch_features, live_market, new_bars, stack  # noqa: E402

from vpoc_ml.leakage.generated_markets import martingale  # noqa: E402
from vpoc_ml.scoring.batch import score_bars  # noqa: E402
from vpoc_ml.scoring.live import Scorer  # noqa: E402
from vpoc_ml.scoring.predictions import predictions_of  # noqa: E402

SEED, WARM_UP = 5, 60


def main() -> None:
    """Replay a session and print the latency of a bar."""
    torch.set_num_threads(1)
    market = list(martingale(2, SEED))[1]
    begin = time.perf_counter()
    features = batch_features(market)
    built = time.perf_counter() - begin
    live = stack(features, rounds=100)
    count = market.bars.filter(pl.col("session") == market.bars["session"][-1]).height
    session, expected = market.bars[-count:], features[-count:]
    begin = time.perf_counter()
    known = expected.with_columns(close=session["close"])
    batch = score_bars(live.model, known, live.rules, key=live.key, model_version=live.version).frame
    scored = time.perf_counter() - begin
    begin = time.perf_counter()
    scorer = Scorer(live, live_market(market, market.bars[: -count - WARM_UP]))
    started = time.perf_counter() - begin
    wall, cpu, predictions, rows = [], [], [], []
    for number, bar in enumerate(new_bars(market.bars[-count - WARM_UP :])):
        if number == WARM_UP:
            spent = time.process_time()
            scorer.end_session()
            ended = 1000 * (time.process_time() - spent)
        begin, spent = time.perf_counter(), time.process_time()
        predictions.append(scorer.update(bar))
        wall.append(1000 * (time.perf_counter() - begin))
        cpu.append(1000 * (time.process_time() - spent))
        rows.append(scorer.features)
    found = pl.concat(rows[WARM_UP:])
    names = features.columns[3:]
    same = np.array_equal(*(frame.select(names).to_numpy().view(np.int32) for frame in (found, expected)))
    if not same or predictions[WARM_UP:] != list(predictions_of(batch)):
        raise SystemExit("features or predictions differ from the batch")
    print(f"bars {count}, features {len(names)}, parts 3: equal to the batch, to the bit")
    print(f"{'ms a bar':<10} {'p50':>7} {'p99':>7} {'largest':>8} {'first of a session':>19}")
    for name, values in (("wall", wall), ("CPU", cpu)):
        own = np.array(values[WARM_UP + 1 :])
        p50, p99 = np.quantile(own, (0.5, 0.99))
        print(f"{name:<10} {p50:>7.2f} {p99:>7.2f} {own.max():>8.2f} {values[WARM_UP]:>19.2f}")
    print(f"end of the session before: {ended:.2f} ms CPU")
    print(f"start of the scorer {started:.2f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    per_bar = 1000 * (built / features.height + scored / count)
    print(f"batch: {features.height:,} bars of features in {built:.2f} s, {count} scores in {scored:.3f} s,", end=" ")
    print(f"{per_bar:.4f} ms a bar")


if __name__ == "__main__":
    main()
