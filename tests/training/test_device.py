"""Which device is chosen, why, and what is said when none can be."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
import torch

from vpoc_ml.config import MachineConfig
from vpoc_ml.config.overrides import read_config
from vpoc_ml.errors import DeviceError, GpuBusyError
from vpoc_ml.training.hardware.device import (
    CONTEXT_BYTES,
    NIGHTLY,
    WORKER_VARIABLE,
    DeviceChoice,
    Smoke,
    choose_device,
    memory_needed,
    smoke_test,
)
from vpoc_ml.training.hardware.probe import GIB, DrmGpu, Gpu, Hardware
from vpoc_ml.training.launch import job
from vpoc_ml.training.launch.job import fallback_configs, train_run
from vpoc_ml.training.launch.run_inputs import hash_inputs, resume_key, training_fingerprint
from vpoc_ml.training.loop.checkpoint import read_checkpoint, write_checkpoint

from .simulated_hardware import hopper, radeon

AUTO, STRICT = MachineConfig(), MachineConfig(allow_cpu=False)


def passing(device, probe):
    return Smoke(str(device), 3, 0.1, 0.0, 0.0, 0.0, None)


def failing(device, probe):
    return replace(passing(device, probe), error=f"{device}: a float32 product differs from the CPU's")


def choose(config=AUTO, hardware=None, smoke=passing, **more):
    return choose_device(config, hardware=hardware or radeon(), smoke=smoke, **more)


@pytest.mark.parametrize("requested", ["auto", "cuda", "rocm"])
def test_gpu_that_works_is_taken_and_recorded(requested):
    choice = choose(MachineConfig(device=requested))
    assert choice.device == torch.device("cuda", 0)
    assert choice.reason == "AMD Radeon RX 7900 XT (gfx1100) passed the smoke test"
    assert choice.report["hardware"]["hip"] == "7.2.26015"
    assert choice.report["hardware"]["blas"] == "hipblas"
    assert choice.report["smoke"]["rounds"] == 3
    assert choice.report["known_issues"] == []


def test_cpu_is_taken_when_requested_without_a_look_at_gpus():
    choice = choose_device(MachineConfig(device="cpu"), smoke=failing)
    assert (choice.device.type, choice.reason, choice.report) == ("cpu", "machine.device is cpu", {})


@pytest.mark.parametrize(
    ("hardware", "smoke", "reason"),
    [
        (Hardware(error="torch 2.13.0+cpu sees no GPU"), passing, "sees no GPU"),
        (radeon(), failing, "float32 product"),
        (replace(radeon(), archs=("gfx90a",)), passing, "no code for gfx1100"),
        (radeon(drm=(DrmGpu("card0", "0x1002", 6 * GIB, 20 * GIB),)), passing, "6.0 GiB are in use, the limit is 1"),
    ],
)
def test_auto_falls_back_to_the_cpu_and_says_why_unless_that_is_forbidden(hardware, smoke, reason):
    choice = choose(AUTO, hardware, smoke)
    assert choice.device.type == "cpu"
    assert reason in choice.reason
    for strict in (STRICT, MachineConfig(device="cuda"), MachineConfig(device="cuda", allow_cpu=False)):
        with pytest.raises((DeviceError, GpuBusyError), match=reason):
            choose(strict, hardware, smoke)


def test_rocm_is_not_satisfied_by_an_nvidia_gpu():
    with pytest.raises(DeviceError, match=r"built for cuda, not for ROCm.*vpoc-ml doctor"):
        choose(MachineConfig(device="rocm"), hopper())


def test_forbidden_cpu_that_is_requested_is_a_contradiction():
    with pytest.raises(DeviceError, match=r"machine\.allow_cpu is false"):
        choose(MachineConfig(device="cpu", allow_cpu=False))


def test_busy_gpu_is_a_fault_of_the_machine_with_a_remedy():
    left = radeon(drm=(DrmGpu("card0", "0x1002", int(6.1 * GIB), 20 * GIB),))
    with pytest.raises(GpuBusyError, match=r"GPU 0 .*6\.1 GiB are in use, the limit is 1 GiB .*restart"):
        choose(STRICT, left)
    assert choose(MachineConfig(allow_cpu=False, vram_limit_gib=8), left).device.type == "cuda"
    assert choose(MachineConfig(allow_cpu=False, vram_limit_gib=0), left).device.type == "cuda", "0: not looked at"


def test_cpu_that_stands_in_for_a_busy_gpu_says_so():
    left = radeon(drm=(DrmGpu("card0", "0x1002", 6 * GIB, 20 * GIB),))
    assert isinstance(choose(AUTO, left).busy, GpuBusyError)
    assert choose(AUTO, radeon(), failing).busy is None, "a GPU that computes wrongly is not waited for"
    assert choose(AUTO).busy is None


def test_room_that_others_take_is_a_busy_gpu_and_room_that_is_not_there_is_not():
    held = replace(hopper(), gpus=(Gpu(0, "NVIDIA H100", "sm_90", 80 * GIB, 2 * GIB),))
    with pytest.raises(GpuBusyError, match="77"):
        choose(STRICT, held, needed=4 * GIB)
    with pytest.raises(DeviceError, match=r"the run needs 90\.0 GiB"):
        choose(STRICT, held, needed=90 * GIB)
    unasked = MachineConfig(allow_cpu=False, vram_limit_gib=0)
    with pytest.raises(DeviceError, match=r"2\.0 GiB free and the run needs 4\.0 GiB"):
        choose(unasked, held, needed=4 * GIB)


def test_run_that_was_begun_on_the_gpu_waits_for_a_gpu_that_is_busy(tiny, make_run, monkeypatch):
    """The CPU would begin anew: checkpoints of the GPU are of no use to it."""
    short = {"machine__device": "auto", "training__epochs": 1, "training__batch_size": 256}
    run = make_run(tiny, **short, model__hidden_dims=(8,))
    waiting = DeviceChoice(torch.device("cpu"), "the GPU is busy", busy=GpuBusyError(0, 6 * GIB, 1.0))
    monkeypatch.setattr(job, "choose_device", lambda *rest, **more: waiting)
    assert train_run(run).device == "cpu", "not begun yet: the CPU does"
    stored = read_checkpoint(max((run / "checkpoints").iterdir()))
    config = read_config(run)
    for each in fallback_configs(config)[:2]:
        on_gpu = replace(stored, resume_key=resume_key(training_fingerprint(hash_inputs(run), each), each, "cuda"))
        path = write_checkpoint(run / "checkpoints", on_gpu)
        make_run(tiny, **short, model__hidden_dims=(8,), machine__checkpoint_seconds=7)
        with pytest.raises(GpuBusyError, match="GPU 0"):
            train_run(run)
        assert read_checkpoint(path).resume_key == on_gpu.resume_key, "the GPU goes on with it"
    requested = replace(waiting, busy=None)
    monkeypatch.setattr(job, "choose_device", lambda *rest, **more: requested)
    assert train_run(run).resumed_from_step == 0


def test_without_the_kernels_count_torchs_own_is_used_less_its_context():
    held = replace(hopper(), gpus=(Gpu(0, "NVIDIA H100", "sm_90", 80 * GIB, 70 * GIB),))
    with pytest.raises(GpuBusyError, match=r"9\.5 GiB"):
        choose(STRICT, held)


def test_gpu_too_small_for_the_run_is_refused(tmp_path):
    rows = pl.DataFrame({"y": pl.zeros(1000, pl.Float32, eager=True)})
    rows.write_parquet(tmp_path / "training_set.parquet")
    assert memory_needed(tmp_path / "training_set.parquet", 54) == CONTEXT_BYTES + 4 * 4 * 1000 * 56
    assert memory_needed(tmp_path / "absent.parquet", 54) == 0
    with pytest.raises(DeviceError, match=r"19\.5 GiB free and the run needs 30\.0 GiB"):
        choose(STRICT, needed=30 * GIB)


def test_each_worker_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv(WORKER_VARIABLE, "1")
    assert choose(STRICT, radeon(2)).device == torch.device("cuda", 1)
    assert choose(STRICT, radeon(1)).device == torch.device("cuda", 0)


def test_smoke_test_agrees_with_itself_on_the_cpu():
    result = smoke_test(torch.device("cpu"), NIGHTLY, seconds=0)
    assert (result.error, result.rounds, result.fp32, result.step) == (None, 1, 0.0, 0.0)
    assert result.bf16 < 1e-2
    assert result.summary()["device"] == "cpu"


@pytest.mark.parametrize(("dtype", "what"), [(torch.float32, "float32 product"), (torch.bfloat16, "bfloat16 product")])
def test_smoke_test_finds_a_gpu_that_multiplies_wrongly(dtype, what, monkeypatch):
    """The wrong GPU is the CPU, for tensors that were sent to a device."""
    keep, marked = [], set()
    move, multiply = torch.Tensor.to, torch.Tensor.__matmul__

    def to(self, *arguments, **options):
        moved = move(self, *arguments, **options).clone()
        marked.add(id(moved))
        keep.append(moved)
        return moved

    def matmul(self, other):
        product = multiply(self, other)
        return product * 1.05 if id(self) in marked and self.dtype == dtype else product

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "__matmul__", matmul)
    result = smoke_test(torch.device("cpu"), NIGHTLY, seconds=0)
    assert what in result.error


def test_smoke_test_finds_a_wrong_step_and_a_fault(monkeypatch):
    from vpoc_ml.training.hardware import device

    right = device.training_step
    calls = []

    def step(net, rows, device):
        calls.append(device)
        return right(net, rows, device) * (1.0 if len(calls) % 2 else 1.2)

    monkeypatch.setattr(device, "training_step", step)
    assert "one training step differs" in smoke_test(torch.device("cpu"), seconds=0).error

    def fault(*arguments):
        raise RuntimeError("HIP error: the operation cannot be performed\nmore lines")

    monkeypatch.setattr(device, "matrix_products", fault)
    assert smoke_test(torch.device("cpu"), seconds=0).error == "cpu: HIP error: the operation cannot be performed"


def test_smoke_test_leaves_the_random_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    smoke_test(torch.device("cpu"), seconds=0)
    assert torch.equal(torch.rand(3), expected)


def test_run_records_what_was_found_on_the_way(tiny, make_run):
    short = {"machine__device": "auto", "training__epochs": 1, "machine__engine": "eager"}
    run = make_run(tiny, **short, model__hidden_dims=(8,))
    train_run(run)
    described = json.loads((run / "training_config.json").read_text())
    assert described["device_report"]["hardware"]["torch"] == str(torch.__version__)
    assert isinstance(described["device_report"]["known_issues"], list)
    assert described["device_reason"]
