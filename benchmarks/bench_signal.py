"""How much of a planted signal the networks, LightGBM and their blend find.

    python benchmarks/bench_signal.py               # 1.14 million rows, 20 % of them judged; about eight minutes
    python benchmarks/bench_signal.py --rows 300000

"captured" is the share of the attainable edge over 50 % that a model's direction earns in expectation on test rows;
"Huber" its Huber skill against the constant 0.5, in percent. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vpoc_ml.dataset.targets import RankTarget
from vpoc_ml.models.bundle import LoadedModel, load_model
from vpoc_ml.models.forecaster import Forecaster
from vpoc_ml.training.launch.job import train_run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "training"))
import signals
from signals import STRONG, WEAK, Signal

DELTA = 0.1
CASES = (
    ("smooth", "smooth", STRONG),
    ("steps", "steps", STRONG),
    ("weak smooth", "smooth", WEAK),
    ("weak steps", "steps", WEAK),
    ("noise", "smooth", 0.0),
)
ENCODED = {"model__encoding": "piecewise_linear"}
BLEND = {"model__blend": "lightgbm"}


def trained(signal: Signal, **overrides: object) -> tuple[LoadedModel, float]:
    """Return the nightly preset's model on a signal, and the CPU seconds it took."""
    with tempfile.TemporaryDirectory() as place:
        folder = signals.write(Path(place) / "run", signal, **overrides)
        begin = time.process_time()
        train_run(folder)
        return load_model(folder / "best_model.json"), time.process_time() - begin


def parts(model: LoadedModel, raw: np.ndarray) -> list[np.ndarray]:
    """Return the scores of the networks, and of the trees if there are any."""
    forecaster = Forecaster(model.net.body, model.target, model.trees)
    return list(forecaster.parts(model.net.guard(torch.from_numpy(raw))))


def ridge(model: LoadedModel, signal: Signal, ranks: np.ndarray) -> np.ndarray:
    """Return a linear regression of the ranks on the guarded features, for the test rows."""
    guarded = model.net.guard(torch.from_numpy(signal.raw)).numpy().astype(np.float64)
    design = np.column_stack((guarded, np.ones(len(guarded))))
    train, test = signal.split == "train", signal.split == "test"
    solved = np.linalg.lstsq(design[train], ranks[train], rcond=None)[0]
    scores: np.ndarray = design[test] @ solved
    return scores


def huber(errors: np.ndarray) -> float:
    size = np.abs(errors)
    return float(np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).mean())


def measured(name: str, signal: Signal) -> None:
    """Print a case's rows of the table."""
    test = signal.split == "test"
    ranks = RankTarget.fit(signal.returns[signal.split == "train"]).apply(signal.returns)
    raw, truth = signal.raw[test], ranks[test]
    plain, seconds = trained(signal, **BLEND)
    encoded, longer = trained(signal, **ENCODED, **BLEND)
    net, trees = parts(plain, raw)
    found = {
        "ridge": (ridge(plain, signal, ranks), None),
        "LightGBM": (trees, None),
        "nightly net": (net, None),
        "nightly net with encoding": (parts(encoded, raw)[0], None),
        "blend": (plain.predict(raw), seconds),
        "blend with encoding": (encoded.predict(raw), longer),
    }
    base = huber(truth - 0.5)
    for model, (scores, cpu) in found.items():
        share = f"{100 * signal.captured(scores - plain.zero_rank):.1f} %" if signal.ceiling > 0.5 else "-"
        skill = f"{100 * (1 - huber(truth - scores) / base):+.3f} %"
        spent = f"{cpu:.0f} s" if cpu else ""
        print(f"| {name} | {100 * signal.ceiling:.2f} % | {model} | {share} | {skill} | {spent} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_140_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| signal | ceiling | model | captured | Huber | CPU of networks and trees |\n|---|---|---|---:|---:|---:|")
    for name, kind, edge in CASES:
        measured(name, signals.make(kind, edge, options.rows))


if __name__ == "__main__":
    main()
