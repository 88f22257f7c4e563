"""The whole proof: every check, on markets made for it, of one builder. Its result is JSON-able."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from vpoc_ml.config import DatasetConfig, RunConfig
from vpoc_ml.dataset.splits import sessions_needed
from vpoc_ml.features.history import HISTORY_SESSIONS
from vpoc_ml.leakage import (
    as_of,
    chunks,
    degenerate,
    future_perturbation,
    lookback,
    placebo,
    prefix,
    roll_invariance,
    training_set,
)
from vpoc_ml.leakage.lookback import Declared
from vpoc_ml.leakage.market import Build
from vpoc_ml.leakage.martingale import martingale
from vpoc_ml.leakage.placebo import Skill
from vpoc_ml.leakage.random_markets import awkward, regular, rolled
from vpoc_ml.leakage.training_set import Fit
from vpoc_ml.leakage.violations import Violation, feature_columns

CHECK_DESCRIPTIONS = {
    prefix.CHECK: "the same features whether or not later bars exist",
    chunks.CHECK: "the same features however many bars come at a time",
    future_perturbation.CHECK: "the same features whatever later prices, volumes and VIX closes are",
    roll_invariance.CHECK: "the same features whatever the price gap of a roll, and contracts that never mix",
    lookback.CHECK: "a memory as long as name and window say",
    as_of.CHECK: "only VIX closes that were published before the bar",
    degenerate.CHECK: "features that vary, each with information of its own, and no raw price",
    placebo.CHECK: "no feature that goes with what follows on a market nothing can predict",
    training_set.CHECK: "training rows, labels and fitted numbers that know no later session",
}
"""What each check stands for, as a report says it."""

CONTRACTS = 12
SAMPLED = 12
SIZES = (1, 7)
LARGE = 1000
DEGENERATE_STRIDE = 29
USABLE = 40
"""Sessions after the warm-up that the proof's market surely has for a training set."""
_DEFAULT_SHARES = {name: DatasetConfig.model_fields[name].default for name in ("train_share", "validation_share")}


@dataclass(frozen=True)
class Proof:
    """What was judged and what was found.

    ``comparisons`` counts, by check, how often a feature was put to the test, or a row of the training set: 0 where a
    builder makes nothing to judge.
    """

    features: tuple[str, ...]
    comparisons: dict[str, int]
    violations: tuple[Violation, ...]
    skills: dict[str, Skill]

    @property
    def passed(self) -> bool:
        """Whether every promise was tested and kept."""
        return not self.violations and all(self.comparisons.values())

    @property
    def largest(self) -> tuple[str, float]:
        """The feature with the largest absolute t of the placebo, and that t."""
        most = {name: max(abs(skill.signed), abs(skill.absolute)) for name, skill in self.skills.items()}
        name = max(most, key=lambda each: most[each])
        return name, most[name]

    def to_json(self) -> dict[str, Any]:
        """Return the proof as strict JSON values."""
        return {
            "passed": self.passed,
            "features": list(self.features),
            "comparisons": self.comparisons,
            "findings": [one.to_json() for one in self.violations],
            "largest_t": dict(zip(("feature", "t"), self.largest, strict=True)),
            "limit_t": placebo.LARGEST,
            "t": {
                name: {"signed": round(s.signed, 3), "absolute": round(s.absolute, 3)}
                for name, s in self.skills.items()
            },
        }


def config_for_proof(config: RunConfig) -> RunConfig:
    """Return the settings with a dataset that the proof's 68 short sessions can fill; all others as they are."""
    asked = config.dataset
    smaller = {
        "min_sessions": min(asked.min_sessions, 10),
        "embargo_sessions": min(asked.embargo_sessions, 5),
        "horizon_minutes": min(asked.horizon_minutes, 30),
    }
    dataset = asked.model_copy(update=smaller)
    if sessions_needed(dataset) > USABLE:
        dataset = dataset.model_copy(update=_DEFAULT_SHARES)
    features = config.features.model_copy(update={"names": (), "extras": ()})
    return config.model_copy(update={"dataset": dataset, "features": features})


