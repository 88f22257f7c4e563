"""All checks that need a GPU, as one script: ``python -m vpoc_ml.training.hardware.gpu_check OUT.json``.

The same checks run under ``pytest -m gpu``. Exit code 0: all pass; 1: one fails; 2: there is no GPU.
Times are recorded only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vpoc_ml.config import TrainingConfig
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.training.engines.eager import THETA, Engine
from vpoc_ml.training.hardware.device import smoke_test
from vpoc_ml.training.hardware.known_issues import find_known_issues
from vpoc_ml.training.hardware.probe import probe_hardware
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.schedule import StepSchedule

FEATURES, WIDTHS, BATCH, STEPS = 54, (32, 32), 256, 20
CLOSE = 0.02
HOST_READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")
Columns = tuple[Tensor, Tensor, Tensor]
Facts = dict[str, Any]


class CheckFailed(Exception):
    """A check failed; the message states what was expected and what was found."""


def run_checks(device: torch.device) -> Facts:
    """Run every check on ``device`` and return the report, JSON-ready; ``ok`` is false when one fails."""
    hardware = probe_hardware()
    report: Facts = {
        "device": str(device),
        "hardware": hardware.summary().to_json(),
        "known_issues": [str(each) for each in find_known_issues(hardware)],
    }
    report["checks"] = {}
    for name, check in CHECKS.items():
        begun = time.perf_counter()
        try:
            facts: Facts = {"ok": True, **check(device)}
        except (CheckFailed, RuntimeError) as error:
            facts = {"ok": False, "error": str(error).splitlines()[0]}
        report["checks"][name] = {**facts, "seconds": round(time.perf_counter() - begun, 3)}
    report["ok"] = all(result["ok"] for result in report["checks"].values())
    return report


def smoke(device: torch.device) -> Facts:
    """Products in float32 and bfloat16 and one training step agree with the CPU, for two seconds."""
    result = smoke_test(device)
    _expect(result.error is None, str(result.error))
    return result.summary()


def agrees_with_cpu(device: torch.device) -> Facts:
    """Without dropout, some steps on the GPU lead to the weights that the CPU reaches."""
    config = _config()
    start = _engine(torch.device("cpu"), config).state[THETA].clone()
    here, there = (_trained(each, config).state[THETA].cpu() for each in (torch.device("cpu"), device))
    apart = float((there - here).norm() / (here - start).norm())
    _expect(
        apart <= CLOSE, f"expected weights within {CLOSE} of the distance that they moved; they are {apart:.3g} apart"
    )
    return {"apart": apart}


def repeats(device: torch.device) -> Facts:
    """With dropout, the same seed gives the same bits twice on the same GPU; a snapshot restores them."""
    config = _config()
    first, second = _trained(device, config, dropout=0.2), _trained(device, config, dropout=0.2)
    _expect(torch.equal(first.state, second.state), "expected the same bits from the same seed; they differ")
    kept = first.snapshot()
    first.steps(_rows(device), 0, _plan())
    after = first.state.clone()
    first.restore(kept)
    first.steps_taken = 0
    first.steps(_rows(device), 0, _plan())
    _expect(torch.equal(first.state, after), "expected the same bits after restoring a snapshot; they differ")
    return {}


def no_host_read(device: torch.device) -> Facts:
    """The host does not wait for the GPU within steps: no value is read, nothing is copied back."""
    inputs, target, weight = _rows(device)
    operations = 0
    for config in (_config(), _config(loss="adaptive_huber", clipping="adaptive", gradient_noise=1e-6)):
        engine = _engine(device, config, dropout=0.1)
        engine.steps((inputs, target, weight), 0, _plan(2))  # libraries load, the allocator fills
        with forbidden_synchronisation(device), NoHostRead() as reads:
            engine.steps((inputs, target, weight), 2, _plan(STEPS - 2))
        operations = reads.operations // (STEPS - 2)
        _expect(inputs.device.type == device.type, "expected the rows on the device")
    return {"operations_per_step": operations}


def bad_batch_changes_nothing(device: torch.device) -> Facts:
    """A batch of NaN leaves weights and moments bit for bit as they were."""
    engine = _trained(device, _config())
    before = engine.state.clone()
    inputs, target, weight = _rows(device)
    engine.step(inputs[:BATCH] * float("nan"), target[:BATCH], weight[:BATCH], rate=1e-3, decay=0.9, seed=1)
    _expect(torch.equal(engine.state, before), "expected an unchanged state after a batch of NaN; it changed")
    window = engine.read_window()
    _expect(window.accepted == window.steps - 1, f"expected one skipped step; {window.steps - window.accepted} were")
    return {}


def half_precision_learns(device: torch.device) -> Facts:
    """With bf16 and fp16 the loss is within a tenth of that in float32 after the same steps."""
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        engine = _engine(device, _config(precision=precision))
        for _ in range(10):
            engine.steps(_rows(device), 0, _plan())
            losses[precision] = engine.read_window().loss
    for precision in ("bf16", "fp16"):
        apart = abs(losses[precision] / losses["fp32"] - 1)
        _expect(apart < 0.1, f"expected {precision} to learn as float32 does; losses are {losses}")
    return losses


def times(device: torch.device) -> Facts:
    """Microseconds per step by batch size, and peak memory; recorded only."""
    found: Facts = {}
    inputs, target, weight = _rows(device)
    for batch in (16, 1024, 16_384):
        which = torch.arange(3 * batch, device=device) % len(inputs)
        rows, step_schedule = (inputs[which], target[which], weight[which]), _plan(3)._replace(batch=batch)
        engine = _engine(device, _config(batch_size=batch))
        engine.steps(rows, 0, step_schedule)
        _wait(device)
        begun = time.perf_counter()
        engine.steps(rows, 0, step_schedule)
        _wait(device)
        found[f"microseconds_at_{batch}"] = round((time.perf_counter() - begun) / 3 * 1e6, 1)
    if device.type == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


class NoHostRead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations and rejects those whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if str(func).removeprefix("aten.").partition(".")[0] in HOST_READS:
            raise CheckFailed(f"expected no host read in a step; {func} is one")
        return func(*args, **(kwargs or {}))


@contextmanager
def forbidden_synchronisation(device: torch.device) -> Iterator[None]:
    """Make torch raise on every synchronising call on a GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise)


