"""The gates: judge files, store the evidence, tell what failed.

Each ``judge_*`` measures the files in one streaming pass per contract, lets Great Expectations judge all
contracts in one validation, and stores under ``reports_dir``:

    runs/<run>/<gate>.json, runs/<run>/gates.html   verdict and page
    history.parquet/, profiles.parquet/             one file per gate and run, read as one table
    gx/                                             suites and results, from which ``docs.publish`` builds Data Docs

A gate never raises because of bad data: it returns the verdict, and ``raise_if_failed`` ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.gate_report import Verdict
from vpoc_ml.config import DatasetConfig, QualityConfig
from vpoc_ml.errors import GateFailedError, MissingInputError
from vpoc_ml.quality.checks import Check
from vpoc_ml.quality.common import GateInput, conclude
from vpoc_ml.quality.profile import Profile
from vpoc_ml.quality.rules import bars_gate, features_gate, leakage_gate, neighbours, training_set_gate, vix_dates
from vpoc_ml.quality.rules.bars_gate import Quote
from vpoc_ml.quality.rules.features_gate import FeatureBounds
from vpoc_ml.quality.rules.leakage_gate import LeakageCheckResult
from vpoc_ml.quality.rules.plausibility import Known

NEVER = (date.max, date.min)
"""The front period of a contract that never was the front one."""


def validate_bars(
    contracts: Mapping[str, Path],
    *,
    run: str,
    reports_dir: Path,
    now: datetime,
    calendar: pl.DataFrame | Mapping[str, pl.DataFrame],
    tick_size: float,
    quarantined: Mapping[str, int] | None = None,
    front: Mapping[str, tuple[date, date]] | None = None,
    config: QualityConfig | None = None,
    vix: bool = True,
    closes: pl.DataFrame | None = None,
    covariates: Sequence[str] = (),
    price_range: tuple[float, float] | None = None,
    implied: bool = False,
    equity_index: bool = False,
    negative_prices: bool = False,
    due: Mapping[str, date] | None = None,
    daily: pl.DataFrame | None = None,
    quote: Quote | None = None,
) -> Verdict:
    """Judge the bar files of a run.

    Args:
        contracts: Contract code -> Parquet file of its bars.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        calendar: Sessions around the bars as ``market.calendar.sessions`` gives them, for all or by contract.
        tick_size: Smallest price step in points.
        quarantined: Contract code -> rows of its delivery that went to quarantine.
        front: Contract code -> first and last session as the front contract, whose coverage of the calendar
            is judged; a contract that is absent never was the front one. None: judge all sessions.
        config: Thresholds.
        vix: Whether the bars have the VIX.
        closes: VIX closes that the bars were joined with, to judge their age and dates.
        covariates: Columns of further indices, after the VIX.
        price_range: Lowest and highest price in points that the instrument can plausibly have; None: any.
        implied: Whether the VIX measures the instrument's volatility.
        equity_index: Whether the instrument is one, whose neighbouring contracts cost about the same.
        negative_prices: Whether the instrument allows prices at or below 0.
        due: Contract code -> day whose session its bars must reach; a contract that is absent ends where it does.
        daily: Daily figures of the contracts and of others of the instrument (``neighbours.SCHEMA``), to compare them.
        quote: Returns the source lines of a contract's bars with these timestamps; asked about single bad bars only.

    Raises:
        MissingInputError: there is no contract to judge.
    """
    _require(contracts, "bars")
    config = config or QualityConfig()
    profiles = []
    for code, path in sorted(contracts.items()):
        sessions = calendar if isinstance(calendar, pl.DataFrame) else calendar[code]
        period = None if front is None else front.get(code, NEVER)
        known = Known(period, (due or {}).get(code), price_range, implied, closes, negative_prices)
        bad = (quarantined or {}).get(code, 0)
        profile = bars_gate.measure(path, code, sessions, tick_size, bad, known, covariates, config.max_gap_minutes)
        profiles.append(bars_gate.quoted(profile, quote) if quote else profile)
    checks = bars_gate.checks(config, vix=vix, covariates=covariates, negative_prices=negative_prices)
    asked = _asked("bars", sorted(contracts), checks, profiles)
    compared = neighbours.measurements(daily, sorted(contracts), level=equity_index)
    asked = replace(asked, measurements=[*asked.measurements, *compared, vix_dates.future(closes, now)])
    return conclude(asked, run=run, reports_dir=reports_dir, now=now)


def validate_features(
    contracts: Mapping[str, Path],
    *,
    bars: Mapping[str, Path],
    run: str,
    reports_dir: Path,
    now: datetime,
    registry: Mapping[str, FeatureBounds] | None = None,
    names: Sequence[str] = (),
    config: QualityConfig | None = None,
) -> Verdict:
    """Judge the feature files of a run against their bars and the registry's bounds.

    Args:
        contracts: Contract code -> Parquet file of its features.
        bars: Contract code -> Parquet file of its bars.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        registry: Feature name -> hard and soft bounds and warm-up, in column order; None: the feature registry.
        names: Features to judge, of ``registry``; empty: all. The file must have the columns of all either way.
        config: Thresholds.

    Raises:
        MissingInputError: there is no contract to judge.
    """
    _require(contracts, "features")
    config = config or QualityConfig()
    known = _registry() if registry is None else registry
    chosen = {name: known[name] for name in names or known}
    files = sorted(contracts.items())
    profiles = [features_gate.measure(path, code, bars[code], known, chosen) for code, path in files]
    asked = _asked("features", sorted(contracts), features_gate.checks(known, config, chosen), profiles)
    return conclude(asked, run=run, reports_dir=reports_dir, now=now)


def validate_training_set(
    path: Path,
    *,
    features: Sequence[str],
    run: str,
    reports_dir: Path,
    now: datetime,
    calendar: pl.DataFrame,
    dataset: DatasetConfig | None = None,
    config: QualityConfig | None = None,
) -> Verdict:
    """Judge the training set of a run.

    Args:
        path: The Parquet file.
        features: Feature columns in model order.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        calendar: Sessions around the splits (session, minutes), to count the embargo's sessions.
        dataset: Clip and embargo the set was made with.
        config: Thresholds.
    """
    dataset, config = dataset or DatasetConfig(), config or QualityConfig()
    contracts, profiles = training_set_gate.measure(path, features, calendar, dataset)
    checks = training_set_gate.checks(features, dataset, config)
    asked = _asked("training-set", contracts, checks if contracts else [c for c in checks if c.whole_run], profiles)
    return conclude(asked, run=run, reports_dir=reports_dir, now=now)


def validate_leakage(
    contract: str,
    *,
    proved: Sequence[LeakageCheckResult],
    sampled: Sequence[LeakageCheckResult],
    run: str,
    reports_dir: Path,
    now: datetime,
) -> Verdict:
    """Judge what the checks of ``vpoc_ml.leakage`` found.

    Args:
        contract: The contract whose bars were sampled.
        proved: Outcome of each check of the proof.
        sampled: Outcome of each check on the contract's own bars.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
    """
    answers = leakage_gate.measurements(contract, proved, sampled)
    asked = GateInput("leakage", (contract,), leakage_gate.checks(proved, sampled), answers)
    return conclude(asked, run=run, reports_dir=reports_dir, now=now)


def raise_if_failed(verdict: Verdict) -> None:
    """Do nothing for a passed gate.

    Raises:
        GateFailedError: something critical failed; message and verdict tell what, where and since when.
    """
    if not verdict.passed:
        raise GateFailedError(verdict.message(), verdict.to_json())


def _asked(gate: str, contracts: Sequence[str], checks: Sequence[Check], profiles: Sequence[Profile]) -> GateInput:
    measurements = [measurement for profile in profiles for measurement in profile.measurements]
    return GateInput(gate, tuple(contracts), list(checks), measurements, [profile.frame for profile in profiles])


def _registry() -> Mapping[str, FeatureBounds]:
    from vpoc_ml.features.registry import REGISTRY

    return REGISTRY


def _require(contracts: Mapping[str, Path], what: str) -> None:
    if not contracts:
        raise MissingInputError("this run", f"at least one contract's {what}", "Ingest a contract first.")
