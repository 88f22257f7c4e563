"""What each protection is for: the failures that were seen before it was there, made again by switching it off."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from vpoc_ml.config import TrainingConfig
from vpoc_ml.models.mlp import ReferenceMLP
from vpoc_ml.training.engines.eager import THETA, Engine
from vpoc_ml.training.loop.adamw_step import SCALE

from . import stress
from .stress import Case, CaseResult, dirty_market, run_case, shock, without

pytestmark = pytest.mark.slow

STEPS, BATCH, FEATURES = 300, 64, 5
CALM, HOT = Case("residual", "fp32", BATCH, 2e-3), Case("residual", "fp16", BATCH, 2e-2)


@cache
def market() -> stress.Market:
    return dirty_market(STEPS * BATCH)


@pytest.fixture
def outcome(tmp_path):
    """Train a case with protections off: ``outcome(CALM, "guard", "select")``."""

    def train(case: Case, *off: str, **settings) -> CaseResult:
        with without(*off):
            named = {f"training.{name}": value for name, value in settings.items()}
            return run_case(tmp_path / "-".join(("run", *off)), market(), case.settings() | named)

    return train


@pytest.mark.parametrize("case", [CALM, HOT], ids=["fp32", "fp16"])
def test_with_everything_on_no_loss_is_lost(case, outcome):
    found = outcome(case)
    assert (found.nan_losses, found.rollbacks, found.nonfinite_predictions, found.error) == (0, 0, 0, "")
    assert found.captured > 0.8


@pytest.mark.parametrize(("case", "share"), [(CALM, 0.58), (HOT, 1.0)], ids=["fp32", "fp16"])
def test_without_the_guard_most_batches_are_lost_and_no_model_comes_out(case, share, outcome):
    """1.31 % bad rows are 1 - 0.9869^64 = 57 % bad batches; half precision cannot even hold the ratio of 1e14."""
    found = outcome(case, "guard")
    assert found.nan_share == pytest.approx(share, abs=0.06)
    assert "finite validation loss" in found.error


def test_without_guard_and_selection_every_batch_is_lost(outcome):
    assert outcome(CALM, "guard", "select", "rollback").nan_share > 0.98


def test_without_the_target_mask_selection_still_saves_the_run_but_loses_good_rows(outcome):
    """0.2 % bad targets are 12 % bad batches."""
    found = outcome(CALM, "mask")
    assert found.nan_share == pytest.approx(0.12, abs=0.05)
    assert found.captured > 0.8


def test_without_mask_and_selection_the_weights_are_lost_for_good(outcome):
    """A rollback brings sound weights back, and the next bad target destroys them again."""
    rolled = outcome(CALM, "mask", "select")
    assert rolled.nan_share > 0.85
    assert rolled.rollbacks > 0
    assert abs(rolled.captured) < 0.02
    assert "finite validation loss" in outcome(CALM, "mask", "select", "rollback").error


def test_without_selection_a_shock_in_half_precision_destroys_the_weights(outcome):
    with shock(150, 20):
        kept, rolled, lost = (outcome(HOT, *off) for off in ((), ("select",), ("select", "rollback")))
    assert (kept.nan_losses, kept.rollbacks) == (20, 0)
    assert (rolled.rollbacks, rolled.captured > 0.8) == (1, True), "the rollback is the second line"
    assert lost.nan_losses == STEPS - 150
    assert "finite validation loss" in lost.error


def test_unguarded_adaptive_delta_stays_nan_after_one_bad_target(outcome):
    """The weights stay finite, so nothing looks wrong but the loss: every later one is NaN."""
    guarded = outcome(CALM, "mask", loss="adaptive_huber")
    assert guarded.nan_share == pytest.approx(0.12, abs=0.05)
    assert guarded.captured > 0.8
    careless = outcome(CALM, "mask", "delta", "rollback", loss="adaptive_huber")
    assert careless.nan_share > 0.9
    assert careless.error == ""


def bad_then_good(bad: int, good: int):
    """Return inputs [steps, batch, features] and targets: ``bad`` NaN batches, then sound ones."""
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(bad + good, 16, FEATURES, generator=generator)
    target = torch.sigmoid(inputs[..., 0])
    inputs[:bad] *= math.nan
    return inputs, target


def half_precision(inputs, target) -> Engine:
    torch.manual_seed(5)
    engine = Engine(ReferenceMLP(FEATURES, (16, 8), 0.0).train(), TrainingConfig(precision="fp16", monitor_steps=1000))
    for step, (x, y) in enumerate(zip(inputs, target, strict=True)):
        engine.step(x, y, torch.ones(len(y)), rate=1e-2, decay=0.9, seed=step)
    return engine


def test_loss_scale_without_a_floor_ends_every_later_step():
    data = bad_then_good(180, 20)
    floored = half_precision(*data)
    assert floored.step_state[SCALE].item() == 1.0
    assert floored.read_window().accepted == 20
    with without("scale"):
        careless = half_precision(*data)
    assert careless.step_state[SCALE].float().item() == 0.0
    assert careless.read_window().accepted == 0, "sound batches are lost for good too"
    with without("scale", "select"):
        assert not torch.isfinite(half_precision(*data).state[THETA]).any()


def test_gradient_scaler_of_torch_writes_nan_into_the_weights():
    """Its scale has no floor; below 2^-127 the reciprocal is infinite and its own check for NaN passes."""
    inputs, target = bad_then_good(150, 20)
    torch.manual_seed(5)
    net = ReferenceMLP(FEATURES, (16, 8), 0.0).train()
    optimizer, scaler = torch.optim.AdamW(net.parameters()), torch.amp.GradScaler("cpu")
    for x, y in zip(inputs, target, strict=True):
        optimizer.zero_grad()
        scaler.scale(torch.nn.functional.huber_loss(net(x), y, delta=0.1)).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(torch.isnan(parameter).any() for parameter in net.parameters())
