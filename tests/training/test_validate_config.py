"""Settings that cannot train a training set are rejected before training."""

from __future__ import annotations

import pytest
import torch

from vpoc_ml.artifacts.feature_statistics import FeatureStatistics
from vpoc_ml.config import TrainingConfig, resolve
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.models.mlp import BatchNormMLP, PlainMLP
from vpoc_ml.models.outputs import Shifted
from vpoc_ml.training.engines.eager import Engine
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.launch.validate_config import VALIDATED_SETTINGS, validate_training_config

STATISTICS = FeatureStatistics(features=("a",), median=(0.0,), scale=(1.0,), zero_rank=0.5, target_quantiles=(0.0,))
WRONG = {
    "model.encoding": ("piecewise_linear", "build the training set with it"),
    "model.groups": ("volatility", "volatility"),
    "training.loss": ("pinball", "one of auto, huber"),
    "model.kind": ("mlp_batchnorm", "whole batches"),
}


@pytest.mark.parametrize("key", WRONG)
def test_settings_that_do_not_fit_the_training_set_are_rejected(key):
    divided = {"training.accumulation": 2}
    validate_training_config(resolve("nightly", divided), STATISTICS)
    assert key in VALIDATED_SETTINGS
    value, message = WRONG[key]
    with pytest.raises(InvalidValueError, match=message):
        validate_training_config(resolve("nightly", {**divided, key: value}), STATISTICS)


def test_normalisation_over_the_batch_rejects_accumulation(tiny, make_run):
    run = make_run(tiny, model__kind="mlp_batchnorm", training__accumulation=2)
    with pytest.raises(InvalidValueError, match=r"model\.kind.*training\.accumulation"):
        train_run(run)
    assert not (run / "checkpoints").exists()
    validate_training_config(resolve("nightly", {"model.kind": "mlp_batchnorm"}), STATISTICS)


@pytest.mark.parametrize(("kind", "exact"), [(PlainMLP, True), (BatchNormMLP, False)])
def test_the_accumulated_gradient_is_that_of_the_batch_unless_rows_depend_on_each_other(kind, exact):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(64, 3, generator=generator), torch.rand(64, generator=generator), torch.ones(64)
    gradients = []
    for batch in (64, 8):
        torch.manual_seed(3)
        net = kind(3, (8,), 0.0, Shifted()).train()
        for weights in net.parameters():
            torch.nn.init.normal_(weights)
        engine = Engine(net, TrainingConfig(batch_size=batch))
        gradients.append(engine.compute_gradient(*rows).gradient.clone())
    apart = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    assert apart < 1e-5 if exact else apart > 0.01
