"""Every engine against the eager one: same numbers, same guards, same bits after a resume; and the choice of one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vpoc_ml.config import TrainingConfig
from vpoc_ml.models.mlp import PlainMLP
from vpoc_ml.models.outputs import Shifted
from vpoc_ml.models.reference_mlp import ReferenceMLP
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.training.engines import compiled, fused, fused_kernel, select
from vpoc_ml.training.engines.compiled import CompiledEngine
from vpoc_ml.training.engines.eager import THETA, Engine
from vpoc_ml.training.engines.fused import FusedEngine
from vpoc_ml.training.engines.select import choose_engine, plan_engine
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.loop.objective import Objective
from vpoc_ml.training.loop.schedule import StepSchedule

FEATURES, BATCH, STEPS = 5, 24, 40
NETS = {
    "reference_mlp": lambda dropout: ReferenceMLP(FEATURES, (16, 8), dropout),
    "mlp": lambda dropout: PlainMLP(FEATURES, (16, 8), dropout, Shifted((0.3,))),
    "residual": lambda dropout: ResidualNet(FEATURES, (8, 8), dropout),
}


def rows(count: int = STEPS * BATCH):
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(count, FEATURES, generator=generator)
    target = torch.sigmoid(inputs[:, 0] + torch.randn(count, generator=generator))
    weight = (torch.rand(count, generator=generator) > 0.1).float()
    return inputs, target, weight


def step_schedule(steps: int = STEPS, batch: int = BATCH) -> StepSchedule:
    return StepSchedule(batch, [1e-2 / (1 + step) for step in range(steps)], [0.9] * steps, list(range(steps)))


def make(kind, net="reference_mlp", dropout=0.0, objective=None, **settings) -> Engine:
    torch.manual_seed(5)
    config = TrainingConfig(**settings)
    objective = objective or Objective.of(config)
    return kind(NETS[net](dropout).train(), config, objective)


def assert_alike(engine: Engine, eager: Engine, tolerance: float = 2e-3) -> None:
    """Rounding of a vanishing gradient is amplified by Adam in single weights, so rows are compared by their norms."""
    apart = (engine.state - eager.state).norm(dim=1) / eager.state.norm(dim=1)
    assert apart.max() < tolerance
    torch.testing.assert_close(engine.step_state, eager.step_state, rtol=1e-4, atol=1e-6)
    assert engine.read_windows()[0] == pytest.approx(eager.read_windows()[0], rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clipping": "adaptive", "gradient_clip": 0.05},
        {"loss": "mse"},
        {"gradient_clip": 0.01, "weight_decay": 1.0},
    ],
)
def test_fused_steps_equal_eager_steps(net, settings):
    fused, eager = make(FusedEngine, net, **settings), make(Engine, net, **settings)
    for engine in (fused, eager):
        engine.steps(rows(), 0, step_schedule())
    assert_alike(fused, eager)


def test_fused_steps_with_a_binary_target_equal_eager_steps():
    objective = Objective("bce", 0.1, (0.1,))
    fused, eager = (make(kind, "residual", objective=objective) for kind in (FusedEngine, Engine))
    for engine in (fused, eager):
        engine.steps(rows(), 0, step_schedule())
    assert_alike(fused, eager)


@pytest.mark.parametrize("batch", [1, 7, 16, 300])
def test_fused_takes_any_batch(batch):
    fused, eager = make(FusedEngine), make(Engine)
    for engine in (fused, eager):
        engine.steps(rows(), 0, step_schedule(3, batch))
    assert_alike(fused, eager)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
def test_bad_batch_leaves_a_fused_run_bit_identical_to_one_without_its_update(bad):
    inputs, target, weight = rows()
    spoilt = inputs.clone()
    spoilt[17 * BATCH + 3] *= bad
    spoilt_target = target.clone()
    spoilt_target[17 * BATCH + 3] = bad
    with_bad, without = make(FusedEngine, dropout=0.2), make(FusedEngine, dropout=0.2)
    with_bad.steps((spoilt, spoilt_target, weight + 1), 0, step_schedule())
    whole = step_schedule()
    without.steps((inputs, target, weight + 1), 0, whole.part(0, 17))
    without.steps((inputs, target, weight + 1), 18, whole.part(18))
    assert torch.equal(with_bad.state, without.state)
    assert torch.equal(with_bad.step_state, without.step_state)
    assert with_bad.read_window().accepted == STEPS - 1


def test_fused_without_selection_is_destroyed_by_one_nan():
    inputs, target, weight = rows()
    inputs[5] = math.nan
    engine = make(FusedEngine)
    engine.select = False
    engine.steps((inputs, target, weight + 1), 0, step_schedule(3))
    assert not engine.read_window().finite


def test_fused_dropout_keeps_the_mean_and_depends_on_the_seed_only():
    p, units, batch = 0.3, 64, 512
    ones = [np.ones((units, batch), np.float32) for _ in range(3)]
    for x, seed in zip(ones, (1, 1, 2), strict=True):
        fused_kernel.dropout(x, np.empty_like(x), np.float32(p), np.uint64(seed))
    assert np.array_equal(ones[0], ones[1])
    assert not np.array_equal(ones[0], ones[2])
    assert set(np.unique(ones[0])) == {0.0, np.float32(1 / (1 - p))}
    dropped = ones[0] == 0
    assert dropped.mean() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / dropped.size))
    for line in (dropped.mean(axis=0), dropped.mean(axis=1)):
        assert line.std() == pytest.approx(math.sqrt(p * (1 - p) / (dropped.size / line.size)), rel=0.35)
    assert abs(np.corrcoef(dropped[:, :-1].ravel(), dropped[:, 1:].ravel())[0, 1]) < 4 / math.sqrt(dropped.size)


@pytest.fixture(scope="module")
def built():
    """One build of the compiled engine, two steps a call, with its state before the first step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "GROUP", 2)
        engine = make(CompiledEngine, clipping="adaptive", gradient_clip=0.05)
        yield engine, engine.snapshot()


