"""Skill of each learner, and of their stack, on later sessions of the synthetic markets, by mode and horizon.

    python benchmarks/learners.py --out FOLDER    # 5 modes, 3 horizons, 3 seeds: twelve minutes of CPU
    python benchmarks/learners.py --short         # 3 modes of one contract, 2 epochs: half a minute
    python benchmarks/learners.py --out FOLDER --modes overlap -o training.batch_size=4096

A market goes through the stages of a run up to the track record of each horizon: the product trains the network, ridge
and LightGBM of every walk-forward fold, and stacks them by the predictions of earlier folds. All predictions of the
track record are measured: the rank IC over all rows, the mean rank IC of a session, which the promotion rule uses,
and the Huber gain, which is the loss of the constant minus that of the learner. Standard errors come from resampling
sessions. ``truth`` is the planted probability that the next close is higher, at every horizon.

The predictions of every (mode, seed, horizon) are stored under a key of settings and of the code that makes them: a
killed benchmark goes on where it ended, and another stack of the same predictions takes seconds. ``learners.csv`` and
``learners.md`` in FOLDER hold what was asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from measuring import NOW, one_thread_each
from numpy.typing import NDArray

from vpoc_ml import config as configuration
from vpoc_ml import pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.model_card import Stack
from vpoc_ml.evaluation.bootstrap import Resamples, Statistic, draw
from vpoc_ml.evaluation.forecasts import Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import correlation, ratio_gain, reduce
from vpoc_ml.evaluation.session_scores import session_ic, session_moments
from vpoc_ml.evaluation.stacked import stacked_track
from vpoc_ml.lake.atomic import replacing, write_text
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.synthetic.generate import write_market
from vpoc_ml.synthetic.planted_rules import MODES, Mode
from vpoc_ml.training.launch.job import train_run

Floats = NDArray[np.float64]
SYMBOL = "ES"
STAGES = ("ingest_contract", "build_rolls", "profile_contract", "features_contract", "build_training_set")
OVER_ALL = ("build_rolls", "build_training_set")
FORECASTS = {
    "constant": "constant",
    "last_sign": "last_sign",
    "net": "part_all",
    "ridge": "part_ridge",
    "lightgbm": "part_lightgbm",
    "stack": "candidate",
}
"""Learners by their columns in the track record."""
COMPUTING = (
    "ingest.bars",
    "market.roll_table",
    "profile.sessions",
    "profile.developing",
    "features.build",
    "dataset.assemble",
    "dataset.folds",
    "training.launch.fit",
    "evaluation.baselines",
)
"""Modules that make the predictions; the stack is computed anew from the stored ones."""
SINGLE = ("net", "ridge", "lightgbm")
LEARNERS = ("truth", "constant", "last_sign", *SINGLE, "stack")


@dataclass(frozen=True)
class Market:
    """What is generated, and the settings that every run of it shares."""

    mode: Mode
    seed: int
    contracts: int
    switch: int
    overrides: tuple[str, ...]

    def cell(self, horizon: str) -> str:
        """Return the file name of the predictions of one horizon; another one for other settings or code."""
        code = code_digest(write_market, *(f"vpoc_ml.{module}" for module in COMPUTING))
        content = repr((self, horizon, code))
        return f"{self.mode}-{self.seed}-{horizon}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.parquet"


@dataclass(frozen=True)
class Skill:
    """One row of the results; None where a learner has no such number."""

    mode: str
    horizon: str
    seed: int
    learner: str
    rank_ic: float | None
    rank_ic_se: float | None
    huber_gain: float | None
    huber_gain_se: float | None
    session_ic: float | None
    rows: int
    sessions: int
    chosen: str


def measure_market(market: Market, horizons: Sequence[str], cells: Path) -> list[Skill]:
    """Return the results of each horizon of a market; predict what is not stored yet."""
    torch.set_num_threads(1)
    stored = {horizon: cells / market.cell(horizon) for horizon in horizons}
    missing = [horizon for horizon, file in stored.items() if not file.is_file()]
    if missing:
        cells.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="learners-") as place:
            raw, lake = Path(place, "raw"), Path(place, "lake")
            made = write_market(
                raw, contracts=market.contracts, seed=market.seed, mode=market.mode, switch=market.switch
            )
            truth = pl.read_parquet(made.truth).select("ts", "contract", truth="p_up")
            for horizon in missing:
                begin = time.perf_counter()
                track = predictions(lake, raw, horizon, market.overrides)
                track = track.join(truth, on=["ts", "contract"], how="left", maintain_order="left")
                with replacing(stored[horizon]) as file:
                    track.with_columns(pl.col("truth").fill_null(0.5)).write_parquet(file)
                print(f"{market.mode} {market.seed} {horizon}: {time.perf_counter() - begin:.0f} s", flush=True)
    return [each for horizon, file in stored.items() for each in measure_cell(market, horizon, pl.read_parquet(file))]


def predictions(lake: Path, raw: Path, horizon: str, overrides: Sequence[str]) -> pl.DataFrame:
    """Run the nightly preset with a stack, folds in this process; return the folds' predictions, epoch and name."""
    settings = {"dataset.horizon": horizon, "machine.device": "cpu", "model.learners": ("ridge", "lightgbm", "net")}
    settings |= dict(map(configuration.parse_override, overrides))
    place, parts = str(lake), []
    pipeline.start_run(place, horizon, "nightly", settings, str(raw), None, now=NOW)
    contracts = list(pipeline.plan_contracts(place, horizon).contracts)
    for stage in STAGES:
        for chosen in [contracts] if stage in OVER_ALL else contracts:
            getattr(pipeline, stage)(place, horizon, chosen)
    with patch("vpoc_ml.training.launch.subprocess.launch", lambda folder, on_progress: train_run(folder)):
        for fold in pipeline.plan_folds(place, horizon).folds:
            trained = pipeline.train_fold(place, horizon, fold)
            made = pl.read_parquet(lake / layout.fold_predictions_key(SYMBOL, trained.key))
            parts.append(made.with_columns(fold=pl.lit(fold), epoch=pl.lit(trained.best_epoch)))
    learners = [name for column in FORECASTS.values() for name in (column, f"{column}_zero")]
    return pl.concat(parts).select("ts", "contract", "session", "label_end", "ret", "y", "fold", "epoch", *learners)


