"""Training and validation rows arrive as they are, through the run's own scaling; test rows do not."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from vpoc_ml.analysis import train_validation_view as module
from vpoc_ml.analysis.analyze import analyze
from vpoc_ml.analysis.train_validation_view import open_train_validation_view
from vpoc_ml.config import resolve
from vpoc_ml.dataset.robust_scaling import fit_robust_scaling, robust_scale
from vpoc_ml.dataset.scalers import fit_scaler
from vpoc_ml.errors import ArtifactError, MissingInputError
from vpoc_ml.models.guard import Guard

CONFIG = resolve("smoke")


def test_robust_scaling_equals_the_guard_of_the_model():
    rng = np.random.default_rng(3)
    raw = rng.standard_t(1, (500, 3)) * 1e3
    raw[::7] = np.nan
    raw[3, 0], raw[4, 0] = np.inf, -np.inf
    median, scale = np.array([0.5, -2.0, 100.0]), np.array([1.0, 1e-9, 40.0])
    theirs = Guard(median.tolist(), scale.tolist(), 6.0)(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(robust_scale(raw, median, scale, 6.0), theirs, rtol=1e-6)


def test_what_test_rows_hold_changes_nothing(made, make_run):
    unseen = pl.col("split") == "test"
    spoiled = made.frame.with_columns(
        *(
            pl.when(unseen).then(pl.lit(1e9, pl.Float32)).otherwise(pl.col(name)).alias(name)
            for name in ("vwap", "rv_30")
        ),
        ret=pl.when(unseen).then(0.1).otherwise(pl.col("ret")),
        last_ret=pl.when(unseen).then(float("nan")).otherwise(pl.col("last_ret")),
        contract=pl.when(unseen).then(pl.lit("ESZ25")).otherwise(pl.col("contract")),
    )
    first, second = (json.dumps(analyze(run.folder, CONFIG).to_json()) for run in (made, make_run(spoiled)))
    assert first == second


def test_rows_are_those_of_train_and_validation(made):
    kept = made.frame.filter(pl.col("split") != "test")
    view = made.view
    assert view.keys["ret"].equals(kept["ret"], null_equal=True)
    np.testing.assert_array_equal(view.column("rv_30"), kept["rv_30"].to_numpy().astype(np.float64))
    assert view.contracts == ["ESH25", "ESM25", "ESU25"]
    assert [view.contracts[at] for at in view.contract] == kept["contract"].to_list()


@pytest.mark.parametrize("size", [450, 1000, 10**6])
@pytest.mark.parametrize("every", [1, 3])
def test_blocks_hold_the_labelled_rows_whatever_their_size(made, monkeypatch, size, every):
    monkeypatch.setattr(module, "BLOCK", size)
    view = made.view
    rows = made.frame.filter((pl.col("split") == "validation") & (pl.col("weight") == 1))
    columns = [view.guarded(name, rows[name].to_numpy().astype(float), 6.0) for name in view.features]
    blocks = list(view.blocks("validation", 6.0, every=every))
    np.testing.assert_array_equal(np.concatenate(blocks), np.stack(columns, axis=1)[::every])
    assert len(blocks) > 1 or size == 10**6


def test_the_runs_scaler_comes_before_the_guard(made, make_run):
    train = made.frame.filter(pl.col("split") == "train")
    scaler = fit_scaler("winsor", [train[name].to_numpy() for name in made.view.features])
    scaled = [fit_robust_scaling(scaler.columns[at].apply(train[n].to_numpy().astype(float)))
              for at, n in enumerate(made.view.features)]  # fmt: skip
    run = make_run(
        made.frame,
        scaler=scaler.to_artifact().model_dump(),
        median=[one.median for one in scaled],
        scale=[one.scale if np.isfinite(one.scale) else 1.0 for one in scaled],
    )
    edges = np.nanquantile(train["vwap"].to_numpy(), [0.01, 0.99])
    cut = np.clip(made.frame["vwap"].to_numpy(), *edges)
    view = run.view
    expected = np.arcsinh((cut - scaled[2].median) / scaled[2].scale)
    np.testing.assert_allclose(
        view.guarded("vwap", made.frame["vwap"].to_numpy().astype(float), 6.0), expected, rtol=1e-5
    )
    block = np.concatenate(list(view.blocks("train", 6.0)))
    labelled = (made.frame["split"] == "train").to_numpy() & (made.frame["weight"] == 1).to_numpy()
    np.testing.assert_allclose(block[:, 2], expected[labelled], rtol=1e-5)


def test_missing_training_set_is_named(tmp_path):
    with pytest.raises(MissingInputError, match="training set"):
        open_train_validation_view(tmp_path)


def test_absent_feature_is_named(made, make_run):
    run = make_run(made.frame)
    run.frame.drop("vwap").write_parquet(run.folder / "training_set.parquet")
    with pytest.raises(ArtifactError, match="vwap"):
        open_train_validation_view(run.folder)


def test_test_rows_in_between_are_refused(made, make_run):
    with pytest.raises(ArtifactError, match="test rows after"):
        open_train_validation_view(make_run(made.frame.reverse()).folder)


def test_split_without_labels_is_refused(made, make_run):
    unlabelled = pl.when(pl.col("split") == "validation").then(0.0).otherwise(pl.col("weight")).alias("weight")
    with pytest.raises(ArtifactError, match="validation"):
        open_train_validation_view(make_run(made.frame.with_columns(unlabelled)).folder)
