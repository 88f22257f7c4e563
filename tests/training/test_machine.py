"""The reading of a machine, from a fake /sys and a fake torch."""

from __future__ import annotations

import os

import torch

from vpoc_ml.training.hardware.probe import GIB, look

from .machines import fake_torch, system


def test_rocm_machine_is_read_from_torch_and_the_kernel(tmp_path):
    root = system(tmp_path, cards=2, used=3 * GIB)
    machine = look(fake_torch(cards=2), {"HIP_VISIBLE_DEVICES": "0", "HOME": "/root", "AWS_SECRET": "x"}, root)
    assert (machine.platform, machine.hip, machine.cuda) == ("rocm", "7.2.26015", None)
    assert [(card.name, card.arch, card.used) for card in machine.cards] == 2 * [
        ("AMD Radeon RX 7900 XT", "gfx1100", GIB)
    ]
    assert [(card.name, card.used, card.total) for card in machine.amd] == [
        ("card0", 3 * GIB, 20 * GIB),
        ("card1", 3 * GIB, 20 * GIB),
    ]
    assert machine.blas == "hipblas"
    assert machine.driver == "6.16.6"
    assert "iommu=pt" in machine.kernel_options
    assert machine.access == {"/dev/kfd": True, "/dev/dri/renderD128": True}
    assert machine.environment == {"HIP_VISIBLE_DEVICES": "0"}, "nothing else of the environment is kept"
    assert machine.summary()["cards"][0]["arch"] == "gfx1100"


def test_device_node_without_permission_is_seen(tmp_path, monkeypatch):
    root = system(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: "kfd" not in str(path))
    assert look(fake_torch(), {}, root).access == {"/dev/kfd": False, "/dev/dri/renderD128": True}


def test_cuda_build_names_its_architecture(tmp_path):
    machine = look(fake_torch(hip=None), {}, tmp_path)
    assert (machine.platform, machine.cards[0].arch, machine.blas) == ("cuda", "sm_110", "cublas")


def test_card_that_torch_cannot_open_is_trouble_and_no_error(tmp_path):
    machine = look(fake_torch(broken="HIP error: invalid device function"), {}, system(tmp_path))
    assert machine.cards == ()
    assert "invalid device function" in machine.trouble
    assert machine.has_card


def test_this_machine_is_read_without_an_error():
    machine = look()
    assert machine.torch == str(torch.__version__)
    assert len(machine.cards) == torch.cuda.device_count()
    assert machine.trouble is None or not machine.cards


def test_empty_machine_has_nothing(tmp_path):
    machine = look(fake_torch(cards=0), {}, tmp_path)
    assert not machine.has_card
    assert machine.trouble == "torch 2.13.0+rocm7.2 sees no GPU"
