"""The gates: each function measures files, validates the measurements, stores the results and returns a verdict.

Measuring takes one streaming pass per contract; Great Expectations validates all contracts at once. A gate stores
under ``reports_dir``:

    runs/<run>/<gate>.json                verdict
    history.parquet/, profiles.parquet/   one file per gate and run, read as one table
    gx/                                   suites and results, from which the Data Docs are built

``vpoc_ml.reports`` makes the pages from these files. A gate never raises because of bad data: it returns the verdict,
and ``raise_if_failed`` ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import ALL, SEVERITIES, Failure, Severity, Verdict, safe_name
from vpoc_ml.artifacts.leakage_proof import LeakageCheckResult
from vpoc_ml.artifacts.stage_results import RowLoss
from vpoc_ml.config import DatasetConfig, MonitoringConfig, QualityConfig, QualityThresholds
from vpoc_ml.errors import GateFailedError, MissingInputError
from vpoc_ml.features.registry import REGISTRY
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.quality import history
from vpoc_ml.quality.causes import find_causes
from vpoc_ml.quality.checks import NOT_MEASURED, ContractFacts, GateInput, MarketFacts, Quote
from vpoc_ml.quality.failing_rows import Bars, failing_rows
from vpoc_ml.quality.own_checks import measure_own
from vpoc_ml.quality.rules import (
    bars_gate,
    candidate_gate,
    features_gate,
    leakage_gate,
    monitoring_gate,
    neighbours,
    predictions_gate,
    sessions_gate,
    training_set_gate,
    vix_dates,
)
from vpoc_ml.quality.rules.candidate_gate import CandidateFacts
from vpoc_ml.quality.rules.features_gate import FeatureBounds
from vpoc_ml.quality.rules.predictions_gate import ScoresFacts
from vpoc_ml.quality.rules.sessions_gate import SessionFacts

_COLUMN = {"contract": pl.String(), "column": pl.String()}


def validate_bars(
    contracts: Mapping[str, ContractFacts],
    market: MarketFacts,
    *,
    run: str,
    reports_dir: Path,
    now: datetime,
    config: QualityConfig | None = None,
    daily: pl.DataFrame | None = None,
    quote: Quote | None = None,
) -> Verdict:
    """Validate the bar files of a run.

    Args:
        contracts: Contract code -> its file and what is known of it.
        market: What is known of the instrument.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        config: Thresholds.
        daily: Daily figures (``schemas.DAILY_FIGURES``) of the contracts and of others of the instrument, to compare
            neighbouring contracts.
        quote: Returns the source lines of a contract's bars with these timestamps; called for single bad bars only.

    Raises:
        MissingInputError: there is no contract.
    """
    codes = _require_contracts(contracts, "bars")
    config = config or QualityConfig()
    profiles = [bars_gate.measure(code, contracts[code], market, config.thresholds.max_gap_minutes) for code in codes]
    if quote is not None:
        profiles = bars_gate.with_source_lines(profiles, quote)
    measurements = [each for profile in profiles for each in profile.measurements]
    measurements += neighbours.measurements(daily, codes, level=market.equity_index)
    measurements.append(vix_dates.future(market.vix_closes, now))
    checks, frames = bars_gate.checks(config, market), [profile.frame for profile in profiles]
    files = {code: contracts[code].path for code in codes}
    changed = config.thresholds.changed
    gate_input = GateInput("bars", codes, checks, measurements, frames, changed, files, quote=quote)
    return validate_and_store(_with_own(gate_input, _scans(files)), run, reports_dir, now)


def validate_sessions(
    contracts: Mapping[str, SessionFacts],
    *,
    tick_size: float,
    value_area: float,
    run: str,
    reports_dir: Path,
    now: datetime,
    config: QualityThresholds | None = None,
) -> Verdict:
    """Validate the volume profiles of a run's sessions in themselves, against the bars and the levels at every bar.

    Args:
        contracts: Contract code -> its files, calendar and front period.
        tick_size: Of the instrument, in points.
        value_area: Share of the volume that a value area holds at least.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        config: Thresholds.

    Raises:
        MissingInputError: there is no contract.
    """
    codes = _require_contracts(contracts, "sessions")
    config = config or QualityThresholds()
    profiles = [sessions_gate.measure(code, contracts[code], tick_size, value_area) for code in codes]
    measurements = [each for profile in profiles for each in profile.measurements]
    frames = [profile.frame for profile in profiles]
    bars = {code: contracts[code].bars for code in codes}
    gate_input = GateInput("sessions", codes, sessions_gate.checks(config), measurements, frames, config.changed, bars)
    files = {code: contracts[code].path for code in codes}
    return validate_and_store(_with_own(gate_input, _scans(files)), run, reports_dir, now)


def validate_features(
    contracts: Mapping[str, Path],
    *,
    bars: Mapping[str, Path],
    run: str,
    reports_dir: Path,
    now: datetime,
    registry: Mapping[str, FeatureBounds] = REGISTRY,
    names: Sequence[str] = (),
    rolls: pl.DataFrame | None = None,
    config: QualityThresholds | None = None,
    quote: Quote | None = None,
) -> Verdict:
    """Validate the feature files of a run against their bars and the registry's bounds.

    Args:
        contracts: Contract code -> Parquet file of its features.
        bars: Contract code -> Parquet file of its bars.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        registry: Feature name -> hard and soft bounds and warm-up, in column order.
        names: Features of ``registry`` to check; empty: all. The file must have the columns of all either way.
        rolls: The roll table, whose steps are checked; None: no such check.
        config: Thresholds.
        quote: Returns the source lines of a contract's bars; called for bars that explain failures only.

    Raises:
        MissingInputError: there is no contract.
    """
    codes = _require_contracts(contracts, "features")
    config = config or QualityThresholds()
    chosen = {name: registry[name] for name in names or registry}
    profiles = [features_gate.measure(contracts[code], code, bars[code], registry, chosen) for code in codes]
    measurements = [each for profile in profiles for each in profile.measurements]
    checks, frames = features_gate.checks(registry, config, chosen), [profile.frame for profile in profiles]
    if rolls is not None:
        checks.append(features_gate.roll_check())
        measurements += features_gate.roll_measurements(codes, rolls)

    def rows_of(contract: str, column: str, check: str) -> pl.DataFrame | None:
        if column not in chosen or check not in ("soft", "beyond"):
            return None
        frame = next(profile.frame for profile in profiles if profile.contract == contract)
        bounds = features_gate.usual_bounds(chosen[column], frame.filter(column=column), check)
        return None if bounds is None else features_gate.unusual_rows(contracts[contract], column, bounds)

    gate_input = GateInput("features", codes, checks, measurements, frames, config.changed, bars, rows_of, quote)
    return validate_and_store(_with_own(gate_input, _scans(contracts)), run, reports_dir, now)


def validate_training_set(
    path: Path,
    *,
    features: Sequence[str],
    run: str,
    reports_dir: Path,
    now: datetime,
    calendar: pl.DataFrame,
    dataset: DatasetConfig | None = None,
    losses: Sequence[RowLoss] = (),
    bars: Mapping[str, Path] | None = None,
    config: QualityThresholds | None = None,
) -> Verdict:
    """Validate the training set of a run.

    Args:
        path: The Parquet file.
        features: Feature columns in model order.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        calendar: Sessions around the splits (session, minutes), to count the embargo's sessions.
        dataset: Clip and embargo of the set.
        losses: Rows that warm-ups cost, by contract; none: no such check.
        bars: Contract code -> its bar file, whose bars around defective rows are kept.
        config: Thresholds.
    """
    dataset, config = dataset or DatasetConfig(), config or QualityThresholds()
    codes, profiles = training_set_gate.measure(path, features, calendar, dataset)
    checks = training_set_gate.checks(features, dataset, config)
    checks = checks if codes else [check for check in checks if check.whole_run]
    measurements = [each for profile in profiles for each in profile.measurements]
    if losses:
        checks.append(training_set_gate.loss_check())
        measurements.append(training_set_gate.loss_measurement(losses))
    frames = [profile.frame for profile in profiles]
    gate_input = GateInput("training-set", tuple(codes), checks, measurements, frames, config.changed, bars or {})
    tables = {code: pl.scan_parquet(path).filter(pl.col("contract") == code) for code in codes}
    return validate_and_store(_with_own(gate_input, tables), run, reports_dir, now)


def validate_leakage(
    contract: str,
    *,
    proved: Sequence[LeakageCheckResult],
    sampled: Sequence[LeakageCheckResult],
    run: str,
    reports_dir: Path,
    now: datetime,
) -> Verdict:
    """Validate the results of the checks of ``vpoc_ml.leakage``.

    Args:
        contract: The contract whose bars were sampled.
        proved: Result of each check of the proof.
        sampled: Result of each check on the contract's own bars.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
    """
    checks = leakage_gate.checks(proved, sampled)
    measurements = leakage_gate.measurements(contract, proved, sampled)
    return validate_and_store(GateInput("leakage", (contract,), checks, measurements), run, reports_dir, now)


def validate_candidate(
    facts: CandidateFacts, contracts: Sequence[str], *, run: str, reports_dir: Path, now: datetime
) -> Verdict:
    """Validate a trained model: its weights, its predictions and its training.

    Args:
        facts: What is known of the model.
        contracts: Contracts of the run.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
    """
    measured = candidate_gate.measurements(facts)
    gate_input = GateInput("candidate", tuple(contracts), candidate_gate.CHECKS, measured)
    return validate_and_store(gate_input, run, reports_dir, now)


def validate_predictions(
    facts: ScoresFacts, contracts: Sequence[str], *, run: str, reports_dir: Path, now: datetime
) -> Verdict:
    """Validate the champion's newest scores.

    Args:
        facts: The scores and what is known of them.
        contracts: Contracts of the run.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
    """
    measured = predictions_gate.measurements(facts)
    gate_input = GateInput("predictions", tuple(contracts), predictions_gate.CHECKS, measured)
    return validate_and_store(gate_input, run, reports_dir, now)


def validate_monitoring(
    facts: monitoring_gate.Facts,
    contracts: Sequence[str],
    *,
    run: str,
    reports_dir: Path,
    now: datetime,
    config: MonitoringConfig,
) -> Verdict:
    """Validate the newest sessions against the champion's training rows, and what is known of the champion.

    Args:
        facts: What was measured.
        contracts: Contracts of the run.
        run: Name of the run.
        reports_dir: Folder of all reports.
        now: Time of the validation, aware.
        config: The settings that the limits were made of.
    """
    changed = monitoring_gate.changed_settings(MonitoringConfig().model_dump(), config.model_dump())
    checks, measurements = monitoring_gate.gate_checks(facts), monitoring_gate.gate_measurements(facts)
    gate_input = GateInput("monitoring", tuple(contracts), checks, measurements, (), changed)
    return validate_and_store(gate_input, run, reports_dir, now)


def raise_if_failed(verdict: Verdict) -> None:
    """Do nothing for a passed gate.

    Raises:
        GateFailedError: something critical failed; message and verdict say what, where and since when.
    """
    if not verdict.passed:
        raise GateFailedError(verdict.message(), verdict.to_json())


def validate_and_store(gate_input: GateInput, run: str, reports_dir: Path, now: datetime) -> Verdict:
    """Validate the measurements of a gate with Great Expectations, store verdict, history and column profiles.

    A check without a measurement fails, unless the file or one of its columns could not be read: then only that
    failure is reported.
    """
    from vpoc_ml.quality.validate import validate  # great_expectations takes seconds to import

    results, data_docs = validate(gate_input, run=run, now=now, folder=reports_dir / "gx")
    worst: dict[tuple[str, str, str], tuple[Severity, str, str]] = {}
    for result in results:
        rule = result.rule
        severity = "critical" if result.error else rule.severity
        for contract in result.contracts:
            key = (contract, rule.column, rule.check)
            if key not in worst or SEVERITIES.index(severity) < SEVERITIES.index(worst[key][0]):
                worst[key] = (severity, rule.expected, result.error)
    measured = {(each.contract, each.column, each.check): each for each in gate_input.measurements}
    failures = []
    for key, (severity, expected, error) in worst.items():
        found: dict[str, object] = {"share": 1.0, "note": f"the check raised: {error}" if error else NOT_MEASURED}
        if key in measured and not error:
            found = measured[key].reported()
        names = dict(zip(("contract", "column", "check"), key, strict=True))
        failures.append(Failure.model_validate({**names, "severity": severity, "expected": expected, **found}))
    unreadable = {f.contract for f in failures if f.check in ("readable", "schema") and f.count}
    failures = [f for f in failures if f.note != NOT_MEASURED or not unreadable & {f.contract, ALL}]
    failures.sort(key=lambda failure: (SEVERITIES.index(failure.severity), failure.contract, -failure.share))
    folder = reports_dir / "runs" / safe_name(run)
    verdict = Verdict(
        gate=gate_input.gate,
        run=run,
        contracts=gate_input.contracts,
        checks=sum(len(check.scope(gate_input.contracts)) for check in gate_input.checks),
        failures=tuple(failures),
        report=str(folder / layout.GATES_PAGE),
        data_docs=data_docs,
        changed_thresholds=gate_input.changed_thresholds,
        own_texts=gate_input.own_texts,
    )
    severities = {key: found[0] for key, found in worst.items()}
    rows = failing_rows(gate_input, severities)
    # no single bar explains a column without any value, so its bars are not read
    empty = pl.DataFrame([key[:2] for key in severities if key[2] == "empty"], schema=_COLUMN, orient="row")
    explained = rows.join(empty, on=list(_COLUMN), how="anti")
    bars = Bars.read(gate_input.bars, explained)
    causes = find_causes(explained, bars, {key: each.count for key, each in measured.items()}, gate_input.quote)
    verdict = verdict.model_copy(update={"causes": causes})
    kept = {layout.FAILING_ROWS: rows, layout.FAILING_BARS: bars.around(explained, causes)}
    history.store(reports_dir, verdict, gate_input, severities, kept, now=now)
    write_json(folder / f"{gate_input.gate}.json", verdict.to_json())
    return verdict


def _scans(files: Mapping[str, Path]) -> dict[str, pl.LazyFrame]:
    return {contract: pl.scan_parquet(path) for contract, path in files.items()}


def _with_own(gate_input: GateInput, tables: Mapping[str, pl.LazyFrame]) -> GateInput:
    """Add the checks of plugins, made on ``tables`` by contract."""
    own = measure_own(gate_input.gate, tables)
    return replace(
        gate_input,
        checks=[*gate_input.checks, *(own.checks if gate_input.contracts else ())],
        measurements=[*gate_input.measurements, *own.measurements],
        own_texts=own.texts,
    )


def _require_contracts(contracts: Mapping[str, object], kind: str) -> tuple[str, ...]:
    """Return the contract codes in order."""
    if not contracts:
        raise MissingInputError("this run", f"at least one contract's {kind}", "Ingest a contract first.")
    return tuple(sorted(contracts))