def test_compiled_steps_equal_eager_steps(built):
    engine, start = built
    engine.restore(start)
    eager = make(Engine, clipping="adaptive", gradient_clip=0.05)
    for each in (engine, eager):
        each.steps(rows(), 0, step_schedule(STEPS - 1))  # an odd number: the last step is not part of a group
    assert_alike(engine, eager)


def test_bad_batch_leaves_a_compiled_run_bit_identical_to_one_without_its_update(built):
    engine, start = built
    inputs, target, weight = rows()
    spoilt = inputs.clone()
    spoilt[6 * BATCH + 1] = math.nan  # alone in its group, beside a good step
    states = []
    for data in (spoilt, None):
        engine.restore(start)
        if data is None:
            engine.steps((inputs, target, weight), 0, step_schedule().part(0, 6))
            before = engine.snapshot()
            silent = weight.clone()
            silent[6 * BATCH : 7 * BATCH] = math.nan  # another way to make the same step bad
            engine.restore(before)
            engine.steps((inputs, target, silent), 6, step_schedule().part(6, 8))
        else:
            engine.steps((data, target, weight), 0, step_schedule(8))
        assert engine.read_window().finite
        states.append(engine.snapshot())
    assert torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])
    assert states[0][1][0, 0] == 7


def test_compiled_run_resumed_at_a_window_has_the_same_bits(built):
    engine, start = built
    engine.restore(start)
    engine.steps(rows(), 0, step_schedule(20))
    kept = engine.snapshot()
    engine.steps(rows(), 20, step_schedule().part(20))
    whole = engine.snapshot()
    engine.restore(kept)
    engine.steps(rows(), 20, step_schedule().part(20))
    engine.read_windows()
    assert torch.equal(engine.state, whole[0])


def test_a_whole_job_is_alike_in_all_engines(tiny, make_run, monkeypatch):
    monkeypatch.setattr(compiled, "GROUP", 1)
    shared = {"training__epochs": 1, "training__batch_size": 64, "training__warmup_steps": 5}
    shared |= {"preset": "top5", "model__dropout": 0.0, "training__learning_rate": 1e-3}
    losses = {}
    for engine in ("eager", "fused", "compiled"):
        result = train_run(make_run(tiny, engine, training__engine=engine, **shared))
        assert result["engine"] == engine, result["engine_reason"]
        assert "self-test passed" in result["engine_reason"] or engine == "eager"
        losses[engine] = result["best_validation_loss"]
    assert losses["fused"] == pytest.approx(losses["eager"], rel=1e-4)
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-4)


