"""The leakage proof: every check of one builder, on generated markets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import polars as pl

from vpoc_ml.artifacts.leakage_proof import LeakageProof, Skill, Violation
from vpoc_ml.config import DatasetConfig, RunConfig
from vpoc_ml.config.choices import Horizon
from vpoc_ml.dataset.splits import sessions_needed
from vpoc_ml.features.history import HISTORY_SESSIONS
from vpoc_ml.leakage import degenerate, folds, invariance, lookback, placebo, training_set
from vpoc_ml.leakage.comparison import Build, feature_columns
from vpoc_ml.leakage.folds import WalkForward
from vpoc_ml.leakage.generated_markets import awkward, martingale, regular, rolled
from vpoc_ml.leakage.lookback import DeclaredFeature
from vpoc_ml.leakage.training_set import Fit, Tables

CHECK_DESCRIPTIONS = {
    invariance.PREFIX: "the same features whether or not later bars exist",
    invariance.CHUNKS: "the same features for any number of bars per chunk",
    invariance.FUTURE_PERTURBATION: "the same features for any later prices, volumes and VIX closes",
    invariance.ROLLS: "the same features for any price gap of a roll, and contracts that never mix",
    lookback.LOOKBACK: "a lookback as long as name and window say",
    lookback.AS_OF: "only VIX closes that were published before the bar",
    degenerate.CHECK: "features that vary, each with information of its own, and no raw price",
    placebo.CHECK: "no feature that correlates with what follows on a market nothing can predict",
    training_set.CHECK: "training rows, labels and fitted numbers that depend on no later session",
    folds.CHECK: "folds whose fitted numbers, policy and predictions depend on earlier sessions only",
}
"""What each check expects, as reports show it."""

CONTRACTS = 12
SAMPLED = 12
SIZES = (1, 7)
LARGE = 1000
DEGENERATE_STRIDE = 29
USABLE = 40
"""Sessions after the warm-up that the market of the proof has at least for a training set."""
_DEFAULT_SHARES = {name: DatasetConfig.model_fields[name].default for name in ("train_share", "validation_share")}


def config_for_proof(config: RunConfig) -> RunConfig:
    """Return the settings with a dataset that the 68 short sessions of the proof can fill; all others unchanged."""
    dataset = config.dataset
    smaller = {
        "min_sessions": min(dataset.min_sessions, 10),
        "embargo_sessions": min(dataset.embargo_sessions, 5),
        "horizon": shorter(dataset.horizon),
    }
    dataset = dataset.model_copy(update=smaller)
    if sessions_needed(dataset) > USABLE:
        dataset = dataset.model_copy(update=_DEFAULT_SHARES)
    features = config.features.model_copy(update={"names": (), "extras": (), "own": ()})
    return config.model_copy(update={"dataset": dataset, "features": features})


def shorter(horizon: Horizon) -> Horizon:
    """Return a horizon that leaves labels in the short sessions of the proof: at most 30 minutes or 2 sessions."""
    most = {"minutes": 30, "sessions": 2, "close": 0}[horizon.kind]
    return horizon.model_copy(update={"count": min(horizon.count, most)})


class _Checked(NamedTuple):
    """Comparisons by check, and violations."""

    comparisons: dict[str, int]
    violations: list[Violation]


def prove(
    build: Build,
    registry: Mapping[str, DeclaredFeature],
    fit: Fit,
    walk: WalkForward,
    dataset: DatasetConfig,
    *,
    extended: Build | None = None,
    history: int = HISTORY_SESSIONS,
    contracts: int = CONTRACTS,
    seed: int = 11,
    on_check: Callable[[str], None] = lambda check: None,
) -> LeakageProof:
    """Run every check and return the proof, without a build key.

    Args:
        build: the feature builder to check.
        registry: the declared family, window and warm-up of each feature it computes.
        fit: the builder of the training set from those features.
        walk: the folds of those features.
        dataset: horizon, clip and embargo that ``fit`` and ``walk`` work with.
        extended: the same builder with optional features added; the checks that compare bits use it.
        history: sessions that these features read of a predecessor.
        contracts: contracts of the placebo market; fewer have less statistical power.
        seed: of the markets and of the sampled rows.
        on_check: receives the name of each group of checks before it runs.
    """
    on_check("bits")
    parts = [_check_awkward(extended or build, registry, history, seed), _check_regular(build, registry)]
    on_check(training_set.CHECK)
    markets = rolled()
    checked = training_set.check_training(fit, build, markets, dataset, seed)
    parts.append(_Checked({training_set.CHECK: checked.rows}, checked.violations))
    on_check(folds.CHECK)
    by_fold = folds.check_folds(walk, Tables.of_markets(markets, build), dataset, seed)
    parts.append(_Checked({folds.CHECK: by_fold.comparisons}, by_fold.violations))
    on_check(placebo.CHECK)
    skills, names, last = _check_martingale(build, contracts, seed)
    parts.append(last)
    comparisons = dict.fromkeys(CHECK_DESCRIPTIONS, 0)
    for part in parts:
        for check, count in part.comparisons.items():
            comparisons[check] += count
    return LeakageProof(
        features=tuple(names),
        comparisons=comparisons,
        violations=tuple(one for part in parts for one in part.violations),
        skills={name: Skill(round(each.signed, 3), round(each.absolute, 3)) for name, each in skills.items()},
        limit_t=placebo.LARGEST,
    )


def _check_awkward(build: Build, registry: Mapping[str, DeclaredFeature], history: int, seed: int) -> _Checked:
    """Check prefixes, later data, rolls and the VIX, and chunks of 1 and 7 bars on a market with few bars."""
    market, small = awkward(history=history), awkward(bars=(14, 22), history=history, early=1, front=2)
    features = build(market, None)
    cuts = invariance.cut_rows(market, SAMPLED, seed)
    violations = [
        *invariance.check_prefix(build, market, features, cuts),
        *invariance.check_future_perturbation(build, market, features, cuts, seed),
        *invariance.check_rolls(build, market, features),
        *lookback.check_as_of(build, market, features, registry),
        *invariance.check_chunks(build, small, build(small, None), SIZES),
    ]
    times = {
        invariance.PREFIX: len(cuts),
        invariance.FUTURE_PERTURBATION: len(cuts),
        invariance.ROLLS: invariance.ROLL_COMPARISONS,
        lookback.AS_OF: 1,
        invariance.CHUNKS: len(SIZES),
    }
    count = len(feature_columns(features))
    return _Checked({check: each * count for check, each in times.items()}, violations)


def _check_regular(build: Build, registry: Mapping[str, DeclaredFeature]) -> _Checked:
    """Check lookbacks, warm-ups and large chunks on sessions in which every bar exists."""
    market = regular()
    features = build(market, None)
    violations = [
        *lookback.check_lookback(build, market, features, registry),
        *degenerate.check_warmup(market, features, registry),
        *invariance.check_chunks(build, market, features, (LARGE,)),
    ]
    count = len(feature_columns(features))
    return _Checked({lookback.LOOKBACK: count, invariance.CHUNKS: count}, violations)


def _check_martingale(build: Build, contracts: int, seed: int) -> tuple[dict[str, Skill], list[str], _Checked]:
    """Run the placebo, and look for columns without information, on a market as long as the real one."""
    markets = list(martingale(contracts, seed))
    frames = [build(market, None) for market in markets]
    skills = placebo.skills(zip(markets, frames, strict=True))
    sampled = pl.concat([frame[::DEGENERATE_STRIDE] for frame in frames])
    close = pl.concat([market.bars["close"][::DEGENERATE_STRIDE] for market in markets])
    violations = [*placebo.check_placebo(skills), *degenerate.check_degenerate(sampled, close)]
    names = feature_columns(frames[0])
    return skills, names, _Checked({placebo.CHECK: 2 * len(names), degenerate.CHECK: len(names)}, violations)