def measure_cell(market: Market, horizon: str, track: pl.DataFrame) -> list[Skill]:
    """Measure the stack of stored predictions, its learners, the simple baselines and the truth on all their rows."""
    settings = configuration.resolve("nightly", dict(map(configuration.parse_override, market.overrides))).evaluation
    track, stacks = stacked_track(track, settings.huber_delta)
    forecasts = [Forecast("truth", track["truth"].to_numpy(), 0.5)]
    for name, column in FORECASTS.items():
        rank, zero = (track[each].to_numpy() for each in (column, f"{column}_zero"))
        forecasts.append(Forecast(name, rank, zero, ranked=name != "constant"))
    rows = LabelledRows.of(track)
    samples = draw(rows.sessions, samples=settings.bootstrap_samples, confidence=0.95, seed=settings.seed)
    ranks = {each.name: each.rank for each in forecasts}
    sums = {each.name: reduce(each, rows, settings.huber_delta) for each in forecasts}
    folds = track.group_by("fold", maintain_order=True).agg(pl.col("epoch").first(), pl.col("session").last())
    chosen = {"net": f"epochs {folds['epoch'].to_list()}", "stack": chosen_stacks(folds["session"], stacks)}
    found = []
    for name, own in sums.items():
        both = None if name == "truth" else np.hstack([sums["constant"].huber, own.huber])
        ic, gain = estimate(own.rank_ic, correlation, samples), estimate(both, ratio_gain, samples)
        key, ranked = (market.mode, horizon, market.seed, name), own.rank_ic is not None
        moments = session_moments(track["session"], ranks[name], rows.y)
        within = float(np.nanmean(session_ic(moments))) if ranked else None
        found.append(Skill(*key, *ic, *gain, within, track.height, rows.sessions, chosen.get(name, "")))
    return found


def chosen_stacks(days: Iterable[date], stacks: Mapping[date, Stack]) -> str:
    """Return weights and slope on these days in words; - where validation sessions chose them."""
    found = map(stacks.get, days)
    return "; ".join(
        "-" if each is None else " ".join(f"{part.weight:.2f}" for part in each.parts) + f" slope {each.slope:.2f}"
        for each in found
    )


def estimate(sums: Floats | None, statistic: Statistic, samples: Resamples) -> tuple[float | None, float | None]:
    """Return a statistic of all sessions and its standard error; two None where there is none."""
    if sums is None:
        return None, None
    draws, few = samples.draws(sums, statistic), samples.sessions / (samples.sessions - 1)
    return float(statistic(sums.sum(axis=0))), float(np.nanstd(draws) * few**0.5)