class _Found(NamedTuple):
    comparisons: dict[str, int]
    violations: list[Violation]


def prove(
    build: Build,
    registry: Mapping[str, Declared],
    fit: Fit,
    dataset: DatasetConfig,
    *,
    extended: Build | None = None,
    history: int = HISTORY_SESSIONS,
    contracts: int = CONTRACTS,
    seed: int = 11,
    on_check: Callable[[str], None] = lambda check: None,
) -> Proof:
    """Run every check.

    Args:
        build: the builder of features to judge.
        registry: of each feature it makes: family, window and warm-up, as they are declared.
        fit: the builder of the training set, over those features.
        dataset: horizon, clip and embargo that ``fit`` works with.
        extended: the same builder with optional features added; they are judged by what compares bits.
        history: sessions that these read of a predecessor.
        contracts: contracts of the placebo market; fewer have less power.
        seed: of the markets and of what is sampled.
        on_check: receives the name of each group of checks before it runs.
    """
    on_check("bits")
    found = [_on_awkward(extended or build, registry, history, seed), _on_regular(build, registry)]
    on_check(training_set.CHECK)
    judged = training_set.check_training(fit, build, rolled(), dataset, seed)
    found.append(_Found({training_set.CHECK: judged.rows}, judged.violations))
    on_check(placebo.CHECK)
    skills, names, last = _on_martingale(build, contracts, seed)
    found.append(last)
    counted = dict.fromkeys(CHECK_DESCRIPTIONS, 0)
    for part in found:
        for check, count in part.comparisons.items():
            counted[check] += count
    return Proof(tuple(names), counted, tuple(one for part in found for one in part.violations), skills)


def _on_awkward(build: Build, registry: Mapping[str, Declared], history: int, seed: int) -> _Found:
    """Prefixes, later rows, rolls, the VIX; chunks of 1 and 7 bars on a stretch that few bars make awkward too."""
    market, small = awkward(history=history), awkward(bars=(14, 22), history=history, early=1, front=2)
    whole = build(market, None)
    cuts = prefix.places(market, SAMPLED, seed)
    violations = [
        *prefix.check_prefix(build, market, whole, cuts),
        *future_perturbation.check_future_perturbation(build, market, whole, cuts, seed),
        *roll_invariance.check_rolls(build, market, whole),
        *as_of.check_as_of(build, market, whole, registry),
        *chunks.check_chunks(build, small, build(small, None), SIZES),
    ]
    times = {
        prefix: len(cuts),
        future_perturbation: len(cuts),
        roll_invariance: roll_invariance.COMPARISONS,
        as_of: 1,
        chunks: len(SIZES),
    }
    return _Found({check.CHECK: each * len(feature_columns(whole)) for check, each in times.items()}, violations)


def _on_regular(build: Build, registry: Mapping[str, Declared]) -> _Found:
    """Memory, and chunks of many bars, on sessions in which every bar exists."""
    market = regular()
    whole = build(market, None)
    violations = [
        *lookback.check_lookback(build, market, whole, registry),
        *degenerate.check_warmup(market, whole, registry),
        *chunks.check_chunks(build, market, whole, (LARGE,)),
    ]
    judged = len(feature_columns(whole))
    return _Found({lookback.CHECK: judged, chunks.CHECK: judged}, violations)


def _on_martingale(build: Build, contracts: int, seed: int) -> tuple[dict[str, Skill], list[str], _Found]:
    """The placebo, and what is the same in every row, on a market as long as the real one."""
    markets = list(martingale(contracts, seed))
    frames = [build(market, None) for market in markets]
    skills = placebo.skills(zip(markets, frames, strict=True))
    sampled = pl.concat([frame[::DEGENERATE_STRIDE] for frame in frames])
    close = pl.concat([market.bars["close"][::DEGENERATE_STRIDE] for market in markets])
    violations = [*placebo.check_placebo(skills), *degenerate.check_degenerate(sampled, close)]
    names = feature_columns(frames[0])
    return skills, names, _Found({placebo.CHECK: 2 * len(names), degenerate.CHECK: len(names)}, violations)
