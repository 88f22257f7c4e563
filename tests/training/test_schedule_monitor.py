"""Schedule values, and the monitor's verdicts on single windows."""

from __future__ import annotations

import pytest

from vpoc_ml.config import TrainingConfig
from vpoc_ml.errors import TrainingUnstableError
from vpoc_ml.training.engines.eager import Window
from vpoc_ml.training.loop.monitor import Monitor, is_dead
from vpoc_ml.training.loop.schedule import LearningRateSchedule, step_seeds


def window(loss: float = 0.02, steps: int = 100, accepted: int = 100, finite: bool = True) -> Window:
    return Window(steps, accepted, loss, 0.1, 0.2, 0.0, 1e-3, finite)


def test_schedule_warms_up_then_follows_the_cosine_to_zero():
    step_schedule = LearningRateSchedule.of(TrainingConfig(learning_rate=1.0, warmup_steps=10), 110)
    assert step_schedule.rate(0) == pytest.approx(0.1)
    assert step_schedule.rate(9) == step_schedule.rate(10) == 1.0
    assert step_schedule.rate(60) == pytest.approx(0.5)
    assert step_schedule.rate(109) == pytest.approx(0.0, abs=1e-3)


def test_constant_schedule_and_a_warmup_longer_than_the_run():
    step_schedule = LearningRateSchedule.of(
        TrainingConfig(learning_rate=1.0, warmup_steps=1000, schedule="constant"), 100
    )
    assert step_schedule.warmup == 20
    assert step_schedule.rate(19) == step_schedule.rate(99) == 1.0
    assert LearningRateSchedule.of(TrainingConfig(warmup_steps=0), 3).rate(0) == TrainingConfig().learning_rate


def test_average_forgets_its_start_and_decay_zero_means_no_average():
    step_schedule = LearningRateSchedule.of(TrainingConfig(ema_decay=0.99), 10)
    assert step_schedule.decay(0) == 0.1
    assert step_schedule.decay(10_000) == 0.99
    assert LearningRateSchedule.of(TrainingConfig(ema_decay=0.0), 10).decay(5) == 0.0


def step_seed(seed: int, step: int) -> int:
    """splitmix64 as published, in whole numbers."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) & 0xFFFFFFFF


def test_step_seeds_are_distinct_32_bit_numbers():
    seeds = {each for seed in range(3) for each in step_seeds(seed, 0, 5_000)}
    assert step_seeds(2, 4_000, 1_000) == [step_seed(2, step) for step in range(4_000, 5_000)]
    assert len(seeds) > 14_995
    assert max(seeds) < 2**32


@pytest.mark.parametrize(
    ("found", "defect"),
    [
        (window(), None),
        (window(loss=0.0299), None),
        (window(loss=0.0301), "above 1.5"),
        (window(accepted=49), "51 of 100"),
        (window(accepted=50), None),
        (window(finite=False), "not finite"),
    ],
)
def test_the_monitor_rejects_bad_windows_only(found, defect):
    verdict = Monitor([0.02]).defect(found, batch=16)
    assert (verdict is None) if defect is None else (defect in verdict)


def test_the_monitor_does_not_check_the_loss_of_a_handful_of_rows():
    assert Monitor([0.02]).defect(window(loss=0.05, steps=15, accepted=15), batch=16) is None


def test_monitor_compares_with_the_median_of_what_was_accepted():
    monitor = Monitor([0.02])
    for _ in range(30):
        monitor.accept(window(loss=0.010))
    assert len(monitor.history) == 20
    assert monitor.defect(window(loss=0.016), 16) is not None


def test_monitor_halves_the_rate_and_gives_up_after_the_limit():
    monitor = Monitor([0.02])
    monitor.roll_back(window(accepted=10), "bad", 100, limit=2)
    monitor.roll_back(window(), "bad", 200, limit=2)
    assert (monitor.rate_factor, monitor.rollbacks, monitor.skipped) == (0.25, 2, 90)
    with pytest.raises(TrainingUnstableError, match="step 300: worse"):
        monitor.roll_back(window(), "worse", 300, limit=2)


def test_net_that_predicts_one_number_is_dead_whatever_its_loss():
    assert is_dead(0.0)
    assert is_dead(9e-6)
    assert not is_dead(1e-3), "noise that was fitted is not a dead net"
