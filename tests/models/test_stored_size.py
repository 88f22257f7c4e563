"""Model files that claim more than they hold are refused before memory is allocated for the claim."""

from __future__ import annotations

import hashlib
import json
import resource
import struct

import pytest
import torch

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import CheckpointError
from vpoc_ml.models.build import build_model
from vpoc_ml.models.bundle import MAX_JSON_BYTES, MAX_WEIGHTS_BYTES, load_model, require_same_shapes, save_model

FEATURES = [f"f{number}" for number in range(5)]
MIB = 1024**2


@pytest.fixture
def saved(tmp_path):
    config = ModelConfig(hidden_dims=(8,))
    net = build_model(config, NetworkInputs(features=FEATURES, median=[0.0] * 5, scale=[1.0] * 5))
    return save_model(tmp_path, "best_model", net, ModelCard(features=FEATURES, model=config, zero_rank=0.5))


@pytest.fixture
def little_memory():
    """At most 300 MiB more address space than now."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300 * MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def rewrite(path, **changes):
    """Change the JSON file and give it the digest that belongs to the change."""
    content = json.loads(path.read_text())
    content.pop("sha256")
    content |= {"model": content["model"] | changes}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps(content | {"sha256": hashlib.sha256(text.encode()).hexdigest()}))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_dims": [200_000]},
        {"hidden_dims": [1_000_000_000]},
        {"hidden_dims": [100_000, 100_000], "kind": "mlp"},
        {"hidden_dims": [8] * 500_000},
        {"members": 256, "hidden_dims": [16_384]},
        {"kind": "attention", "hidden_dims": [65_536]},
    ],
)
def test_absurd_dimensions_are_refused_without_memory(saved, changes, little_memory):
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match=r"best_model.json: expected"):
        load_model(saved)


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1, -100])
def test_cut_weights_are_refused_by_their_size(saved, keep):
    weights = saved.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"best_model.safetensors: expected .* bytes"):
        load_model(saved)


@pytest.mark.parametrize("length", [2**63, 2**40, 10**9])
def test_header_that_claims_more_than_the_file_is_refused(saved, length):
    weights = saved.with_suffix(".safetensors")
    weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="expected a header within"):
        load_model(saved)


def test_header_that_names_huge_tensors_is_refused(saved, little_memory):
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    saved.with_suffix(".safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="by its header"):
        load_model(saved)


@pytest.mark.parametrize(("suffix", "limit"), [(".safetensors", MAX_WEIGHTS_BYTES), (".json", MAX_JSON_BYTES)])
def test_oversized_files_are_refused_before_they_are_read(saved, suffix, limit, little_memory):
    with saved.with_suffix(suffix).open("r+b") as file:
        file.truncate(limit + 1)  # a sparse file: no disk is used
    with pytest.raises(CheckpointError, match=f"expected at most {limit:,} bytes"):
        load_model(saved)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deeply_nested_json_is_refused(saved, text):
    saved.write_text(text)
    with pytest.raises(CheckpointError, match="expected JSON"):
        load_model(saved)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[]", "1", '{"w": []}', '{"w": {"shape": []}}'])
def test_header_that_is_none_is_refused(saved, text):
    saved.with_suffix(".safetensors").write_bytes(struct.pack("<Q", len(text)) + text.encode())
    with pytest.raises(CheckpointError, match="expected a safetensors header"):
        load_model(saved)


@pytest.mark.parametrize(
    "config",
    [{"kind": kind} for kind in ("residual", "reference_mlp", "mlp", "mlp_batchnorm", "attention")]
    + [{"encoding": "piecewise_linear"}, {"members": 3}, {"groups": ("price", "all")}],
)
def test_every_kind_of_network_is_laid_out_as_it_is_stored(config, tmp_path):
    config = ModelConfig(hidden_dims=(8, 4), **config)
    names = ["close_pct", *FEATURES]
    about = NetworkInputs(
        features=names,
        median=[0.0] * 6,
        scale=[1.0] * 6,
        groups={"price": [0, 1], "all": [*range(6)]},
        edges=[[float(edge) for edge in range(config.encoding.bins + 1)]] * 6,
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in build_model(config, about).state_dict().items()}
    require_same_shapes(tmp_path / "model.json", config, about, shapes)
    first = next(iter(shapes))
    with pytest.raises(CheckpointError, match=first):
        require_same_shapes(tmp_path / "model.json", config, about, shapes | {first: (10**9, 10**9)})
    assert torch.get_default_device() == torch.device("cpu")