@dataclass(frozen=True)
class Mean:
    """Mean over the markets of a mode, its standard error, and the number of markets with such a number."""

    value: float
    error: float
    markets: int

    @classmethod
    def of(cls, rows: pl.DataFrame, learner: str, column: str) -> Mean:
        """Return the mean of a learner. A forecast that is constant has no rank IC and counts as 0."""
        own = rows.filter(pl.col("learner") == learner)
        values, errors = own[column].fill_null(0.0), own[f"{column}_se"].fill_null(0.0)
        return cls(float(values.mean()), float(errors.pow(2).sum()) ** 0.5 / own.height, own[column].count())

    def text(self, digits: int, scale: float = 1.0) -> str:
        """Return the mean with its standard error."""
        if not self.markets:
            return "-"
        return f"{scale * self.value:.{digits}f} ± {scale * self.error:.{digits}f}"


TABLES = {
    "Rank IC": ("truth", "last_sign", *SINGLE, "stack"),
    "Huber gain x 1e-5": ("last_sign", *SINGLE, "stack"),
    "The stack beside the best single learner": (
        "best",
        "rank IC over its",
        "session rank IC over the best",
        "Huber gain in standard errors",
    ),
}


def tables(results: pl.DataFrame) -> str:
    """Return the results as Markdown tables with one row a mode and horizon."""
    lines = {
        title: [f"| mode | horizon | {' | '.join(heads)} |", "|---|---|" + "---:|" * len(heads)]
        for title, heads in TABLES.items()
    }
    for (mode, horizon), rows in results.group_by("mode", "horizon", maintain_order=True):
        ic, gain = ({name: Mean.of(rows, name, column) for name in LEARNERS} for column in ("rank_ic", "huber_gain"))
        best, stack = max(SINGLE, key=lambda name: ic[name].value), gain["stack"]
        share = f"{ic['stack'].value / ic[best].value:.2f}" if ic[best].value > 0 else "-"
        daily = rows.group_by("learner").agg(pl.col("session_ic").fill_null(0.0).mean())
        within = dict(daily.iter_rows())
        most = max(within[name] for name in SINGLE)
        inside = f"{within['stack'] / most:.2f}" if most > 0 else "-"
        evidence = f"{stack.value / stack.error:+.1f}" if stack.error else "0"
        cells = (
            [ic[name].text(4) for name in TABLES["Rank IC"]],
            [gain[name].text(2, 1e5) for name in TABLES["Huber gain x 1e-5"]],
            [best, share, inside, evidence],
        )
        for own, texts in zip(lines.values(), cells, strict=True):
            own.append(f"| {mode} | {horizon} | {' | '.join(texts)} |")
    return "\n\n".join("\n".join([title, "", *own]) for title, own in lines.items()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the results; default: a temporary one")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--horizons", nargs="+", default=("1m", "15m", "60m"))
    parser.add_argument("--seeds", type=int, default=3, help="markets of each mode, with the seeds 0, 1, ...")
    parser.add_argument("--contracts", type=int, default=3, help="contracts of a market; 3 have 212 sessions")
    parser.add_argument("--switch", type=int, default=106, help="session at which the sign of drifting is reversed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--short", action="store_true", help="a minute or two: shows that it works, not the skill")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    options = parser.parse_args()
    if options.short:
        options.modes, options.horizons, options.seeds = ("linear", "overlap", "martingale"), ("1m", "60m"), 1
        options.contracts, options.overrides = 1, ["training.epochs=2", *options.overrides]
    one_thread_each()
    with tempfile.TemporaryDirectory(prefix="learners-") as place:
        print(measure(options, options.out or Path(place)))


def measure(options: argparse.Namespace, out: Path) -> str:
    """Measure what is not stored in ``out`` yet, write all results there and return the tables."""
    shared = (options.contracts, options.switch, tuple(options.overrides))
    markets = [Market(mode, seed, *shared) for seed in range(options.seeds) for mode in options.modes]
    context = multiprocessing.get_context("spawn")  # polars and torch read their number of threads when imported
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        jobs = [pool.submit(measure_market, each, options.horizons, out / "cells") for each in markets]
        for job in as_completed(jobs):
            job.result()
    found = [asdict(each) for job in jobs for each in job.result()]
    results = pl.DataFrame(found, infer_schema_length=None)
    results = results.sort(pl.col("mode").replace_strict({mode: at for at, mode in enumerate(options.modes)}))
    text = tables(results)
    write_text(out / "learners.csv", results.write_csv())
    write_text(out / "learners.md", text)
    return text


if __name__ == "__main__":
    main()