def test_auto_weighs_building_against_saving():
    small, large = NETS["reference_mlp"](0.0), ResidualNet(50, (64, 64), 0.0)
    config, objective = TrainingConfig(), Objective()
    assert plan_engine(small, config, objective, 16, 10)[0] == "fused"
    assert plan_engine(small, config, objective, 1024, 10)[0] == "eager"
    assert plan_engine(large, config, objective, 64, 10)[0] == "eager"
    assert plan_engine(large, config, objective, 64, 99_000)[0] == "eager"
    assert plan_engine(large, config, objective, 64, 101_000)[0] == "compiled"
    assert plan_engine(small, TrainingConfig(precision="bf16"), objective, 16, 10)[0] == "eager"
    assert plan_engine(small, config, Objective("adaptive_huber"), 16, 10)[0] == "eager"
    kind, reason = plan_engine(small, TrainingConfig(engine="fused", precision="bf16"), objective, 16, 10)
    assert (kind, reason) == ("eager", "the fused engine computes in fp32, not bf16")


def test_building_takes_longer_the_more_parameter_tensors_there_are():
    for blocks, seconds in ((1, 48), (4, 120)):
        net = ResidualNet(50, (64,) * blocks, 0.0)
        assert 4 * len(list(net.parameters())) == seconds
        _, reason = plan_engine(net, TrainingConfig(), Objective(), 1024, 10)
        assert reason.endswith(f"building would take about {seconds} s")


def test_engine_with_wrong_numbers_is_replaced_by_eager_and_leaves_no_trace(monkeypatch, caplog):
    net, other = NETS["residual"](0.1).train(), NETS["residual"](0.1)
    other.load_state_dict(net.state_dict())
    honest = fused_kernel.take_steps

    def wrong(state, *arguments):
        honest(state, *arguments)
        state[THETA] *= 1.01

    monkeypatch.setattr(fused_kernel, "take_steps", wrong)
    engine, reason = choose_engine(net, TrainingConfig(engine="fused"), Objective(), rows(), BATCH, 100)
    assert engine.name == "eager"
    assert "weights differ by" in reason
    assert "failed its self-test" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert engine.state[1:3].abs().max() == 0


def test_without_a_compiler_the_eager_engine_takes_over(monkeypatch):
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    net = NETS["residual"](0.0).train()
    engine, reason = choose_engine(net, TrainingConfig(engine="compiled"), Objective(), rows(), BATCH, 100)
    assert engine.name == "eager"
    assert reason.startswith("compiled failed its self-test: ")


def test_self_test_puts_everything_back():
    net = NETS["reference_mlp"](0.1).train()
    engine, reason = choose_engine(net, TrainingConfig(), Objective(), rows(), 16, 100)
    plain = Engine(NETS["reference_mlp"](0.1), TrainingConfig())
    assert engine.name == "fused"
    assert "self-test passed" in reason
    assert engine.steps_taken == 0
    assert torch.equal(engine.step_state, plain.step_state)
    assert engine.state[1:3].abs().max() == 0
    assert select.TEST_STEPS > 0


@pytest.mark.parametrize("field", fused.RULES._fields)
def test_fused_kernel_takes_its_numbers_from_those_of_the_other_engines(field, monkeypatch):
    """A kernel out of the disk cache would keep numbers that were compiled into it."""
    states, (inputs, target, weight) = [], (column[:BATCH] for column in rows())
    target = target.repeat(70)
    spike = 40 if field == "norm_steps" else 60  # among steady norms: every number has its say
    target[spike * BATCH : (spike + 1) * BATCH] *= 50
    steady = inputs.repeat(70, 1), target, weight.repeat(70)
    for _ in range(2):
        engine = make(FusedEngine, loss="mse", clipping="adaptive", gradient_clip=100.0, ema_decay=0.9)
        engine.steps(steady, 0, step_schedule(70))
        states.append(torch.cat([engine.state.flatten(), engine.step_state.flatten().float()]))
        monkeypatch.setattr(fused, "RULES", fused.RULES._replace(**{field: 0.7 * getattr(fused.RULES, field)}))
    assert not torch.equal(*states)


def test_rows_without_labels_do_not_cost_the_fast_engine():
    inputs, target, _ = rows(40 * BATCH)
    net = NETS["residual"](0.0).train()
    unlabelled = inputs, target, torch.zeros(40 * BATCH)
    engine, reason = choose_engine(net, TrainingConfig(engine="fused"), Objective(), unlabelled, BATCH, 100)
    assert engine.name == "fused", reason
