"""Planted skill is found, alone or in interaction; noise is not; nothing is learned from validation rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from scipy.stats import t as student
from sklearn.linear_model import Ridge

from vpoc_ml.analysis import skill as module
from vpoc_ml.analysis.analyze import by_family, clusters_beside_families
from vpoc_ml.analysis.skill import FULL, RIDGE_PENALTY, ablation, critical_t, skills, variants
from vpoc_ml.config import resolve

CONFIG = resolve("smoke")


def test_rank_ic_is_spearmans_and_the_planted_signal_stands(made):
    view = made.view
    found = skills(view, CONFIG.evaluation)
    for split in ("train", "validation"):
        rows = view.mask(split, labelled=True)
        expected = spearmanr(view.column("close_change_pct")[rows], view.keys["ret"].to_numpy()[rows]).statistic
        assert found["close_change_pct"][f"{split}_ic"]["value"] == pytest.approx(expected, abs=1e-9)
    signal, other = found["close_change_pct"], found["vwap"]
    assert signal["stands"]
    assert signal["validation_ic"]["low"] > 0.2
    assert signal["accuracy"]["low"] > 0.55
    assert not other["stands"]
    assert abs(other["t"]) < critical_t(0.95, 6, 16)


def test_constant_feature_has_no_skill_to_measure(made):
    found = skills(made.view, CONFIG.evaluation)["dow"]
    assert found == {"train_ic": None, "validation_ic": None, "t": None, "stands": False, "accuracy": None}


def test_direction_of_the_rule_is_the_training_rows(made, make_run):
    turned = pl.when(pl.col("split") == "validation").then(-pl.col("ret")).otherwise(pl.col("ret")).alias("ret")
    found = skills(make_run(made.frame.with_columns(turned)).view, CONFIG.evaluation)["close_change_pct"]
    assert found["train_ic"]["value"] > 0.2
    assert found["validation_ic"]["high"] < -0.2
    assert found["accuracy"]["high"] < 0.45  # a rule that looked at the validation rows would be right


def test_feature_against_the_return_has_a_negative_ic_and_a_right_rule(made, make_run):
    against = make_run(made.frame.with_columns(-pl.col("close_change_pct")))
    found, straight = (skills(run.view, CONFIG.evaluation)["close_change_pct"] for run in (against, made))
    ic, other = found["validation_ic"], straight["validation_ic"]
    assert ic["value"] == pytest.approx(-other["value"])
    assert (ic["low"], ic["high"]) == (pytest.approx(-other["high"]), pytest.approx(-other["low"]))
    assert found["accuracy"]["low"] > 0.55


@pytest.mark.parametrize("model", ["ridge", "trees"])
def test_noise_stands_nowhere(noise, model):
    assert not any(one["stands"] for one in skills(noise.view, CONFIG.evaluation).values())
    found = ablation(noise.view, CONFIG, by_family(noise.view.features), {}, model)
    assert not any(group["stands"] for group in found["groups"].values())


def test_critical_t_is_bonferronis():
    assert critical_t(0.95, 1, 41) == pytest.approx(student.ppf(0.975, 40))
    assert critical_t(0.95, 50, 41) == pytest.approx(student.ppf(1 - 0.05 / 100, 40))


def test_variants_leave_out_each_group_and_keep_each_family():
    found = variants(["a", "b", "c"], {"one": ["a", "b"], "two": ["c"]}, {"b and c": ["b", "c"]})
    assert found == {
        FULL: [0, 1, 2],
        "without one": [2],
        "only one": [0, 1],
        "without two": [0, 1],
        "only two": [2],
        "without b and c": [0],
    }
    assert variants(["a", "b"], {"one": ["a", "b"]}, {}) == {FULL: [0, 1]}


def test_groups_are_families_and_clusters_that_are_no_family():
    families = by_family(["mom_15m", "vwap", "mom_60m", "unheard_of"])
    assert families == {"price": ["mom_15m", "mom_60m"], "volume": ["vwap"], "other": ["unheard_of"]}
    groups = [["mom_60m", "mom_15m"], ["vwap", "mom_15m"], ["vwap"]]
    found = clusters_beside_families({"groups": [{"members": members} for members in groups]}, families)
    assert found == {"vwap and 1 alike": ["vwap", "mom_15m"]}


def test_ridge_is_sklearns(made):
    view = made.view
    columns = {FULL: list(range(6)), "few": [0, 2]}
    fitted, rows = module.fit_ridge(view, columns, 6.0)
    x, y = np.concatenate(list(view.blocks("train", 6.0))), view.labelled_rows("train").y
    unseen = np.concatenate(list(view.blocks("validation", 6.0)))
    assert rows == len(y)
    for name, chosen in columns.items():
        theirs = Ridge(alpha=RIDGE_PENALTY * rows).fit(x[:, chosen], y)
        np.testing.assert_allclose(fitted[name](unseen), theirs.predict(unseen[:, chosen]), atol=1e-9)


@pytest.mark.parametrize("model", ["ridge", "trees"])
def test_the_group_with_the_signal_is_needed_and_no_other(made, model):
    families = by_family(made.view.features)
    found = ablation(made.view, CONFIG, families, {}, model)
    assert found["groups"]["price"]["gain"]["rank_ic_gain"]["low"] > 0.2
    assert [name for name, group in found["groups"].items() if group["stands"]] == ["price"]
    assert found["groups"]["price"]["alone"]["rank_ic"]["low"] > 0.2
    assert found["full"]["direction_accuracy"]["low"] > 0.55


def test_either_of_two_alike_can_go_but_not_both(made):
    clusters = {"one": ["close_change_pct"], "both": ["close_change_pct", "mom_15m"]}
    groups = ablation(made.view, CONFIG, {}, clusters, "ridge")["groups"]
    assert groups["one"]["gain"]["rank_ic_gain"]["value"] < 0.02
    assert groups["both"]["gain"]["rank_ic_gain"]["low"] > 0.2
    assert groups["both"]["alone"] is None


def test_interaction_is_seen_by_trees_and_by_nothing_else(interacting):
    view = interacting.view
    families = by_family(view.features)
    ridge, trees = (ablation(view, CONFIG, families, {}, model) for model in ("ridge", "trees"))
    assert not any(one["stands"] for one in skills(view, CONFIG.evaluation).values())
    assert ridge["full"]["rank_ic"]["low"] < 0.03
    assert trees["full"]["rank_ic"]["low"] > 0.1
    assert all(trees["groups"][name]["gain"]["rank_ic_gain"]["low"] > 0.1 for name in ("volume", "volatility"))


@pytest.mark.parametrize("fit", ["fit_ridge", "fit_trees"])
def test_validation_labels_teach_nothing(made, make_run, fit):
    shuffled = pl.when(pl.col("split") == "validation").then(pl.col("ret").reverse()).otherwise(pl.col("ret"))
    other = make_run(made.frame.with_columns(shuffled.alias("ret"))).view
    block = next(iter(made.view.blocks("validation", 6.0)))
    models = [getattr(module, fit)(view, {FULL: list(range(6))}, 6.0)[0][FULL] for view in (made.view, other)]
    np.testing.assert_array_equal(models[0](block), models[1](block))


def test_trees_thin_their_rows_evenly(made, monkeypatch):
    monkeypatch.setattr(module, "TREE_ROWS", 1000)
    _, rows = module.fit_trees(made.view, {FULL: list(range(6))}, 6.0)
    assert rows == -(-int(made.view.mask("train", labelled=True).sum()) // 4)
