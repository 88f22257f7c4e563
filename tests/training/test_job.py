"""Whole jobs: signal found, noise not, dirt survived, same bytes twice, instability answered."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from vpoc_ml.artifacts.training_progress import ProgressRecord
from vpoc_ml.errors import ArtifactError, DeviceError, InputError, MissingInputError, TrainingUnstableError
from vpoc_ml.models.bundle import load_model
from vpoc_ml.training.launch.job import train_run
from vpoc_ml.training.loop import monitor

pytestmark = pytest.mark.slow

FAST = {"training__epochs": 2, "training__batch_size": 256, "training__warmup_steps": 5, "model__hidden_dims": (8,)}
WINDOW = {"kind", "step", "epoch", "loss", "grad_norm_max", "grad_norm_mean", "lr", "skipped", "clip_share"}
WINDOW |= {"update_ratio_max", "rollbacks", "clip_limit", "loss_scale", "delta", "steps_total"}
EPOCH = {
    "kind",
    "epoch",
    "step",
    "train_loss",
    "validation_loss",
    "validation_constant",
    "best",
    "seconds",
    "dead",
    "lr",
    "rows",
    "epochs_total",
}


def weights(run):
    return [(run / f"{name}.safetensors").read_bytes() for name in ("best_model", "final_model")]


def test_planted_signal_is_captured(planter, make_run):
    planted = planter(120_000)
    run = make_run(planted)
    result = train_run(run)
    predicted = load_model(run / "best_model.json").predict(planted.raw)
    assert planted.captured(predicted, "validation") > 0.9
    assert planted.captured(predicted, "test") > 0.9
    assert result.best_validation_loss < 0.97 * result.validation_constant
    assert (result.skipped, result.rollbacks, result.dead, result.nonfinite_rows) == (0, 0, False, 0)


def test_pure_noise_shows_no_skill(planter, make_run):
    noise = planter(40_000, strength=0.0)
    run = make_run(noise)
    result = train_run(run)
    predicted = load_model(run / "best_model.json").predict(noise.raw)[noise.split == "test"]
    target = noise.y[noise.split == "test"]
    assert result.dead or abs(np.corrcoef(predicted, target)[0, 1]) < 4 / np.sqrt(len(target))
    assert predicted.std() < 0.02
    assert result.best_validation_loss > 0.995 * result.validation_constant


def test_published_preset_trains_with_299_parameters(tiny, make_run):
    result = train_run(make_run(tiny, preset="top5", training__epochs=1))
    assert (result.parameters, result.steps, result.rollbacks) == (299, 2800 // 16, 0)


def test_files_progress_and_log_are_written(tiny, make_run):
    run = make_run(tiny, **FAST, training__monitor_steps=4)
    seen: list[ProgressRecord] = []
    result = train_run(run, seen.append)
    lines = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    assert lines == [record.to_json() for record in seen]
    steps = 2800 // 256
    assert result.steps == 2 * steps
    windows = [line for line in lines if line["kind"] == "window"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["step"] for line in windows] == [4, 8, steps, steps + 4, steps + 8, 2 * steps]
    assert [line["step"] for line in epochs] == [steps, 2 * steps]
    assert set(windows[0]) == WINDOW
    assert set(epochs[0]) == EPOCH
    assert json.loads((run / "training_result.json").read_text()) == result.to_json()
    described = json.loads((run / "training_config.json").read_text())
    assert described["device_reason"]
    assert described["threads"] == 1
    log = (run / "training_log.txt").read_text()
    assert "parameters on cpu (machine.device is cpu)" in log
    assert "epoch 2 of 2: training loss" in log
    assert len(list((run / "checkpoints").glob("step-*.ckpt"))) == 2


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tiny, make_run):
    runs = [
        make_run(tiny, name, **FAST, model__dropout=0.2, training__seed=seed)
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    ]
    for run in runs:
        train_run(run)
    assert weights(runs[0]) == weights(runs[1])
    assert weights(runs[0]) != weights(runs[2])


def test_training_a_finished_run_again_changes_nothing(tiny, make_run):
    run = make_run(tiny, **FAST)
    first = train_run(run)
    before = weights(run)
    second = train_run(run)
    assert weights(run) == before
    assert second.resumed_from_step == first.steps == second.steps


def test_changed_data_or_settings_do_not_resume(tiny, make_run, caplog):
    run = make_run(tiny, **FAST)
    train_run(run)
    frame = pl.read_parquet(run / "training_set.parquet")
    frame.with_columns(f0=pl.col("f0") * 2).write_parquet(run / "training_set.parquet")
    assert train_run(run).resumed_from_step == 0
    assert "other data, settings or code" in caplog.text


def test_dirty_features_and_targets_train_without_a_lost_step(planter, make_run):
    clean = planter(40_000)
    rng = np.random.default_rng(4)
    raw = np.concatenate([clean.raw, np.full((len(clean.raw), 1), np.nan, np.float32), clean.raw[:, :1]], axis=1)
    raw[:, 6] = np.where(rng.uniform(size=len(raw)) < 0.003, 1e22, rng.normal(size=len(raw)))  # x / (y + 1e-8)
    bad = rng.uniform(size=len(raw)) < 0.02
    raw[bad, 1] = rng.choice([np.nan, np.inf, -np.inf, 1e14], size=bad.sum())
    y = np.where(rng.uniform(size=len(raw)) < 0.002, np.nan, clean.y)
    dirty = replace(clean, raw=raw.astype(np.float32), y=y)
    run = make_run(dirty)
    result = train_run(run)
    assert (result.skipped, result.rollbacks) == (0, 0)
    assert result.nonfinite_rows == result.rows, "the empty column is non-finite in every row"
    predicted = load_model(run / "best_model.json").predict(dirty.raw)
    assert np.isfinite(predicted).all()
    assert dirty.captured(predicted) > 0.8


@pytest.mark.parametrize(("every", "value"), [(50, np.nan), (300, 1e22)])
def test_without_the_guard_the_same_dirt_is_not_survived(every, value, tiny, make_run, monkeypatch):
    raw = tiny.raw.copy()
    raw[::every, 1] = value
    dirty = replace(tiny, raw=raw)
    assert train_run(make_run(dirty, "guarded", **FAST)).skipped == 0
    monkeypatch.setattr("vpoc_ml.models.guard.Guard.forward", lambda self, values: values.float())
    with pytest.raises(TrainingUnstableError, match="finite validation loss"):
        train_run(make_run(dirty, **FAST, machine__fallback=False))


@pytest.mark.parametrize("preset", ["nightly", "top5"])
def test_learning_rate_times_1000_recovers_or_gives_up_with_the_right_error(preset, tiny, make_run):
    rate = {"nightly": 4.0, "top5": 0.1}[preset]
    run = make_run(
        tiny,
        preset=preset,
        training__learning_rate=rate,
        training__epochs=3,
        training__monitor_steps=5,
        machine__fallback=False,
    )
    try:
        train_run(run)
    except TrainingUnstableError:
        return
    assert np.isfinite(load_model(run / "best_model.json").predict(tiny.raw)).all()


def test_rollback_rescues_a_run_that_dies_without_it(planted, make_run, monkeypatch):
    hot = {"training__learning_rate": 10.0, "training__batch_size": 256, "training__monitor_steps": 10}
    hot |= {"training__gradient_clip": 1000.0, "training__epochs": 4, "training__max_rollbacks": 30}
    hot |= {"training__keep_start": False}
    rescued = train_run(make_run(planted, "rescued", **hot))
    assert rescued.rollbacks > 0
    monkeypatch.setattr(monitor, "LOSS_FACTOR", float("inf"))
    alone = train_run(make_run(planted, "alone", **hot))
    assert alone.rollbacks == 0
    assert rescued.best_validation_loss < alone.best_validation_loss
    assert alone.best_validation_loss > alone.validation_constant


def test_unstable_run_raises_after_the_last_rollback(tiny, make_run):
    run = make_run(
        tiny,
        training__learning_rate=10.0,
        training__batch_size=64,
        training__monitor_steps=5,
        training__max_rollbacks=0,
        machine__fallback=False,
        training__epochs=5,
    )
    with pytest.raises(TrainingUnstableError, match="at most 0 rollbacks"):
        train_run(run)


def test_dead_model_is_reported_not_raised(planter, make_run):
    blind = planter(4_000, strength=0.0)
    blind = replace(blind, raw=np.zeros_like(blind.raw), y=np.where(blind.split == "train", blind.y, 0.5 + 0 * blind.y))
    run = make_run(blind, **FAST)
    assert train_run(run).dead is True
    assert "dead" in (run / "training_log.txt").read_text()


def test_early_stopping_keeps_the_best_epoch(planter, make_run):
    noise = planter(3_000, strength=0.0)
    run = make_run(
        noise, training__epochs=60, training__patience=2, training__batch_size=64, training__keep_start=False
    )
    result = train_run(run)
    assert result.epochs == result.best_epoch + 2 < 60
    losses = [
        line["validation_loss"] for line in map(json.loads, (run / "progress.jsonl").open()) if line["kind"] == "epoch"
    ]
    assert result.best_validation_loss == min(losses)
    assert load_model(run / "best_model.json").model_card.best_epoch == result.best_epoch


def test_the_start_is_kept_where_training_only_loses(planter, make_run):
    planted = planter(4_000)
    against = replace(planted, y=np.where(planted.split == "validation", 1 - planted.y, planted.y))
    run = make_run(against, "kept", **FAST, training__keep_start=True)
    result = train_run(run)
    model = load_model(run / "best_model.json")
    assert (result.best_epoch, result.epochs, result.dead) == (0, 2, True)
    assert result.best_validation_loss == pytest.approx(result.validation_constant, rel=1e-3)
    assert model.predict(planted.raw) == pytest.approx(np.full(len(planted.y), 0.5))
    lost = train_run(make_run(against, "lost", **FAST, training__keep_start=False))
    assert lost.best_epoch > 0
    assert lost.best_validation_loss > result.best_validation_loss


def test_more_validations_find_better_weights_on_the_same_path(planter, make_run):
    planted = planter(6_000)
    against = replace(planted, y=np.where(planted.split == "validation", 1 - planted.y, planted.y))
    found = {}
    for count in (1, 5):
        chosen = FAST | {"training__keep_start": False, "training__monitor_steps": 3}
        run = make_run(against, f"v{count}", **chosen, training__validations_per_epoch=count)
        found[count] = train_run(run), (run / "final_model.safetensors").read_bytes()
        steps = {json.loads(line)["step"] for line in (run / "progress.jsonl").open()}
        assert {16 * part // count for part in range(count + 1)} - {0} <= steps
    assert found[1][1] == found[5][1]
    assert found[5][0].best_validation_loss < found[1][0].best_validation_loss
    assert (found[5][0].epochs, found[5][0].steps) == (2, 32)


@pytest.mark.parametrize(("horizon", "count"), [("1m", 1), ("15m", 8), ("1s", 8)])
def test_overlapping_labels_are_validated_more_often(tiny, make_run, horizon, count):
    run = make_run(tiny, preset="nightly", **FAST, dataset__horizon=horizon)
    train_run(run)
    assert json.loads((run / "training_config.json").read_text())["training"]["validations_per_epoch"] == count


def test_a_run_killed_between_validations_gives_the_same_bytes(tiny, make_run, monkeypatch):
    class Killed(Exception):
        pass

    def kill(line):
        if line.kind == "window" and line.step == 10 + 7:
            raise Killed

    chosen = FAST | {"training__validations_per_epoch": 4, "training__monitor_steps": 3}
    whole = make_run(tiny, "whole", **chosen, training__keep_start=True)
    train_run(whole)
    half = make_run(tiny, "half", **chosen, training__keep_start=True, machine__checkpoint_seconds=0.001)
    with pytest.raises(Killed):
        train_run(half, on_progress=kill)
    assert train_run(half).resumed_from_step == 15
    assert weights(half) == weights(whole)


def test_unusable_run_folders_are_named(tiny, make_run, tmp_path):
    with pytest.raises(MissingInputError, match=r"config\.json"):
        train_run(tmp_path / "nowhere")
    run = make_run(tiny, **FAST)
    pl.read_parquet(run / "training_set.parquet").drop("f3").write_parquet(run / "training_set.parquet")
    with pytest.raises(ArtifactError, match="f3"):
        train_run(run)
    unlabelled = replace(tiny, y=np.where(tiny.split == "validation", np.nan, tiny.y))
    with pytest.raises(InputError, match="validation rows"):
        train_run(make_run(unlabelled, "unlabelled", **FAST))
    (run / "training_set.parquet").unlink()
    with pytest.raises(MissingInputError, match="training_set"):
        train_run(run)


def test_gpu_that_is_requested_and_absent_is_a_configuration_error(tiny, make_run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="sees no GPU"):
        train_run(make_run(tiny, machine__device="cuda"))
    assert train_run(make_run(tiny, "auto", machine__device="auto", **FAST)).device == "cpu"
