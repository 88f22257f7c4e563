"""Training on dirty raw data: 36 configurations, each protection switched off, rates far too high.

    python benchmarks/bench_stress.py            # about two minutes
    python benchmarks/bench_stress.py --epoch    # and 180,117 parameters for one full epoch in fp32, bf16 and fp16

Nothing here is a timing: it counts what is lost. Exit code 1 if the grid loses a step, a prediction or a
configuration that does not get better than the constant. The data, the cases and the switches are those of the tests.
"""

from __future__ import annotations

import argparse
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import logging
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "training"))
from stress import BAD_ROWS, GRID, PARAMETERS, Case, CaseResult, Market, dirty_market, run_case, shock, without

FULL_EPOCH, BATCH = 914_240, 64
CALM, HOT = Case("residual", "fp32", BATCH, 2e-3), Case("residual", "fp16", BATCH, 2e-2)
PLAIN: dict[str, Any] = {"model.kind": "mlp", "model.hidden_dims": (64, 32)}
LARGE: dict[str, Any] = {"model.hidden_dims": (148, 148)}
ADAPTIVE: dict[str, Any] = {"training.loss": "adaptive_huber"}
UNCLIPPED: dict[str, Any] = {"training.gradient_clip": 1000.0}
ABLATION: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("everything on", (), {}),
    ("- guard", ("guard",), {}),
    ("- guard - select - rollback", ("guard", "select", "rollback"), {}),
    ("- target mask", ("mask",), {}),
    ("- target mask - select", ("mask", "select"), {}),
    ("- target mask - select - rollback", ("mask", "select", "rollback"), {}),
    ("- select", ("select",), {}),
    ("- clipping", (), UNCLIPPED),
    ("adaptive delta, - target mask", ("mask",), ADAPTIVE),
    ("unguarded adaptive delta, - target mask - rollback", ("mask", "delta", "rollback"), ADAPTIVE),
)
SHOCKS: tuple[tuple[str, Case, tuple[str, ...], dict[str, Any]], ...] = (
    ("residual", CALM, (), {}),
    ("residual, fp16", HOT, (), {}),
    ("residual, fp16, - select", HOT, ("select",), {}),
    ("residual, fp16, - select - rollback", HOT, ("select", "rollback"), {}),
    ("plain net", CALM, (), PLAIN),
    ("plain net, - rollback", CALM, ("rollback",), PLAIN),
    ("plain net, - rollback - clipping", CALM, ("rollback",), {**PLAIN, **UNCLIPPED}),
)


class Bench:
    """Runs cases in folders of their own and counts the failed promises."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps, self.ran, self.broken = folder, steps, 0, 0
        self.markets: dict[int, Market] = {}

    def run(self, case: Case, more: dict[str, Any] | None = None, rows: int | None = None) -> CaseResult:
        rows = rows or case.batch * self.steps
        market = self.markets.setdefault(rows, dirty_market(rows))
        self.ran += 1
        return run_case(self.folder / str(self.ran), market, case.settings() | (more or {}))

    def grid(self) -> None:
        """36 configurations; every one has to hold."""
        print(f"\n{self.steps} steps on rows of which {BAD_ROWS:.2%} are not finite; a column reaches 1e14.\n")
        print("| network | precision | batch | rate | NaN losses | rollbacks | NaN predictions | loss | captured |")
        print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
        found = {case: self.run(case) for case in GRID}
        for case, out in found.items():
            held = not (out.nan_losses or out.nonfinite_predictions) and out.falling
            self.broken += not held
            name = f"{case.net} ({PARAMETERS[case.net]:,})"
            print(
                f"| {name} | {case.precision} | {case.batch} | {case.rate:g} | {out.nan_losses} | {out.rollbacks}"
                f" | {out.nonfinite_predictions} | {out.constant:.5f} -> {out.loss:.5f}{'' if held else ' BROKEN'}"
                f" | {out.captured:.1%} |"
            )
        least = min(out.captured or 0 for out in found.values())
        print(f"\n{sum(out.falling for out in found.values())} of {len(found)} get better than the constant.")
        print(
            f"{sum(out.nan_losses for out in found.values())} NaN losses,"
            f" {sum(out.rollbacks for out in found.values())} rollbacks; least captured {least:.1%}."
        )

    def ablation(self) -> None:
        """Each protection off, on the residual net: calm (fp32) and hot (fp16, ten times the rate)."""
        print("\n| protections | fp32, rate 2e-3: NaN losses / captured | fp16, rate 2e-2 |\n|---|---:|---:|")
        for name, off, more in ABLATION:
            with without(*off):
                calm, hot = (self.run(case, more) for case in (CALM, HOT))
            print(f"| {name} | {reported(calm)} | {reported(hot)} |")

    def shocks(self) -> None:
        """20 steps whose inputs are a million times too large, behind the guard."""
        print("\n| 20 steps x 1e6 behind the guard | NaN losses / captured | rollbacks |\n|---|---:|---:|")
        for name, case, off, more in SHOCKS:
            with without(*off), shock(self.steps // 2, 20):
                out = self.run(case, more)
            print(f"| {name} | {reported(out)} | {out.rollbacks} |")

    def rates(self) -> None:
        """Learning rates a thousand and ten thousand times 2e-4."""
        print("\n| rate | network | NaN losses / captured | rollbacks | without rollback |\n|---|---|---:|---:|---:|")
        nets: Iterable[tuple[str, Case, dict[str, Any]]] = (
            ("residual (1,329)", CALM, {}),
            ("residual (178,785)", CALM, LARGE),
            ("ambitious (180,117)", Case("ambitious", "fp32", BATCH, 0), {}),
        )
        for rate in (0.2, 2.0):
            for name, case, more in nets:
                out = self.run(case._replace(rate=rate), more)
                with without("rollback"):
                    alone = self.run(case._replace(rate=rate), more)
                print(f"| {rate} | {name} | {reported(out)} | {out.rollbacks} | {reported(alone)} |")

    def epoch(self) -> None:
        """The ambitious net with the settings of its preset, one epoch of the published number of rows."""
        print("\n| ambitious, one epoch | steps | NaN losses | rollbacks | captured | CPU s |\n|---|" + 5 * "---:|")
        preset = {"training.warmup_steps": 1000, "training.clipping": "adaptive"}
        for precision in ("fp32", "bf16", "fp16"):
            begin = time.process_time()
            out = self.run(Case("ambitious", precision, BATCH, 2e-4), preset, FULL_EPOCH)
            self.broken += bool(out.nan_losses or out.nonfinite_predictions) or not out.falling
            seconds = time.process_time() - begin
            print(
                f"| {precision} | {out.steps:,} | {out.nan_losses} | {out.rollbacks} | {out.captured:.1%}"
                f" | {seconds:.0f} |"
            )


def reported(out: CaseResult) -> str:
    return f"{out.nan_share:.1%} / {'no model' if out.captured is None else f'{out.captured:.1%}'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="steps of each configuration")
    parser.add_argument("--epoch", action="store_true", help="also one full epoch of the ambitious net")
    parser.add_argument("--only", choices=("grid", "ablation", "shocks", "rates", "epoch"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("vpoc_ml").setLevel(logging.ERROR)
    parts = [options.only] if options.only else ["grid", "ablation", "shocks", "rates"]
    parts += ["epoch"] if options.epoch and not options.only else []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.steps)
        for part in parts:
            getattr(bench, part)()
    return 1 if bench.broken else 0


if __name__ == "__main__":
    sys.exit(main())
