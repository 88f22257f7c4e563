"""Skill of each learner, and of their stack, on later sessions of the synthetic markets, by mode and horizon.

    python benchmarks/learners.py --out FOLDER    # 5 modes, 3 horizons, 3 seeds: eight minutes of CPU
    python benchmarks/learners.py --short         # 3 modes of one contract, 2 epochs: half a minute
    python benchmarks/learners.py --out FOLDER --modes overlap -o training.batch_size=4096

A market goes through the stages of a run up to the track record of each horizon: the product trains the network, ridge
and LightGBM of every walk-forward fold, and stacks them by the predictions of earlier folds. All predictions of the
track record are measured: the rank IC over all rows, and the Huber gain, which is the loss of the constant minus that
of the learner. Standard errors come from resampling sessions. ``truth`` is the planted probability that the next close
is higher, at every horizon.

Every (mode, seed, horizon) is stored when it is measured, under a key of code and settings: a killed benchmark goes on
where it ended. ``learners.csv`` and ``learners.md`` in FOLDER hold what was asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
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
from vpoc_ml.artifacts.track_record import TrackRecord
from vpoc_ml.config.overrides import read_config
from vpoc_ml.evaluation.bootstrap import Resamples, Statistic, draw
from vpoc_ml.evaluation.forecasts import Forecast, LabelledRows
from vpoc_ml.evaluation.metrics import correlation, ratio_gain, reduce
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.synthetic.generate import write_market
from vpoc_ml.synthetic.planted_rules import MODES, Mode
from vpoc_ml.training.launch.job import train_run

Floats = NDArray[np.float64]
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
    "evaluation.stacked",
)
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
        """Return the file name of the results of one horizon; another one for other settings or code."""
        functions = (write_market, reduce, draw)
        code = code_digest(*functions, *(f"vpoc_ml.{module}" for module in COMPUTING))
        content = repr((self, horizon, code, Path(__file__).read_text()))
        return f"{self.mode}-{self.seed}-{horizon}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.csv"


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
    rows: int
    sessions: int
    chosen: str


def measure_market(market: Market, horizons: Sequence[str], cells: Path) -> None:
    """Write the results of each horizon of a market that are not stored yet."""
    torch.set_num_threads(1)
    missing = [horizon for horizon in horizons if not (cells / market.cell(horizon)).is_file()]
    if not missing:
        return
    with tempfile.TemporaryDirectory(prefix="learners-") as place:
        raw, lake = Path(place, "raw"), Path(place, "lake")
        made = write_market(raw, contracts=market.contracts, seed=market.seed, mode=market.mode, switch=market.switch)
        for horizon in missing:
            begin = time.perf_counter()
            found = measure_run(market, horizon, evaluated_run(lake, raw, horizon, market.overrides), made.truth)
            write_text(
                cells / market.cell(horizon), pl.DataFrame(map(asdict, found), infer_schema_length=None).write_csv()
            )
            print(f"{market.mode} {market.seed} {horizon}: {time.perf_counter() - begin:.0f} s", flush=True)


def evaluated_run(lake: Path, raw: Path, horizon: str, overrides: Sequence[str]) -> Path:
    """Return the folder of a run of the nightly preset with a stack's track record; folds train in this process."""
    settings = {"dataset.horizon": horizon, "machine.device": "cpu", "model.learners": ("ridge", "lightgbm", "net")}
    settings |= dict(map(configuration.parse_override, overrides))
    place = str(lake)
    pipeline.start_run(place, horizon, "nightly", settings, str(raw), None, now=NOW)
    contracts = list(pipeline.plan_contracts(place, horizon).contracts)
    for stage in STAGES:
        for chosen in [contracts] if stage in OVER_ALL else contracts:
            getattr(pipeline, stage)(place, horizon, chosen)
    with patch("vpoc_ml.training.launch.subprocess.launch", lambda folder, on_progress: train_run(folder)):
        for fold in pipeline.plan_folds(place, horizon).folds:
            pipeline.train_fold(place, horizon, fold)
    pipeline.build_track_record(place, horizon)
    return lake / "runs" / horizon


def measure_run(market: Market, horizon: str, folder: Path, truth: Path) -> list[Skill]:
    """Measure the stack of a run, its learners, the simple baselines and the truth on the rows of the track record."""
    settings = read_config(folder).evaluation
    track = pl.read_parquet(folder / layout.TRACK_RECORD_PREDICTIONS)
    known = track.join(pl.read_parquet(truth), on=["ts", "contract"], how="left", maintain_order="left")["p_up"]
    forecasts = [Forecast("truth", known.fill_null(0.5).to_numpy(), 0.5)]
    for name, column in FORECASTS.items():
        rank, zero = (track[each].to_numpy() for each in (column, f"{column}_zero"))
        forecasts.append(Forecast(name, rank, zero, ranked=name != "constant"))
    rows = LabelledRows.of(track)
    samples = draw(rows.sessions, samples=settings.bootstrap_samples, confidence=0.95, seed=settings.seed)
    sums = {each.name: reduce(each, rows, settings.huber_delta) for each in forecasts}
    record = TrackRecord.read(folder / layout.TRACK_RECORD, what="the track record", remedy="Run the benchmark again.")
    chosen = chosen_by_fold(record)
    found = []
    for name, own in sums.items():
        both = None if name == "truth" else np.hstack([sums["constant"].huber, own.huber])
        ic, gain = estimate(own.rank_ic, correlation, samples), estimate(both, ratio_gain, samples)
        key = (market.mode, horizon, market.seed, name)
        found.append(Skill(*key, *ic, *gain, track.height, rows.sessions, chosen.get(name, "")))
    return found


def chosen_by_fold(record: TrackRecord) -> dict[str, str]:
    """Return in words what was chosen for the network and for the stack of each fold."""
    stacks = [
        " ".join(f"{weight:.2f}" for weight in each.weights.values()) + f" slope {each.slope:.2f}"
        for each in record.folds
    ]
    return {"net": f"epochs {[each.best_epoch for each in record.folds]}", "stack": "; ".join(stacks)}


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
    "The stack beside the best single learner": ("best", "rank IC over its", "Huber gain in standard errors"),
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
        evidence = f"{stack.value / stack.error:+.1f}" if stack.error else "0"
        cells = (
            [ic[name].text(4) for name in TABLES["Rank IC"]],
            [gain[name].text(2, 1e5) for name in TABLES["Huber gain x 1e-5"]],
            [best, share, evidence],
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
        for done in as_completed(
            [pool.submit(measure_market, each, options.horizons, out / "cells") for each in markets]
        ):
            done.result()
    cells = [market.cell(horizon) for market in markets for horizon in options.horizons]
    results = pl.concat(pl.read_csv(out / "cells" / cell, infer_schema_length=None) for cell in cells)
    results = results.sort(pl.col("mode").replace_strict({mode: at for at, mode in enumerate(options.modes)}))
    text = tables(results)
    write_text(out / "learners.csv", results.write_csv())
    write_text(out / "learners.md", text)
    return text


if __name__ == "__main__":
    main()
