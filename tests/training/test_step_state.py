"""What a step remembers: clip statistics, adaptive delta, loss scale; accumulation, noise, precision; members."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from vpoc_ml.config import TrainingConfig
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.training.engines.eager import THETA, Engine
from vpoc_ml.training.loop import adamw_step as columns
from vpoc_ml.training.loop.adamw_step import LOG_DELTA, LOG_NORM, LOG_SPREAD, SCALE, UPDATES
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.schedule import StepSchedule

FEATURES, BATCH = 5, 32
CPU = torch.device("cpu")


def rows(count: int = 64 * BATCH, seed: int = 9):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, FEATURES, generator=generator)
    target = torch.sigmoid(inputs[:, 0] + torch.randn(count, generator=generator))
    return inputs, target, torch.ones(count)


def step_schedule(steps: int, batch: int = BATCH) -> StepSchedule:
    return StepSchedule(batch, [3e-3] * steps, [0.9] * steps, list(range(steps)))


def net(seed: int = 5, dropout: float = 0.0) -> ResidualNet:
    torch.manual_seed(seed)
    made = ResidualNet(FEATURES, (8, 8), dropout).train()
    nn.init.normal_(made.head.weight, std=0.1)
    return made


def make(seed: int = 5, **settings) -> Engine:
    config = TrainingConfig(**settings)
    return Engine(net(seed), config, Objective.of(config))


def test_clip_statistics_follow_the_plain_moments_first_and_a_spike_counts_as_the_limit():
    config = TrainingConfig(clipping="adaptive", gradient_clip=100.0)
    step_state = columns.first_step_state(1, config, CPU)
    norms = np.exp(np.random.default_rng(1).normal(0.0, 0.3, size=50))
    for norm in norms:
        size = torch.tensor([norm])
        step_state[LOG_NORM], step_state[LOG_SPREAD] = columns.norm_statistics(step_state, size, torch.tensor([100.0]))
        step_state[UPDATES] += 1
    assert step_state[LOG_NORM].item() == pytest.approx(np.log(norms).mean(), rel=1e-6, abs=1e-6)
    assert step_state[LOG_SPREAD].item() == pytest.approx(np.log(norms).var(), rel=1e-6)
    limit = columns.clip_limit(step_state, config)
    assert limit.item() == pytest.approx(math.exp(np.log(norms).mean() + 2.5 * np.log(norms).std()), rel=1e-6)
    spike, _ = columns.norm_statistics(step_state, torch.tensor([1e9]), limit)
    most, _ = columns.norm_statistics(step_state, limit, limit)
    assert spike.item() == most.item()
    assert columns.clip_limit(step_state, TrainingConfig(clipping="adaptive", gradient_clip=0.5)).item() == 0.5
    assert columns.clip_limit(step_state, TrainingConfig(gradient_clip=0.5)) == 0.5


def test_adaptive_delta_by_hand_bounded_and_deaf_to_small_batches_and_nan():
    config = TrainingConfig(loss="adaptive_huber")
    step_state = columns.first_step_state(1, config, CPU)
    residuals, weight = torch.linspace(-1, 1, 21)[None], torch.ones(21)
    expected = 0.99 * math.log(0.1) + 0.01 * math.log(np.quantile(np.abs(np.linspace(-1, 1, 21)), 0.9))
    assert columns.next_log_delta(step_state, residuals, weight, 0.1).item() == pytest.approx(expected, rel=1e-6)
    spoilt = torch.cat((residuals, torch.full((1, 3), math.nan)), dim=1)
    more = columns.next_log_delta(step_state, spoilt, torch.ones(24), 0.1)
    assert more.item() == pytest.approx(expected, rel=1e-6)
    assert columns.next_log_delta(step_state, residuals[:, :7], weight[:7], 0.1).item() == math.log(0.1)
    huge = columns.next_log_delta(step_state, residuals * 1e9, weight, 0.1).item()
    assert huge == pytest.approx(0.99 * math.log(0.1) + 0.01 * math.log(1.0))


def test_adaptive_delta_moves_towards_the_residuals_and_survives_bad_batches():
    inputs, target, weight = rows()
    inputs[5 * BATCH] = math.nan
    engine = make(loss="adaptive_huber")
    engine.steps((inputs, target, weight), 0, step_schedule(64))
    window = engine.read_window()
    assert (window.accepted, window.finite) == (63, True)
    assert 0.1 < window.delta < 1.0


def test_loss_scale_halves_to_one_and_no_further_and_grows_after_2000_sound_steps():
    step_state = columns.first_step_state(1, TrainingConfig(precision="fp16"), CPU)
    for _ in range(300):
        step_state[SCALE], step_state[columns.STREAK] = columns.next_scale(step_state, torch.tensor([False]))
    assert step_state[SCALE].item() == 1.0
    for step in range(1, 2001):
        step_state[SCALE], step_state[columns.STREAK] = columns.next_scale(step_state, torch.tensor([True]))
        assert step_state[SCALE].item() == (2.0 if step == 2000 else 1.0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_a_bad_batch_changes_the_scale_only(precision):
    inputs, target, weight = rows()
    engine = make(precision=precision)
    engine.steps((inputs, target, weight), 0, step_schedule(20))
    window = engine.read_window()
    assert (window.accepted, window.finite) == (20, True)
    before = engine.snapshot()
    engine.step(inputs[:BATCH] * math.nan, target[:BATCH], weight[:BATCH], rate=1e-3, decay=0.9, seed=1)
    assert torch.equal(engine.state, before[0])
    assert torch.equal(engine.step_state[:SCALE], before[1][:SCALE])
    assert engine.step_state[SCALE] == before[1][SCALE] * (0.5 if precision == "fp16" else 1.0)
    plain = make()
    plain.steps((inputs, target, weight), 0, step_schedule(20))
    assert window.loss == pytest.approx(plain.read_window().loss, rel=0.05)


def test_accumulation_changes_memory_and_not_the_step():
    whole, parts = make(batch_size=BATCH), make(batch_size=BATCH // 4, accumulation=4)
    inputs, target, weight = rows()
    weight[::3] = 0.0
    for engine in (whole, parts):
        engine.steps((inputs, target, weight), 0, step_schedule(20))
    torch.testing.assert_close(parts.state, whole.state, rtol=1e-3, atol=2e-5)
    assert parts.read_window().loss == pytest.approx(whole.read_window().loss, rel=1e-5)


def test_gradient_noise_is_a_function_of_the_seed_and_falls_with_the_steps():
    states = []
    for noise in (0.0, 1e-4, 1e-4):
        torch.rand(3)
        engine = make(gradient_noise=noise)
        engine.steps(rows(), 0, step_schedule(5))
        states.append(engine.state)
    assert torch.equal(states[1], states[2])
    assert not torch.equal(states[0], states[1])
    from vpoc_ml.training.loop.adamw_step import add_noise

    engine = make(gradient_noise=0.01)
    deviations = []
    for count in (0, 1000):
        engine.step_state[UPDATES] = count
        noise = torch.ones_like(engine.gradient)
        deviations.append(float(add_noise(torch.zeros(1), engine.step_state, engine.members, engine.config, noise)[0]))
    assert deviations[0] == pytest.approx(0.1)
    assert deviations[1] == pytest.approx(0.1 / 1001**0.275, rel=1e-6)


class Stacked(nn.Module):
    """Members of one build, their weights stacked."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.members = len(nets)
        self.template = [nets[0]]
        stacked, _ = stack_module_state(nets)
        self.names = list(stacked)
        self.weights = nn.ParameterList(nn.Parameter(stacked[name].detach()) for name in self.names)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        def one(weights, rows):
            return functional_call(self.template[0], weights, (rows,))

        own = dict(zip(self.names, self.weights, strict=True))
        return vmap(one, in_dims=(0, None), randomness="different")(own, inputs)