def _config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"batch_size": BATCH, "monitor_steps": 4 * STEPS, **changes})


def _engine(device: torch.device, config: TrainingConfig, dropout: float = 0.0) -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = ResidualNet(FEATURES, WIDTHS, dropout)
    return Engine(net.to(device).train(), config, Objective.of(config))


def _trained(device: torch.device, config: TrainingConfig, dropout: float = 0.0) -> Engine:
    engine = _engine(device, config, dropout)
    engine.steps(_rows(device), 0, _plan())
    return engine


def _rows(device: torch.device) -> Columns:
    """Return rows with something to learn: inputs [n, features], target [n] in rank units, weight [n]."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(BATCH * STEPS, FEATURES, generator=generator)
    noise = torch.rand(len(inputs), generator=generator)
    target = (torch.sigmoid(inputs[:, 0]) + noise) / 2
    return inputs.to(device), target.to(device), torch.ones(len(inputs), device=device)


def _plan(steps: int = STEPS) -> StepSchedule:
    return StepSchedule(BATCH, [2e-3] * steps, [0.9] * steps, list(range(steps)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


CHECKS: dict[str, Callable[[torch.device], Facts]] = {
    check.__name__: check
    for check in (
        smoke,
        agrees_with_cpu,
        repeats,
        no_host_read,
        bad_batch_changes_nothing,
        half_precision_learns,
        times,
    )
}


def main(arguments: list[str]) -> int:
    """Run the checks on the first GPU; write the report to the named file, or to stdout."""
    if not torch.cuda.is_available():
        sys.stderr.write(
            f"Expected a GPU that torch can use; torch {torch.__version__} finds none. Run vpoc-ml doctor.\n"
        )
        return 2
    report = run_checks(torch.device("cuda", 0))
    if arguments:
        write_json(Path(arguments[0]), report)
    else:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
