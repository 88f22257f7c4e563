"""The fused engine against the eager one: same numbers, same guards; and the choice between them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numba.core.errors import NumbaError

from vpoc_ml.artifacts.feature_statistics import NetworkInputs
from vpoc_ml.config import TrainingConfig, resolve
from vpoc_ml.models.build import build_model
from vpoc_ml.models.mlp import PlainMLP, ReferenceMLP
from vpoc_ml.models.outputs import Shifted
from vpoc_ml.models.residual import ResidualNet
from vpoc_ml.training.engines import fused, fused_kernel, select
from vpoc_ml.training.engines.eager import THETA, Engine
from vpoc_ml.training.engines.fused import FusedEngine
from vpoc_ml.training.engines.select import choose_engine, plan_engine
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.loop.adamw_step import LOG_DELTA
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
        {"loss": "adaptive_huber", "huber_delta": 0.1},
        {"loss": "adaptive_huber", "huber_delta": 0.01, "clipping": "adaptive", "gradient_clip": 0.05},
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


def test_a_whole_job_is_alike_in_both_engines(tiny, make_run):
    shared = {"training__epochs": 1, "training__batch_size": 64, "training__warmup_steps": 5}
    shared |= {"preset": "top5", "model__dropout": 0.0, "training__learning_rate": 1e-3}
    losses = {}
    for engine in ("eager", "fused"):
        result = train_run(make_run(tiny, engine, machine__engine=engine, **shared))
        assert result.engine == engine, result.engine_reason
        assert "self-test passed" in result.engine_reason or engine == "eager"
        losses[engine] = result.best_validation_loss
    assert losses["fused"] == pytest.approx(losses["eager"], rel=1e-4)


def test_auto_takes_the_fused_engine_for_small_batches():
    small, large = NETS["reference_mlp"](0.0), ResidualNet(54, (512, 512), 0.0)
    config, objective = TrainingConfig(), Objective()
    assert sum(parameter.numel() for parameter in large.parameters()) > select.FUSED_PARAMETERS
    assert plan_engine(small, config, objective, 16)[0] == "fused"
    assert plan_engine(small, config, objective, 64)[0] == "fused"
    assert plan_engine(small, config, objective, 65)[0] == "eager"
    assert plan_engine(large, config, objective, 16)[0] == "eager"
    assert plan_engine(small, TrainingConfig(precision="bf16"), objective, 16)[0] == "eager"
    assert plan_engine(small, config, Objective("adaptive_huber"), 16)[0] == "fused"
    assert plan_engine(small, config, Objective("pinball", levels=(0.5,)), 16)[0] == "eager"


def test_the_setting_decides_where_the_engine_can_train_the_network():
    small, objective = NETS["reference_mlp"](0.0), Objective()
    assert plan_engine(small, TrainingConfig(), objective, 16, "eager")[0] == "eager"
    assert plan_engine(small, TrainingConfig(), objective, 1024, "fused")[0] == "fused"
    kind, reason = plan_engine(small, TrainingConfig(precision="bf16"), objective, 16, "fused")
    assert (kind, reason) == ("eager", "the fused engine computes in fp32, not bf16")


@pytest.mark.parametrize("preset", ["top5", "conservative", "medium", "ambitious"])
def test_published_presets_train_with_the_fused_engine_on_a_cpu(preset):
    config = resolve(preset)
    names = tuple(f"f{number}" for number in range(54))
    inputs = NetworkInputs(features=names, median=(0.0,) * 54, scale=(1.0,) * 54)
    body = build_model(config.model, inputs).body
    kind, reason = plan_engine(body, config.training, Objective.of(config.training), config.training.batch_size)
    assert kind == "fused", reason


def test_engine_with_wrong_numbers_is_replaced_by_eager_and_leaves_no_trace(monkeypatch, caplog):
    net, other = NETS["residual"](0.1).train(), NETS["residual"](0.1)
    other.load_state_dict(net.state_dict())
    right = fused_kernel.take_steps

    def wrong(state, *arguments):
        right(state, *arguments)
        state[THETA] *= 1.01

    monkeypatch.setattr(fused_kernel, "take_steps", wrong)
    engine, reason = choose_engine(net, TrainingConfig(), Objective(), rows(), BATCH, "fused")
    assert engine.name == "eager"
    assert "weights differ by" in reason
    assert "failed its self-test" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert engine.state[1:3].abs().max() == 0


def test_kernel_that_cannot_be_compiled_is_replaced_by_eager(monkeypatch):
    def refuse(*arguments):
        raise NumbaError("no code for this CPU")

    monkeypatch.setattr(fused_kernel, "take_steps", refuse)
    net = NETS["residual"](0.0).train()
    engine, reason = choose_engine(net, TrainingConfig(), Objective(), rows(), BATCH, "fused")
    assert engine.name == "eager"
    assert reason.startswith("fused failed its self-test: RuntimeError: numba: ")
    assert "no code for this CPU" in reason


def test_self_test_leaves_no_trace():
    net = NETS["reference_mlp"](0.1).train()
    engine, reason = choose_engine(net, TrainingConfig(), Objective(), rows(), 16)
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
    spike = 40 if field == "norm_steps" else 60  # among steady norms: every number has an effect
    target[spike * BATCH : (spike + 1) * BATCH] *= 50
    steady = inputs.repeat(70, 1), target, weight.repeat(70)
    settings = {"clipping": "adaptive", "gradient_clip": 100.0, "ema_decay": 0.9, "loss": "mse"}
    if field.startswith("delta"):
        settings |= {"loss": "adaptive_huber", "huber_delta": 2.0 if field == "delta_range" else 0.2}
    changed = 1000.0 if field == "delta_rows" else 0.7 * getattr(fused.RULES, field)
    for _ in range(2):
        engine = make(FusedEngine, **settings)
        engine.steps(steady, 0, step_schedule(70))
        states.append(torch.cat([engine.state.flatten(), engine.step_state.flatten().float()]))
        monkeypatch.setattr(fused, "RULES", fused.RULES._replace(**{field: changed}))
    assert not torch.equal(*states)


@pytest.mark.parametrize("usable", [7, 8, 9, 24])
def test_adaptive_delta_of_a_batch_equals_the_eager_engine_s(usable):
    """Fewer than 8 usable residuals change nothing; rows that do not count and NaN residuals are left out."""
    inputs, target, weight = rows(BATCH)
    weight = torch.zeros(BATCH)
    weight[:usable] = 1.0
    fused_engine, eager = (make(kind, loss="adaptive_huber", huber_delta=0.05) for kind in (FusedEngine, Engine))
    for engine in (fused_engine, eager):
        engine.steps((inputs, target, weight), 0, step_schedule(1))
    assert float(fused_engine.step_state[LOG_DELTA]) == pytest.approx(float(eager.step_state[LOG_DELTA]), abs=1e-7)
    assert (float(eager.step_state[LOG_DELTA]) == math.log(0.05)) == (usable < 8)


def test_rows_without_labels_do_not_cost_the_fast_engine():
    inputs, target, _ = rows(40 * BATCH)
    net = NETS["residual"](0.0).train()
    unlabelled = inputs, target, torch.zeros(40 * BATCH)
    engine, reason = choose_engine(net, TrainingConfig(), Objective(), unlabelled, BATCH, "fused")
    assert engine.name == "fused", reason


def test_a_linear_path_trains_with_the_eager_engine_from_ridge_on(tiny, make_run):
    short = {
        "training__epochs": 1,
        "training__batch_size": 64,
        "model__hidden_dims": (8,),
        "training__keep_start": True,
    }
    run = make_run(tiny, **short, model__linear_path="ridge", machine__engine="fused")
    result = train_run(run)
    assert (result.engine, result.dead) == ("eager", False)
    assert "cannot compute LinearPath" in result.engine_reason
    assert result.best_validation_loss < result.validation_constant
