"""Every known issue, simulated on healthy hardware, is reported with its remedy; healthy hardware has none."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from vpoc_ml.training.hardware.known_issues import find_known_issues
from vpoc_ml.training.hardware.probe import AMD, DrmGpu, Gpu, Hardware

from .simulated_hardware import NODES, hopper, radeon


def env(hardware: Hardware, **variables: str) -> Hardware:
    return replace(hardware, environment={**hardware.environment, **variables})


CPU = Hardware(torch="2.13.0+cpu", error="torch 2.13.0+cpu sees no GPU")
PLANTED = {
    "CPU wheel on an AMD machine": (
        replace(CPU, drm=(DrmGpu("card0", AMD),), access=dict(NODES)),
        "problem",
        r"torch wheel: .* CPU wheel .*ROCm 7\.2 wheel",
    ),
    "CPU wheel on an NVIDIA machine": (
        replace(CPU, access={"/dev/nvidiactl": True}),
        "problem",
        r"Install the CUDA wheel of torch 2\.13\.0 ",
    ),
    "CUDA wheel on an AMD machine": (
        replace(radeon(), hip=None, cuda="13.0", gpus=()),
        "problem",
        r"Install the ROCm 7\.2 wheel",
    ),
    "ROCm wheel on an NVIDIA machine": (
        replace(radeon(), gpus=(), drm=(), access={"/dev/nvidiactl": True, "/dev/kfd": True, "/dev/dri/x": True}),
        "problem",
        "Install the CUDA wheel",
    ),
    "no /dev/kfd in the container": (
        replace(radeon(), gpus=(), access={"/dev/dri/renderD128": True}),
        "problem",
        "/dev/kfd: it does not exist.*--device /dev/kfd --device /dev/dri",
    ),
    "no render node": (replace(radeon(), gpus=(), access={"/dev/kfd": True}), "problem", r"/dev/dri: .*renderD\*"),
    "not in the groups": (
        replace(radeon(), gpus=(), access={"/dev/kfd": False, "/dev/dri/renderD128": True}),
        "problem",
        "no permission to use /dev/kfd.*render,video",
    ),
    "wheel without code for the GPU": (
        replace(radeon(), archs=("gfx90a", "gfx942")),
        "problem",
        r"no code for gfx1100 .*gfx90a, gfx942",
    ),
    "CUDA wheel too old for the GPU": (replace(hopper(), archs=("sm_70", "sm_80")), "problem", "no code for sm_90"),
    "override on a native GPU": (
        env(radeon(), HSA_OVERRIDE_GFX_VERSION="10.3.0"),
        "problem",
        "it is 10.3.0 and the GPU is gfx1100, which ROCm supports without it. Unset it",
    ),
    "override on another GPU": (
        env(
            replace(radeon(), gpus=(Gpu(0, "RX 7700S", "gfx1102", 1, 1),), archs=("gfx1102",)),
            HSA_OVERRIDE_GFX_VERSION="11.0.0",
        ),
        "warning",
        "HSA_OVERRIDE_GFX_VERSION",
    ),
    "old allocator variable": (env(radeon(), PYTORCH_HIP_ALLOC_CONF="x:1"), "warning", "Use PYTORCH_ALLOC_CONF"),
    "the published allocator setting": (
        env(radeon(), PYTORCH_HIP_ALLOC_CONF="expandable_segments:True,max_split_size_mb:128"),
        "problem",
        "reserved memory grow",
    ),
    "expandable segments before 2.11": (
        env(replace(radeon(), torch="2.10.0+rocm7.1"), PYTORCH_ALLOC_CONF="expandable_segments:True"),
        "warning",
        r"does nothing in torch 2\.10\.0",
    ),
    "two filters, no GPU left": (
        env(replace(radeon(), gpus=()), HIP_VISIBLE_DEVICES="1"),
        "problem",
        "HIP_VISIBLE_DEVICES: .*counts the GPUs that ROCR_VISIBLE_DEVICES leaves",
    ),
    "two filters": (env(radeon(), HIP_VISIBLE_DEVICES="0"), "warning", "ROCR_VISIBLE_DEVICES alone"),
    "HIP filter alone": (
        replace(radeon(), environment={"HIP_VISIBLE_DEVICES": "0,1"}),
        "note",
        "isolates nothing",
    ),
    "BLAS preference": (env(radeon(), TORCH_BLAS_PREFER_HIPBLASLT="0"), "warning", "Unset it"),
    "tunable op": (env(radeon(), PYTORCH_TUNABLEOP_ENABLED="1"), "warning", "20 times slower"),
    "xnack": (env(radeon(), HSA_XNACK="1"), "warning", "page migration"),
    "blocking launches": (env(radeon(), HIP_LAUNCH_BLOCKING="1"), "warning", "every kernel waits"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_known_issue_is_reported_with_its_remedy(name):
    hardware, level, text = PLANTED[name]
    found = [diagnostic for diagnostic in find_known_issues(hardware) if re.search(text, str(diagnostic))]
    assert [diagnostic.level for diagnostic in found] == [level], list(map(str, find_known_issues(hardware)))
    assert found[0].remedy


@pytest.mark.parametrize(
    "hardware",
    [
        radeon(),
        radeon(2),
        hopper(),
        CPU,
        env(radeon(), HSA_XNACK="0", PYTORCH_TUNABLEOP_ENABLED="0"),
        env(radeon(), PYTORCH_ALLOC_CONF="expandable_segments:True"),
        replace(hopper(), gpus=(Gpu(0, "H200", "sm_90", 1, 1),), archs=("sm_90a", "sm_90")),
        replace(hopper(), gpus=(Gpu(0, "RTX 4090", "sm_89", 1, 1),)),
    ],
    ids=["radeon", "two radeons", "hopper", "no GPU", "switched off", "expandable on 2.13", "sm_90", "minor version"],
)
def test_healthy_hardware_has_no_known_issue(hardware):
    assert list(map(str, find_known_issues(hardware))) == []
