"""One step: equal to torch's own AdamW, untouched by a NaN batch; and the failures when a protection is off."""

from __future__ import annotations

import math

import pytest
import torch
from torch.overrides import TorchFunctionMode

from vpoc_ml.config import TrainingConfig
from vpoc_ml.models.mlp import ReferenceMLP
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.training.engines.eager import AVERAGE, MEAN, SQUARE, THETA, Engine
from vpoc_ml.training.loop.adamw_step import StepRates, adamw_step
from vpoc_ml.training.loop.objective import huber, mask_targets, shares

STEPS, BATCH, FEATURES = 40, 32, 5


def make_engine(select: bool = True, dropout: float = 0.0, **settings) -> Engine:
    torch.manual_seed(5)
    return Engine(ReferenceMLP(FEATURES, (16, 8), dropout).train(), TrainingConfig(**settings), select=select)


def batches(count: int = STEPS) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(count, BATCH, FEATURES, generator=generator)
    target = torch.sigmoid(inputs[..., 0] + torch.randn(count, BATCH, generator=generator))
    return list(zip(inputs, target, torch.ones(count, BATCH), strict=True))


class CountedCalls(TorchFunctionMode):
    """Counts the calls of torch, other than looks at attributes."""

    calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += getattr(func, "__name__", "") != "__get__"
        return func(*args, **(kwargs or {}))


def run(engine: Engine, data, skipped: tuple[int, ...] = ()) -> Engine:
    for step, (inputs, target, weight) in enumerate(data):
        if step not in skipped:
            engine.step(inputs, target, weight, rate=1e-2 / (1 + step), decay=0.9, seed=1000 + step)
    return engine


def weighted_huber(predicted, target, weight, delta):
    return huber(predicted[None], target, delta)[0] @ shares(weight)


def test_step_equals_torch_adamw_with_clipping():
    settings = {"gradient_clip": 0.01, "weight_decay": 0.5}
    engine = run(make_engine(**settings), batches())
    torch.manual_seed(5)
    net = ReferenceMLP(FEATURES, (16, 8), 0.0)
    matrices = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.5}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-8)
    for step, (inputs, target, _) in enumerate(batches()):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        optimizer.zero_grad()
        torch.nn.functional.huber_loss(net(inputs), target, delta=0.1).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.01)
        optimizer.step()
    theta = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    torch.testing.assert_close(engine.state[THETA], theta, rtol=1e-4, atol=1e-6)
    assert engine.read_window().clip_share > 0.5


def test_plain_step_calls_torch_no_more_often_than_stated():
    engine, rows = make_engine(), batches(1)[0]
    batch = engine.compute_gradient(*rows)
    with torch.no_grad(), CountedCalls() as counted:
        adamw_step(
            engine.rows,
            engine.step_state,
            batch,
            StepRates(engine.factor, 0.9),
            engine.members,
            engine.constants,
            engine.config,
            engine.proposed,
        )
    assert counted.calls <= 30  # each costs some 3 us whatever its size, and the whole step some 500 us


def test_average_follows_its_formula_and_views_follow_the_state():
    engine = make_engine()
    before = engine.state[AVERAGE].clone()
    run(engine, batches(1))
    torch.testing.assert_close(engine.state[AVERAGE], 0.9 * before + 0.1 * engine.state[THETA])
    flat = torch.cat([p.detach().reshape(-1) for p in engine.net.parameters()])
    assert torch.equal(flat, engine.state[THETA])


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_bad_batch_leaves_the_run_bit_identical_to_one_without_its_update(bad, dropout):
    data = batches()
    data[17] = (data[17][0] * bad, data[17][1], data[17][2] * bad)
    with_bad = run(make_engine(dropout=dropout), data)
    without = run(make_engine(dropout=dropout), data, skipped=(17,))
    assert torch.equal(with_bad.state, without.state)
    assert torch.equal(with_bad.step_state, without.step_state)
    window = with_bad.read_window()
    assert (window.steps, window.accepted, window.finite) == (STEPS, STEPS - 1, True)
    assert math.isfinite(window.loss)


def test_without_selection_one_nan_batch_destroys_the_weights():
    data = batches()
    data[17] = (data[17][0] * math.nan, *data[17][1:])
    window = run(make_engine(select=False), data).read_window()
    assert not window.finite


def test_nan_targets_are_masked_and_without_the_mask_every_batch_is_lost():
    inputs, target, weight = batches(1)[0]
    target[3] = math.nan
    masked, masked_weight = mask_targets(target, weight)
    assert (masked[3], masked_weight[3], masked_weight.sum()) == (0.5, 0.0, BATCH - 1)
    rest = torch.arange(BATCH) != 3
    expected = weighted_huber(inputs[rest, 0], target[rest], weight[rest], 0.1)
    torch.testing.assert_close(weighted_huber(inputs[:, 0], masked, masked_weight, 0.1), expected)
    assert run(make_engine(), [(inputs, masked, masked_weight)]).read_window().accepted == 1
    assert run(make_engine(), [(inputs, target, weight)]).read_window().accepted == 0


def test_batch_without_weight_has_loss_zero():
    inputs, target, weight = batches(1)[0]
    window = run(make_engine(), [(inputs, target, weight * 0)]).read_window()
    assert (window.accepted, window.loss) == (1, 0.0)


def test_loss_of_the_constant_on_uniform_ranks_is_the_published_baseline():
    ranks = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    loss = weighted_huber(torch.full_like(ranks, 0.5), ranks, torch.ones_like(ranks), 0.1)
    assert loss.item() == pytest.approx(0.020333, abs=1e-6)


def test_window_reports_and_resets():
    engine = run(make_engine(), batches(10))
    window = engine.read_window()
    assert (window.steps, window.accepted) == (10, 10)
    assert 0 < window.norm_mean <= window.norm_max
    assert 0 < window.update_ratio_max < 1
    assert engine.read_window().steps == 0


def test_restore_and_using_put_everything_back():
    engine = run(make_engine(), batches(5))
    kept = engine.snapshot()
    reference = engine.state.clone()
    with engine.using(torch.zeros_like(engine.state[THETA])) as net:
        assert not net.training
        assert (net(torch.ones(2, FEATURES)) == 0.5).all()
    assert torch.equal(engine.state, reference)
    assert engine.net.training
    run(engine, batches(5))
    assert not torch.equal(engine.state[MEAN], reference[MEAN])
    engine.restore(kept)
    assert torch.equal(engine.state, reference)
    assert engine.state[SQUARE].min() >= 0


def test_dropout_is_a_function_of_the_seed():
    inputs, target, weight = batches(1)[0]
    states = []
    for seed, noise in ((3, 0), (3, 7), (4, 0)):
        engine = make_engine(dropout=0.5)
        torch.rand(noise)
        engine.step(inputs, target, weight, rate=0.1, decay=0.0, seed=seed)
        states.append(engine.state)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_residual_net_learns_from_its_constant_start():
    torch.manual_seed(1)
    engine = run(Engine(ResidualNet(FEATURES, (8, 8), 0.0).train(), TrainingConfig()), batches())
    first = engine.read_window().loss
    run(engine, batches())
    assert engine.read_window().loss < first
