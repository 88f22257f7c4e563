"""The published training job (5 features, 299 parameters, batch 16) in each engine, beside a usual loop.

    python benchmarks/bench_training.py            # under a minute
    python benchmarks/bench_training.py --presets  # the engines of each shipped preset instead

CPU time of one thread in many short rounds that take turns, so a busy machine slows all rows alike. Quote the ratios
to the first row, which are medians over the rounds: the absolute numbers belong to the machine. The published 92.5 s
an epoch were taken on two GPUs: different hardware, shown for scale only.
"""

from __future__ import annotations

import argparse
import copy
import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.config import resolve
from vpoc_ml.models.build import build_model
from vpoc_ml.models.mlp import ReferenceMLP
from vpoc_ml.training.engines import eager
from vpoc_ml.training.engines.eager import Engine
from vpoc_ml.training.engines.fused import FusedEngine
from vpoc_ml.training.engines.program import fused_obstacle
from vpoc_ml.training.loop.adamw_step import BETA1, BETA2, RECORD, StepResult
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.schedule import LearningRateSchedule, StepSchedule

FEATURES, BATCH, EPOCH_STEPS, PUBLISHED = 5, 16, 57_140, 92.5
GATES = {"eager": 2.0, "fused": 100.0}
MOST_GUARDS, DRAWS = 20.0, 2000
PRESETS = ("top5", "conservative", "medium", "ambitious", "nightly", "ensemble")
PRESET_STEPS = 40
NOTHING = torch.zeros(RECORD, 1)
CONFIG = resolve("top5")
SETTINGS = CONFIG.training


@dataclass
class Case:
    """One way to take steps: ``run(n)`` takes n of them; its first call cost ``build``, a step in each round ``times``.

    All are CPU seconds.
    """

    name: str
    run: Callable[[int], None]
    steps: int
    build: float = 0.0
    times: list[float] = field(default_factory=list)


def data(rows: int = 20_000 * BATCH) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(rows, FEATURES, generator=generator)
    return inputs, torch.rand(rows, generator=generator), torch.ones(rows)


def network() -> ReferenceMLP:
    torch.manual_seed(2)
    return ReferenceMLP(FEATURES, CONFIG.model.hidden_dims, CONFIG.model.dropout).train()


def usual_loop() -> Callable[[int], None]:
    """DataLoader, module, AdamW parameter by parameter, a look at the loss on the host in every step."""
    net, (inputs, target, _) = network(), data()
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay, foreach=False
    )
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / SETTINGS.warmup_steps))
    loader = DataLoader(TensorDataset(inputs, target), batch_size=BATCH, shuffle=True)
    batches = iter(loader)

    def run(count: int) -> None:
        nonlocal batches
        total = 0.0
        for _ in range(count):
            try:
                x, y = next(batches)
            except StopIteration:
                batches = iter(loader)
                x, y = next(batches)
            optimizer.zero_grad()
            loss = F.huber_loss(net(x), y, delta=SETTINGS.huber_delta)
            if torch.isnan(loss).item() or torch.isinf(loss).item():
                continue
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), SETTINGS.gradient_clip)
            optimizer.step()
            warmup.step()
            total += loss.item()

    return run


def engine_loop(kind: type[Engine], chunk: int = 500) -> Callable[[int], None]:
    """An engine as the trainer drives it: windows of steps, the monitor's read after each."""
    taken, settings = kind(network(), SETTINGS.model_copy(update={"ema_decay": 0.99}), Objective.of(SETTINGS)), SETTINGS
    schedule, rows = LearningRateSchedule.of(settings, EPOCH_STEPS * settings.epochs), data()

    def run(count: int) -> None:
        for start in range(0, count, chunk):
            step_schedule = StepSchedule.of(schedule, settings.seed, start, min(chunk, count - start), BATCH)
            taken.steps(rows, start, step_schedule)
            taken.read_windows()

    return run


def bare(rows, step_state, batch, rates, members, constants, config, out=(None,) * 4):
    """The update with nothing but clipping and AdamW: no look at what is finite, no record, no average."""
    theta, mean, square, average = rows
    gradient = batch.gradient / (members.norm(batch.gradient) / config.gradient_clip).clamp_min(1.0)
    step_state = step_state + constants.tick
    c1, c2 = (1 - constants.betas ** step_state[0]).to(theta).unbind()
    new_mean = torch.lerp(mean, gradient, 1 - BETA1, out=out[1])
    new_square = torch.addcmul(square * constants.beta2, gradient, gradient, value=1 - BETA2, out=out[2])
    move = new_mean / (new_square / c2).sqrt_().add_(constants.epsilon) * (rates.rate / c1)
    decay = constants.decayed * rates.rate
    new_theta = torch.addcmul(theta - move, theta, decay, value=-config.weight_decay, out=out[0])
    return StepResult((new_theta, new_mean, new_square, average), step_state, NOTHING[0] == 0, NOTHING)


@contextmanager
def without_guards():
    """Steps as a trainer without protection takes them, in the eager engine."""
    guarded, eager.adamw_step = eager.adamw_step, bare
    try:
        yield
    finally:
        eager.adamw_step = guarded


