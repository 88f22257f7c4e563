"""Every kind of target is described on the labels of the run."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from vpoc_ml.analysis.distribution import target_distributions
from vpoc_ml.config import DatasetConfig
from vpoc_ml.dataset.labels import known_volatility
from vpoc_ml.dataset.targets import KINDS, fit_target


def test_each_kind_is_described_and_the_chosen_one_marked(made):
    found = target_distributions(made.view, DatasetConfig(target="rank"))
    assert list(found) == list(KINDS)
    assert [kind for kind, one in found.items() if one["chosen"]] == ["rank"]
    assert found["rank"]["train"]["mean"] == pytest.approx(0.5)
    assert found["multiclass"]["distinct"] == 3
    labels = made.frame.filter((pl.col("split") == "train") & (pl.col("weight") == 1))["ret"].to_numpy()
    assert found["rank"]["train"]["rows"] == labels.size
    assert found["return"]["distinct"] == np.unique(labels).size
    assert found["return"]["commonest"] == pytest.approx(np.unique(labels, return_counts=True)[1].max() / labels.size)
    assert found["rank"]["validation"]["rows"] == made.view.mask("validation", labelled=True).sum()


def test_the_chosen_kind_is_what_the_training_set_holds(made, make_run):
    stored = pl.col("ret").rank() * 3.0
    run = make_run(made.frame.with_columns(y=stored.cast(pl.Float32)))
    found = target_distributions(run.view, DatasetConfig(target="vol_scaled"))
    for split in ("train", "validation"):
        labelled = run.frame.filter((pl.col("split") == split) & (pl.col("weight") == 1))
        assert found["vol_scaled"][split]["mean"] == pytest.approx(labelled["y"].mean())
        assert found["rank"][split]["mean"] == pytest.approx(made.frame.join(labelled, on="ts", how="semi")["y"].mean())


def test_volatility_of_a_kind_not_chosen_is_of_its_contracts_seen_past(made):
    config = DatasetConfig(target="rank")
    found = target_distributions(made.view, config)["vol_scaled"]["train"]
    keys = made.view.keys
    known = np.concatenate(
        [
            known_volatility(part["last_ret"], 1, config.target.bars).to_numpy()
            for part in keys.partition_by("contract", maintain_order=True)
        ]
    )
    train = made.view.mask("train", labelled=True)
    target = fit_target("vol_scaled", keys["ret"].to_numpy()[train], known[train], config)
    expected = target.apply(keys["ret"].to_numpy()[train], known[train])
    assert found["mean"] == pytest.approx(expected.mean())
    assert found["sd"] == pytest.approx(expected.std())


def test_kind_that_cannot_be_used_says_why(made, make_run):
    still = make_run(made.frame.with_columns(ret=pl.col("ret") * 0, y=pl.lit(0.5, pl.Float32)))
    found = target_distributions(still.view, DatasetConfig())
    assert set(found["multiclass"]) == {"predicts", "chosen", "refused"}
    assert "nearly all training returns are equal" in found["multiclass"]["refused"]
    assert found["rank"]["commonest"] == 1.0
