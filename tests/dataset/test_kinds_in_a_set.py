"""Chosen kinds in a whole training set: the default keeps its bytes, nothing of the future is fitted."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
import torch

from vpoc_ml.artifacts.model_card import ModelCard
from vpoc_ml.config import ModelConfig, resolve
from vpoc_ml.config.choices import Horizon
from vpoc_ml.dataset import scalers, targets
from vpoc_ml.dataset.assemble import LEADING, assemble
from vpoc_ml.dataset.labels import known_volatility, label_bars
from vpoc_ml.errors import CheckpointError
from vpoc_ml.market.instruments import instrument
from vpoc_ml.models.build import build_model
from vpoc_ml.models.bundle import load_model, save_model

OTHER_TARGETS = [kind for kind in targets.KINDS if kind != "rank"]


@pytest.fixture(scope="module")
def market(make):
    """Two contracts of 14 sessions, the second front from the ninth on."""
    days = make.weekdays(date(2025, 3, 3), 14)
    bars = {code: make.bars(code, days, minutes=40, seed=seed) for seed, code in enumerate(("ESH25", "ESM25"))}
    features = {code: make.features(frame, warmup_rows=40) for code, frame in bars.items()}
    front = pl.DataFrame(
        {"contract": ["ESH25", "ESM25"], "first_session": [days[0], days[8]], "last_session": [days[7], days[13]]}
    )
    return bars, features, front


def made_with(market, **overrides: str):
    bars, features, front = market
    config = resolve("nightly", {f"dataset.{key}": value for key, value in overrides.items()})
    return assemble(bars, features, front, instrument("ES"), config)


def later_shocked(market):
    """The same market with other prices and features from the first validation session on."""
    bars, features, front = market
    frame = made_with(market).frame
    later = pl.col("ts") >= frame.filter(pl.col("split") == "validation")["ts"].min()
    shocked = pl.when(later).then(pl.col("close") * 1.3 + 7).otherwise(pl.col("close"))
    names = ("f0", "f1", "f2")
    cells = (pl.when(later).then(pl.lit(1e20, pl.Float32)).otherwise(pl.col(n)).alias(n) for n in names)
    cells = list(cells)
    return (
        {code: each.with_columns(close=shocked) for code, each in bars.items()},
        {code: each.with_columns(cells) for code, each in features.items()},
        front,
    )


def test_default_names_neither_target_nor_scaler(market):
    made = made_with(market)
    assert made.frame.columns == [*LEADING, "f0", "f1", "f2"]
    assert not {"target", "scaler"} & set(made.statistics.to_json())


@pytest.mark.parametrize("kind", OTHER_TARGETS)
def test_another_target_adds_its_column_and_changes_nothing_else(market, kind):
    default, made = made_with(market), made_with(market, target=kind)
    assert made.frame.drop("target").equals(default.frame, null_equal=True)
    labelled = made.frame["weight"] == 1
    assert made.frame["target"].is_finite().equals(labelled)
    target = targets.target_from_json(made.statistics.target)
    assert made.statistics.zero_rank == target.zero_score
    kept = {"target", "zero_rank"}
    assert made.statistics.model_dump(exclude=kept) == default.statistics.model_dump(exclude=kept)
    if not target.needs_volatility:
        expected = target.apply(made.frame["ret"].to_numpy()).astype(np.float32)
        np.testing.assert_array_equal(made.frame["target"].to_numpy(), expected)


@pytest.mark.parametrize("kind", scalers.KINDS)
def test_a_scaler_changes_statistics_but_no_row(market, kind):
    default, made = made_with(market), made_with(market, scaler=kind)
    assert made.frame.equals(default.frame, null_equal=True)
    train = made.frame.filter(pl.col("split") == "train").select("f0", "f1", "f2").to_numpy()
    scaled = scalers.scaler_from_json(made.statistics.scaler).apply(train)
    np.testing.assert_allclose(made.statistics.median, np.median(scaled, axis=0), atol=1e-12)


@pytest.mark.parametrize(
    "chosen", [*({"target": kind} for kind in OTHER_TARGETS), *({"scaler": kind} for kind in scalers.KINDS)], ids=str
)
def test_the_future_changes_nothing_that_is_fitted(market, chosen):
    before, after = made_with(market, **chosen), made_with(later_shocked(market), **chosen)
    train = pl.col("split") == "train"
    assert after.frame.filter(train).equals(before.frame.filter(train), null_equal=True)
    assert not after.frame.equals(before.frame, null_equal=True)
    for key in ("target", "scaler", "median", "scale", "zero_rank"):
        assert getattr(after.statistics, key) == getattr(before.statistics, key)


def test_known_volatility_is_the_root_mean_square_up_to_its_bar(make):
    bars = make.bars("ESH25", make.weekdays(date(2025, 3, 3), 3), minutes=20)
    last = label_bars(bars, Horizon.of("5m"), "close", 0.1)["last_ret"]
    found = known_volatility(last, minutes=5, bars=7).to_numpy()
    expected = [
        np.sqrt(5 * np.mean([value**2 for value in last[row - 6 : row + 1]])) if row >= 6 else np.nan
        for row in range(len(last))
    ]
    np.testing.assert_allclose(found, expected)
    for start in (1, 13):
        np.testing.assert_array_equal(known_volatility(last[start:], 5, 7).to_numpy()[6:], found[start + 6 :])
    np.testing.assert_array_equal(known_volatility(last[:30], 5, 7).to_numpy(), found[:30])
    assert np.isnan(known_volatility(last[:3], 5, 7).to_numpy()).all()


@pytest.mark.parametrize("kind", targets.KINDS)
def test_a_stored_model_scales_and_scores_as_it_was_trained(market, kind, tmp_path):
    statistics = made_with(market, target=kind, scaler="yeo_johnson").statistics
    torch.manual_seed(3)
    config = ModelConfig(hidden_dims=(8,))
    net = build_model(config, statistics).eval()
    raw = np.random.default_rng(4).normal(size=(200, 3))
    scaler = scalers.scaler_from_json(statistics.scaler)
    target = targets.target_from_json(statistics.target) if kind != "rank" else targets.RankTarget(np.zeros(1))

    def outputs() -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(scaler.apply(raw))).double().numpy()

    np.testing.assert_allclose(outputs(), np.broadcast_to(np.squeeze(target.start), outputs().shape), atol=1e-6)
    torch.nn.init.normal_(net.body.head.weight)
    fitted = {name: getattr(statistics, name) for name in ("features", "zero_rank", "target", "scaler")}
    loaded = load_model(save_model(tmp_path, "best_model", net, ModelCard(model=config, **fitted)))
    np.testing.assert_array_equal(loaded.predict(raw), target.score(outputs()))
    assert np.ptp(loaded.predict(raw)) > 0
    assert loaded.zero_rank == statistics.zero_rank
    assert np.isfinite(loaded.predict(np.full((1, 3), np.nan))).all()


def test_a_model_of_an_unknown_kind_is_refused(market, tmp_path):
    statistics = made_with(market).statistics
    config = ModelConfig(hidden_dims=(8,))
    net = build_model(config, statistics)
    for key, stored in (("target", {"kind": "price"}), ("scaler", {"kind": "price", "columns": []})):
        model_card = ModelCard(model=config, features=statistics.features, zero_rank=0.5, **{key: stored})
        path = save_model(tmp_path, key, net, model_card)
        with pytest.raises(CheckpointError, match="price"):
            load_model(path)


def test_the_published_net_ends_in_logits_where_its_sigmoid_cannot_say_it(market):
    statistics = made_with(market, target="multiclass").statistics
    net = build_model(ModelConfig(kind="reference_mlp", hidden_dims=(16, 8)), statistics)
    assert net(torch.zeros(4, len(statistics.features))).shape == (4, 3)


def test_edges_of_the_bins_are_quantiles_of_the_scaled_training_rows(market):
    bars, features, front = market
    chosen = {"model.encoding": "piecewise_linear(bins=4)", "dataset.scaler": "winsor"}
    made = assemble(bars, features, front, instrument("ES"), resolve("nightly", chosen))
    train = made.frame.filter(pl.col("split") == "train").select(made.features).to_numpy()
    scaled = scalers.scaler_from_json(made.statistics.scaler).apply(train)
    expected = [np.quantile(column[np.isfinite(column)], [0, 0.25, 0.5, 0.75, 1]) for column in scaled.T]
    np.testing.assert_allclose(made.statistics.edges, expected)
    assert made_with(market).statistics.edges is None
