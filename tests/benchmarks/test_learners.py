"""The tables of the benchmark of the learners."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from learners import LEARNERS, tables


def test_tables_by_hand():
    skills = {"truth": (0.05, None), "last_sign": (0.01, 1e-5), "ridge": (0.04, 4e-5), "lightgbm": (0.02, 2e-5)}
    skills |= {"net": (0.03, -3e-5), "stack": (0.039, 3e-5), "constant": (None, 0.0)}
    rows = [
        {"mode": "linear", "horizon": "1m", "seed": seed, "learner": name, "rank_ic": ic, "huber_gain": gain}
        for seed in range(2)
        for name, (ic, gain) in skills.items()
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(rank_ic_se=0.003, huber_gain_se=1e-5)
    frame = frame.with_columns(session_ic=pl.when(pl.col("learner") == "net").then(0.06).otherwise("rank_ic"))
    constant = (pl.col("seed") == 1) & (pl.col("learner") == "net")
    frame = frame.with_columns(pl.when(~constant).then(pl.col(name)).alias(name) for name in ("rank_ic", "rank_ic_se"))
    assert set(frame["learner"]) == set(LEARNERS)
    ic, gain, stack = (part.splitlines()[-1] for part in tables(frame).split("\n\n")[1::2])
    assert ic == (
        "| linear | 1m | 0.0500 ± 0.0021 | 0.0100 ± 0.0021 | 0.0150 ± 0.0015 | 0.0400 ± 0.0021 | 0.0200 ± 0.0021"
        " | 0.0390 ± 0.0021 |"
    )
    assert gain == "| linear | 1m | 1.00 ± 0.71 | -3.00 ± 0.71 | 4.00 ± 0.71 | 2.00 ± 0.71 | 3.00 ± 0.71 |"
    assert stack == "| linear | 1m | ridge | 0.97 | 0.65 | +4.2 |"
