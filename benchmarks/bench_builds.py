"""What the compiled engine takes to be built for a network, and saves in a step: the data behind engine "auto".

    python benchmarks/bench_builds.py         # three networks, about three minutes
    python benchmarks/bench_builds.py --full  # all of them, about twenty

Every network is built in a process of its own with an empty compiler cache. CPU seconds of the process and the
compilers it starts; steps are the least of short rounds that take turns.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
STEPS, ROUNDS = 8, 8
GROUPS = ("price", "volume", "volatility")
# Name: preset, features, overrides
NETWORKS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "top5": ("top5", 5, {}),
    "top5, 3 members": ("top5", 5, {"model.members": 3}),
    "nightly": ("nightly", 54, {}),
    "top5, 8 members": ("top5", 5, {"model.members": 8}),
    "nightly, 3 members": ("nightly", 54, {"model.members": 3}),
    "nightly, 64 wide, 4 blocks": ("nightly", 54, {"model.hidden_dims": (64, 64, 64, 64)}),
    "conservative": ("conservative", 54, {}),
    "medium": ("medium", 54, {}),
    "ambitious": ("ambitious", 10, {}),
    "ambitious, 3 members": ("ambitious", 10, {"model.members": 3}),
    "mlp_batchnorm": ("nightly", 54, {"model.kind": "mlp_batchnorm"}),
    "attention, batch 64": ("nightly", 54, {"model.kind": "attention", "training.batch_size": 64}),
    "ensemble": ("ensemble", 54, {}),
}
QUICK = 3


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def build(name: str) -> dict[str, Any]:
    """Build one network's steps and time some, in this process."""
    import torch

    from vpoc_ml.artifacts.feature_statistics import NetworkInputs
    from vpoc_ml.config import resolve
    from vpoc_ml.models.build import build_model
    from vpoc_ml.training.engines.compiled import CompiledEngine
    from vpoc_ml.training.engines.eager import Engine
    from vpoc_ml.training.loop.objective import Objective
    from vpoc_ml.training.loop.schedule import StepSchedule

    torch.set_num_threads(1)
    preset, features, overrides = NETWORKS[name]
    config = resolve(preset, overrides)
    statistics = NetworkInputs(
        features=tuple(f"f{number}" for number in range(features)),
        median=(0.0,) * features,
        scale=(1.0,) * features,
        # a quarter of the features each, and a quarter in all
        groups={g: [f for f in range(features) if f % 4 in (k, 3)] for k, g in enumerate(GROUPS)}
        if config.model.groups
        else None,
    )
    net, settings = build_model(config.model, statistics).body.train(), config.training
    rows = settings.batch_size * STEPS
    data = torch.randn(rows, features), torch.rand(rows), torch.ones(rows)
    step_schedule = StepSchedule(settings.batch_size, [1e-3] * STEPS, [0.9] * STEPS, list(range(STEPS)))
    eager = Engine(copy.deepcopy(net), settings, Objective.of(settings))
    begin, begin_cpu = time.monotonic(), cpu_seconds()
    compiled = CompiledEngine(copy.deepcopy(net), settings, Objective.of(settings))
    compiled.steps(data, 0, step_schedule)
    found = {"wall": time.monotonic() - begin, "cpu": cpu_seconds() - begin_cpu}
    times: dict[str, list[float]] = {"eager": [], "compiled": []}
    for _ in range(ROUNDS):
        for engine in (eager, compiled):
            begin = time.process_time()
            engine.steps(data, 0, step_schedule)
            times[engine.name].append((time.process_time() - begin) / STEPS)
            engine.steps_taken = 0
    parameters = list(net.parameters())
    counts = {"tensors": len(parameters), "parameters": sum(each.numel() for each in parameters)}
    return found | counts | {engine: min(taken) for engine, taken in times.items()}


def in_new_process(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | THREADS | {"TORCHINDUCTOR_CACHE_DIR": cache}
        command = [sys.executable, __file__, "--one", name]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all networks, not three")
    parser.add_argument("--one", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(build(options.one)))
        return
    from vpoc_ml.training.engines.select import BUILD_SECONDS, SAVED_SECONDS

    print("| network | tensors | parameters | built in CPU s | rule | saved ms a step | rule | pays after steps |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in list(NETWORKS)[: None if options.full else QUICK]:
        found = in_new_process(name)
        tensors, saved = found["tensors"], found["eager"] - found["compiled"]
        print(
            f"| {name} | {tensors} | {found['parameters']:,} | {found['cpu']:.0f} | {BUILD_SECONDS * tensors:.0f}"
            f" | {1e3 * saved:.2f} | {1e3 * SAVED_SECONDS * tensors:.2f} | {found['cpu'] / saved:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