def bare_loop() -> Callable[[int], None]:
    rows = data()
    engine = Engine(network(), SETTINGS, Objective.of(SETTINGS), select=False)
    schedule = LearningRateSchedule.of(SETTINGS, EPOCH_STEPS * SETTINGS.epochs)

    def run(count: int) -> None:
        with without_guards():
            for start in range(0, count, 500):
                engine.steps(
                    rows, start, StepSchedule.of(schedule, SETTINGS.seed, start, min(500, count - start), BATCH)
                )
                engine.steps_taken = 0

    return run


def measure(cases: list[Case], rounds: int) -> None:
    """Let the cases take turns; a round starts with another case than the one before, so none has a favoured place."""
    for case in cases:
        begin = time.process_time()
        case.run(16)
        case.build = time.process_time() - begin
    for at in range(rounds):
        for case in cases[at % len(cases) :] + cases[: at % len(cases)]:
            begin = time.process_time()
            case.run(case.steps)
            case.times.append((time.process_time() - begin) / case.steps)


def paired(above: Case, below: Case) -> tuple[float, float, float]:
    """Return the median over the rounds of one case's time over another's, and the ends of its 95 % interval.

    A neighbour slows both cases of a round alike, so their ratio holds still where their times do not. The interval
    is what medians of rounds drawn again (with replacement) say; it covers one process, not what differs between two.
    """
    ratios = np.array(above.times) / np.array(below.times)
    drawn = np.random.default_rng(1).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def show(cases: list[Case]) -> None:
    print(
        "| steps taken by | us a step | epoch s | rows/s | x the usual loop | 95 % | at least | x published* |"
        " first call s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for case in cases:
        step = statistics.median(case.times)
        epoch, (ratio, low, high), gate = step * EPOCH_STEPS, paired(cases[0], case), GATES.get(case.name)
        wanted = "" if gate is None else f"{gate:g} {'met' if low >= gate else 'MISSED'}"
        print(
            f"| {case.name} | {step * 1e6:,.1f} | {epoch:.2f} | {BATCH / step:,.0f} | {ratio:.2f} |"
            f" {low:.2f} to {high:.2f} | {wanted} | {PUBLISHED / epoch:.1f} | {case.build:.1f} |"
        )
    found = {case.name: case for case in cases}
    share, low, high = (100 * (ratio - 1) for ratio in paired(found["eager"], found["eager, no guards"]))
    verdict = "met" if high <= MOST_GUARDS else "MISSED"
    print(
        f"\nGuards, averages and monitor cost the eager engine {share:+.1f} %"
        f" (95 %: {low:+.1f} to {high:+.1f}; at most {MOST_GUARDS:g}: {verdict})."
    )
    print("\n* 92.5 s an epoch on two GPUs, as published: different hardware.")


def preset_cases(name: str) -> list[Case]:
    """Return the engines that can train a preset's network on 54 features (``top5``: 5) at its own batch size."""
    config, count = resolve(name), 5 if name == "top5" else 54
    # Each group of an ensemble has a quarter of the features, and a quarter is in all groups
    groups = {
        name: [f for f in range(count) if f % 4 in (number, 3)] for number, name in enumerate(config.model.groups)
    }
    inputs = NetworkInputs(
        features=tuple(f"f{number}" for number in range(count)),
        median=(0.0,) * count,
        scale=(1.0,) * count,
        groups=groups or None,
    )
    settings, objective = config.training, Objective.of(config.training)
    generator = torch.Generator().manual_seed(1)
    size = settings.batch_size * PRESET_STEPS
    rows = torch.randn(size, count, generator=generator), torch.rand(size, generator=generator), torch.ones(size)
    net = build_model(config.model, inputs).body.train()
    kinds = [Engine] if fused_obstacle(net, settings, objective) else [Engine, FusedEngine]
    return [preset_case(kind(copy.deepcopy(net), settings, objective), rows) for kind in kinds]


def preset_case(engine: Engine, rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> Case:
    def run(count: int) -> None:
        count = min(count, PRESET_STEPS)
        engine.steps(rows, 0, StepSchedule(engine.config.batch_size, [1e-4] * count, [0.9] * count, list(range(count))))
        engine.steps_taken = 0

    return Case(engine.name, run, PRESET_STEPS)


def show_presets(rounds: int) -> None:
    print("| preset | batch | eager us a step | fused us a step | fused over eager | 95 % |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in PRESETS:
        cases = preset_cases(name)
        measure(cases, rounds)
        config = resolve(name)
        eager_case, *fused = cases
        columns = [f"{1e6 * statistics.median(eager_case.times):,.0f}"]
        if fused:
            ratio, low, high = paired(eager_case, fused[0])
            columns += [f"{1e6 * statistics.median(fused[0].times):,.0f}", f"{ratio:.1f}", f"{low:.1f} to {high:.1f}"]
        else:
            columns += ["none", "", ""]
        print(f"| {name} | {config.training.batch_size} | {' | '.join(columns)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", action="store_true", help="measure the engines of each shipped preset instead")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.presets:
        show_presets(min(options.rounds, 20))
        return
    cases = [
        Case("the usual loop", usual_loop(), 50),
        Case("eager", engine_loop(Engine), 100),
        Case("eager, no guards", bare_loop(), 100),
        Case("fused", engine_loop(FusedEngine), 2_000),
    ]
    measure(cases, options.rounds)
    show(cases)


if __name__ == "__main__":
    main()