def ensemble(seeds, **settings) -> Engine:
    return Engine(Stacked([net(seed) for seed in seeds]), TrainingConfig(**settings))


def member_state(engine: Engine, member: int) -> torch.Tensor:
    return engine.state[:, engine.members.owner == member]


SETTINGS = {"clipping": "adaptive", "gradient_clip": 0.05}


def test_a_member_trains_as_it_would_alone():
    together = ensemble((5, 6, 7), **SETTINGS)
    together.steps(rows(), 0, step_schedule(60))
    windows = together.read_windows()
    for member, seed in enumerate((5, 6, 7)):
        alone = make(seed, **SETTINGS)
        alone.steps(rows(), 0, step_schedule(60))
        torch.testing.assert_close(member_state(together, member), alone.state, rtol=2e-3, atol=2e-5)
        assert windows[member] == pytest.approx(alone.read_window(), rel=2e-3, abs=1e-6)
    assert windows[0] != windows[1]


def test_a_member_that_breaks_is_skipped_and_the_others_go_on_bit_for_bit():
    broken, whole = ensemble((5, 6)), ensemble((5, 6))
    with torch.no_grad():
        broken.state[THETA, broken.members.owner == 1] = math.nan
    for engine in (broken, whole):
        engine.steps(rows(), 0, step_schedule(20))
    assert torch.equal(member_state(broken, 0), member_state(whole, 0))
    windows = broken.read_windows()
    assert [(window.accepted, window.finite) for window in windows] == [(20, True), (0, False)]


def test_one_member_goes_back_with_half_the_rate_and_the_other_does_not_notice():
    together, whole = ensemble((5, 6)), ensemble((5, 6))
    for engine in (together, whole):
        engine.steps(rows(), 0, step_schedule(10))
    kept = together.snapshot()
    for engine in (together, whole):
        engine.steps(rows(), 10, step_schedule(10))
    together.restore(kept, [1])
    together.factor[1] = 0.5
    assert torch.equal(member_state(together, 0), member_state(whole, 0))
    assert torch.equal(member_state(together, 1), kept[0][:, together.members.owner == 1])
    assert together.step_state[UPDATES].tolist() == [20.0, 10.0]
    assert together.step_state[LOG_DELTA].shape == (2,)
    for engine in (together, whole):
        engine.steps(rows(), 20, step_schedule(10))
    assert torch.equal(member_state(together, 0), member_state(whole, 0))
