"""Which device trains, and why."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from vpoc_ml.config import TrainingConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.training.engine import Engine

SMOKE_SECONDS = 2.0


class DeviceChoice(NamedTuple):
    """A device and the reason it was chosen."""

    device: torch.device
    reason: str


def choose_device(config: TrainingConfig) -> DeviceChoice:
    """Return the device for training; ROCm cards are ``cuda`` to torch.

    Raises:
        InvalidValueError: ``cuda`` is asked for and does not work.
    """
    cpu = torch.device("cpu")
    if config.device == "cpu":
        return DeviceChoice(cpu, "training.device is cpu")
    if not torch.cuda.is_available():
        trouble: str | None = f"torch {torch.__version__} sees no GPU"
    else:
        trouble = smoke_test(torch.device("cuda", 0))
    if trouble is None:
        return DeviceChoice(torch.device("cuda", 0), f"{torch.cuda.get_device_name(0)} passed the smoke test")
    if config.device == "cuda":
        raise InvalidValueError("training.device", "cuda", f"cpu or auto: {trouble}")
    return DeviceChoice(cpu, trouble)


def smoke_test(device: torch.device) -> str | None:
    """Return what is wrong with a GPU, or None: a product and one training step must agree with the CPU.

    Repeats for about two seconds. Cards that compute wrong numbers, or fault on the second kernel, exist.
    """
    started = time.monotonic()
    try:
        while time.monotonic() - started < SMOKE_SECONDS:
            generator = torch.Generator().manual_seed(1)
            left, right = torch.randn(2, 256, 256, generator=generator).unbind()
            product = (left.to(device) @ right.to(device)).cpu()
            if not torch.allclose(product, left @ right, rtol=1e-3, atol=1e-3):
                return f"{device}: a float32 product differs from the CPU's"
            if not torch.allclose(_one_step(device), _one_step(torch.device("cpu")), rtol=1e-3, atol=1e-4):
                return f"{device}: one training step differs from the CPU's"
    except RuntimeError as error:
        return f"{device}: {error}"
    return None


def _one_step(device: torch.device) -> torch.Tensor:
    """Return the weights of a small net after one step of data from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = ResidualNet(8, (16,), 0.0)
        inputs, target = torch.randn(64, 8), torch.rand(64)
    engine = Engine(net.to(device), TrainingConfig())
    ones = torch.ones(64, device=device)
    engine.step(inputs.to(device), target.to(device), ones, rate=1e-3, decay=0.0, seed=3)
    return engine.state[0].cpu()
