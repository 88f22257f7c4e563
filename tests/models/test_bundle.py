"""Model files: round trip, strict loading, no silent damage."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.config import ModelConfig
from vpoc_ml.errors import CheckpointError, InputError
from vpoc_ml.models.build import build_model
from vpoc_ml.models.bundle import load_model, save_model

FEATURES = ["a", "b", "c"]


@pytest.fixture
def saved(tmp_path):
    """A saved net with dropout and non-trivial weights, and the net itself."""
    torch.manual_seed(1)
    config = ModelConfig(hidden_dims=(8,), dropout=0.5)
    net = build_model(config, NetworkInputs(features=FEATURES, median=[1.0, 2.0, 3.0], scale=[0.5, 1.0, 2.0]))
    torch.nn.init.normal_(net.body.head.weight)
    model_card = ModelCard(features=FEATURES, model=config, zero_rank=0.51)
    return save_model(tmp_path, "best_model", net, model_card), net


def test_saved_model_predicts_the_same_numbers_in_eval_mode(saved):
    path, net = saved
    loaded = load_model(path)
    raw = np.random.default_rng(1).normal(size=(1000, 3)) * 100
    raw[5] = np.nan
    raw[6, 1] = np.inf
    predicted = loaded.predict(raw)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(raw)).double().numpy()
    assert predicted.dtype == np.float64
    np.testing.assert_array_equal(predicted, expected)
    assert (loaded.features, loaded.zero_rank) == (tuple(FEATURES), 0.51)
    assert np.isfinite(predicted).all()


def test_predict_works_in_batches_on_any_float_layout(saved, monkeypatch):
    loaded = load_model(saved[0])
    raw = np.asfortranarray(np.random.default_rng(2).normal(size=(1000, 3)).astype(np.float32))
    whole = loaded.predict(raw)
    monkeypatch.setattr("vpoc_ml.models.bundle.BATCH_ROWS", 64)
    np.testing.assert_allclose(loaded.predict(raw), whole, rtol=1e-6)
    assert loaded.predict(raw[:0]).shape == (0,)


def test_predict_refuses_another_number_of_columns(saved):
    with pytest.raises(InputError, match="3 feature columns"):
        load_model(saved[0]).predict(np.zeros((4, 2)))


def test_saving_twice_writes_the_same_bytes(saved, tmp_path):
    path, net = saved
    model_card = ModelCard.model_validate(json.loads(path.read_text()))
    again = save_model(tmp_path / "again", "best_model", net, model_card)
    assert again.read_bytes() == path.read_bytes()
    assert again.with_suffix(".safetensors").read_bytes() == path.with_suffix(".safetensors").read_bytes()


def test_one_flipped_byte_anywhere_is_detected(saved):
    path, _ = saved
    for file in (path, path.with_suffix(".safetensors")):
        intact = file.read_bytes()
        for position in range(0, len(intact), max(1, len(intact) // 40)):
            damaged = bytearray(intact)
            damaged[position] ^= 1
            file.write_bytes(bytes(damaged))
            try:
                loaded = load_model(path)
            except CheckpointError:
                continue
            # whitespace of the JSON file may change without changing its content
            assert json.loads(damaged) == json.loads(intact), f"{file.name} byte {position} loaded silently"
            assert loaded.features == tuple(FEATURES)
        file.write_bytes(intact)
    load_model(path)


def test_missing_files_other_formats_and_wrong_shapes_are_refused(saved, tmp_path):
    path, net = saved
    with pytest.raises(CheckpointError, match="cannot read"):
        load_model(tmp_path / "none.json")
    (tmp_path / "other.json").write_text(json.dumps({"format": "pickle/9"}))
    with pytest.raises(CheckpointError, match="pickle/9"):
        load_model(tmp_path / "other.json")
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(CheckpointError, match="JSON"):
        load_model(tmp_path / "text.json")
    wider = ModelCard(features=FEATURES, model=ModelConfig(hidden_dims=(9,)), zero_rank=0.5)
    wrong = save_model(tmp_path, "wrong", net, wider)
    with pytest.raises(
        CheckpointError, match=r"expected tensor body.* of shape \(8,\); found \(9,\) in the network it names"
    ):
        load_model(wrong)
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(CheckpointError, match="safetensors"):
        load_model(path)
