"""Error rates of the promotion rule: how often it promotes a model without skill, and how soon one with skill.

    python benchmarks/bench_promotion.py                   # 20 simulated years a row: a minute
    python benchmarks/bench_promotion.py --years 200       # the table of docs/performance.md
    python benchmarks/bench_promotion.py --pipelines 10    # besides, whole runs of the product on martingale markets

A simulated year starts with a track record and adds one session on each of 250 nights. A session has 135 rows with
heavy-tailed returns whose volatility changes from session to session. The rank IC of a row and the tolerance are
sqrt(10) times the stated ones: a session then says as much as 1,350 minutes. A candidate predicts ranks with a planted
rank IC (0: a martingale market). Its predictions are as wide as what they explain; without skill, as wide as the error
of a slope that was fitted on 250 sessions. Ridge has two thirds of its rank IC, and half of the variance of their noise
in common. Every night the product's own functions measure the growing track record, and the rule decides. With ten
presets, a new one is tried every 25 nights and each is asked about every night; promoting any one of them counts. A
candidate that "bets on the open" predicts a return to the opening price of the session on a martingale market: its
results are skewed, and any score that the session itself centres or ranks finds skill in them.

The rule before required that bootstrap intervals of rank IC, Huber gain and accuracy gains over the four baselines lie
above zero on one night.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from measuring import NOW
from numpy.typing import NDArray

from vpoc_ml import pipeline
from vpoc_ml.config.settings import ANY_AGE, PROMOTION_LEVELS
from vpoc_ml.evaluation.bootstrap import draw
from vpoc_ml.evaluation.forecasts import Forecast, LabelledRows, centred_ranks
from vpoc_ml.evaluation.metrics import SessionSums, correlation, ratio_gain, reduce
from vpoc_ml.evaluation.sequential import bounded, log_wealth
from vpoc_ml.evaluation.session_scores import SKILL, session_gains, session_ic, session_moments
from vpoc_ml.registry.promotion import SIMPLE, required_evidence
from vpoc_ml.synthetic.generate import write_market

Floats = NDArray[np.float64]
NIGHTS, MINUTES, ROWS, DELTA = 250, 1350, 135, 0.1
SCALE = math.sqrt(MINUTES / ROWS)
NEW_PRESET = 25
BEFORE = "rule before"
RULES = (BEFORE, *PROMOTION_LEVELS)


def simulated(seed: int, ic: float, history: int, presets: int, reverting: bool) -> dict[str, int | None]:
    """Return by rule the night, from 1, on which it first promotes one of the presets; None if it never does.

    Args:
        seed: of the market.
        ic: rank IC of a minute.
        history: sessions of the track record before the first night.
        presets: number of presets, with the same rank IC and noise of their own.
        reverting: the candidate bets on a return to the open instead of predicting at random.
    """
    generator, sessions = np.random.default_rng(seed), history + NIGHTS
    block = np.repeat(np.arange(sessions), ROWS)
    volatility = np.exp(np.cumsum(generator.normal(0, 0.08, sessions)))
    ret = np.where(generator.random(len(block)) < 0.1, 0.0, generator.standard_t(4, len(block))) * volatility[block]
    rows = LabelledRows(ret, centred_ranks(ret) + 0.5, block, sessions)
    up = float(ret[: history * ROWS].sum() > 0)
    rivals = (
        Forecast("constant", np.full(len(ret), 0.5), 0.5, ranked=False),
        Forecast("majority", np.full(len(ret), up), 0.5, direction_only=True),
        Forecast("last_sign", np.append(0.5, 0.5 + 0.25 * np.sign(ret[:-1])), 0.5),
    )
    signal = (rows.y - 0.5) / rows.y.std()
    power = ic * SCALE
    width = max(power, 1 / math.sqrt(250 * ROWS)) * rows.y.std()
    found: dict[str, int | None] = dict.fromkeys(RULES)
    for number in range(presets):
        noises = generator.normal(0, math.sqrt(0.5), (3, len(ret)))
        if reverting:
            moved = np.cumsum((rows.y - 0.5).reshape(sessions, ROWS), axis=1)
            moved = np.hstack([np.zeros((sessions, 1)), moved[:, :-1]])
            noises[0], noises[2] = -(moved / moved.std()).ravel(), 0.0
        candidate, ridge = (
            Forecast(name, 0.5 + width * (skill * signal + math.sqrt(1 - skill**2) * noise), 0.5)
            for name, skill, noise in (
                ("candidate", power, noises[0] + noises[2]),
                ("ridge", 2 / 3 * power, noises[1] + noises[2]),
            )
        )
        sums = {each.name: reduce(each, rows, DELTA) for each in (candidate, *rivals, ridge)}
        moments = session_moments(pl.Series("session", block), candidate.rank, rows.y)
        gains = {SKILL: session_ic(moments)} | session_gains(sums)
        scores = moments.select("session").with_columns(pl.Series(name, gain) for name, gain in gains.items())
        first = number * NEW_PRESET + 1
        for rule in RULES:
            night = by_intervals(sums, first) if rule == BEFORE else by_level(scores, sums, rule, number + 1, first)
            known = found[rule]
            found[rule] = night if known is None or (night is not None and night < known) else known
    return found


def by_level(scores: pl.DataFrame, sums: dict[str, SessionSums], level: str, number: int, first: int) -> int | None:
    """Return the night of the promotion at ``level`` of the ``number``-th preset, which is tried from ``first`` on."""
    thresholds = PROMOTION_LEVELS[level]
    required = required_evidence(number, thresholds.false_promotions)
    passed = np.arange(1, NIGHTS + 1) >= first
    for name in SIMPLE:
        values = scores[name].to_numpy()
        if thresholds.beats_all or name == "skill":
            passed &= log_wealth(bounded(values))[-NIGHTS:] >= required
        else:
            passed &= np.cumsum(np.nan_to_num(values))[-NIGHTS:] > 0
    candidate = sums["candidate"]
    assert candidate.rank_ic is not None
    gain = np.hstack([candidate.accuracy, sums["ridge"].accuracy])
    for night in np.flatnonzero(passed) + 1:
        sessions = len(scores) - NIGHTS + int(night)
        resamples = draw(sessions, samples=500, confidence=0.95, seed=11)
        ic = resamples.interval(candidate.rank_ic[:sessions], correlation)
        behind = resamples.interval(gain[:sessions], ratio_gain)
        if ic is not None and behind is not None and ic.low > 0 and behind.low > -SCALE * thresholds.tolerance:
            return int(night)
    return None


def by_intervals(sums: dict[str, SessionSums], first: int) -> int | None:
    """Return the night of the promotion by the rule before."""
    candidate, constant = sums["candidate"], sums["constant"]
    assert candidate.huber is not None
    assert candidate.rank_ic is not None
    assert constant.huber is not None
    statistics = [(candidate.rank_ic, correlation), (np.hstack([constant.huber, candidate.huber]), ratio_gain)]
    statistics += [
        (np.hstack([candidate.accuracy, sums[name].accuracy]), ratio_gain) for name in sums if name != "candidate"
    ]
    for night in range(first, NIGHTS + 1):
        sessions = len(candidate.accuracy) - NIGHTS + night
        if any(statistic(values[:sessions].sum(axis=0)) <= 0 for values, statistic in statistics):
            continue  # no interval lies above zero
        resamples = draw(sessions, samples=500, confidence=0.95, seed=11)
        intervals = (resamples.interval(values[:sessions], statistic) for values, statistic in statistics)
        if all(each is not None and each.low > 0 for each in intervals):
            return night
    return None


def table(years: int, workers: int) -> list[str]:
    """Return the rows of the Markdown table of error rates and power; each is printed when it is known."""
    lines = [f"| market | sessions before | presets | {' | '.join(RULES)} |", "|---|---:|---:|" + "---:|" * len(RULES)]
    cases = [(0.0, 250, 1, False), (0.0, 20, 1, False), (0.0, 250, 10, False), (0.0, 250, 1, True)]
    cases += [(ic, history, 1, False) for history in (250, 20) for ic in (0.005, 0.01, 0.03)]
    print("\n".join(lines), flush=True)
    with ProcessPoolExecutor(workers) as pool:
        for ic, history, presets, reverting in cases:
            one = partial(simulated, ic=ic, history=history, presets=presets, reverting=reverting)
            found = list(pool.map(one, range(years), chunksize=4))
            cells = []
            for rule in RULES:
                nights = [night for year in found if (night := year[rule]) is not None]
                median = f", night {np.median(nights):.0f}" if ic and nights else ""
                cells.append(f"{len(nights) / years:.1%}{median}")
            title = f"rank IC {ic:g}" if ic else "martingale, bets on the open" if reverting else "martingale"
            lines.append(f"| {title} | {history} | {presets} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return lines


def pipelines(number: int) -> int:
    """Return how many of ``number`` runs of preset nightly on martingale markets were promoted."""
    promoted = 0
    for seed in range(100, 100 + number):
        with tempfile.TemporaryDirectory(prefix="promotion-") as place:
            raw, lake = Path(place, "raw"), str(Path(place, "lake"))
            write_market(raw, contracts=3, seed=seed, mode="martingale")
            settings = {"machine.device": "cpu", "quality.max_age_sessions": ANY_AGE}
            pipeline.start_run(lake, "night", "nightly", settings, str(raw), None, now=NOW)
            pipeline.run_until(lake, "night", "promote", NOW)
            decision = pipeline.summarize(lake, "night").decision
            assert decision is not None
            promoted += decision.promote
            print(f"martingale market {seed}: {decision.state}", flush=True)
    return promoted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the simulation and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pipelines", type=int, default=0)
    options = parser.parse_args(arguments)
    table(options.years, options.workers)
    if options.pipelines:
        print(f"{pipelines(options.pipelines)} of {options.pipelines} whole runs on martingale markets were promoted")


if __name__ == "__main__":
    main()
