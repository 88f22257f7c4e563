"""The hardware probe, with a fake /sys and a fake torch."""

from __future__ import annotations

import os

import torch

from vpoc_ml.training.hardware.probe import GIB, probe_hardware

from .simulated_hardware import fake_torch, system


def test_rocm_machine_is_read_from_torch_and_the_kernel(tmp_path):
    root = system(tmp_path, gpus=2, used=3 * GIB)
    hardware = probe_hardware(
        fake_torch(gpus=2), {"HIP_VISIBLE_DEVICES": "0", "HOME": "/root", "AWS_SECRET": "x"}, root
    )
    assert (hardware.platform, hardware.hip, hardware.cuda) == ("rocm", "7.2.26015", None)
    assert [(gpu.name, gpu.arch, gpu.used) for gpu in hardware.gpus] == 2 * [("AMD Radeon RX 7900 XT", "gfx1100", GIB)]
    assert [(gpu.name, gpu.used, gpu.total) for gpu in hardware.amd] == [
        ("card0", 3 * GIB, 20 * GIB),
        ("card1", 3 * GIB, 20 * GIB),
    ]
    assert hardware.blas == "hipblas"
    assert hardware.driver == "6.16.6"
    assert hardware.access == {"/dev/kfd": True, "/dev/dri/renderD128": True}
    assert hardware.environment == {"HIP_VISIBLE_DEVICES": "0"}, "nothing else of the environment is kept"
    assert hardware.summary().gpus[0].arch == "gfx1100"


def test_a_device_node_without_permission_is_reported(tmp_path, monkeypatch):
    root = system(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: "kfd" not in str(path))
    assert probe_hardware(fake_torch(), {}, root).access == {"/dev/kfd": False, "/dev/dri/renderD128": True}


def test_cuda_build_names_its_architecture(tmp_path):
    hardware = probe_hardware(fake_torch(hip=None), {}, tmp_path)
    assert (hardware.platform, hardware.gpus[0].arch, hardware.blas) == ("cuda", "sm_110", "cublas")


def test_a_gpu_that_torch_cannot_open_is_reported_without_an_error(tmp_path):
    hardware = probe_hardware(fake_torch(broken="HIP error: invalid device function"), {}, system(tmp_path))
    assert hardware.gpus == ()
    assert "invalid device function" in hardware.error
    assert hardware.has_gpu


def test_this_machine_is_read_without_an_error():
    hardware = probe_hardware()
    assert hardware.torch == str(torch.__version__)
    assert len(hardware.gpus) == torch.cuda.device_count()
    assert hardware.error is None or not hardware.gpus


def test_a_machine_without_a_gpu_has_none(tmp_path):
    hardware = probe_hardware(fake_torch(gpus=0), {}, tmp_path)
    assert not hardware.has_gpu
    assert hardware.error == "torch 2.13.0+rocm7.2 sees no GPU"
