"""The gates as stages: each validates files of the stages before it and ends the run if a critical check failed.

Gate ``leakage`` reads the leakage proof of the code, made once per build key, and tests a sample of every night.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.leakage_proof import LeakageCheckResult, LeakageProof
from vpoc_ml.artifacts.manifest_details import BarsDetails
from vpoc_ml.artifacts.schemas import DAILY_FIGURES
from vpoc_ml.artifacts.stage_results import UNCHANGED, BarsGateResult, GateResult, LeakageGateResult, TrainingSetResult
from vpoc_ml.config import RunConfig
from vpoc_ml.errors import ArtifactError, VpocError
from vpoc_ml.features.history import required_history
from vpoc_ml.features.registry import families_of, known_features, own_digests, selected_features
from vpoc_ml.ingest.row_filters import source_lines_at
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.code_digest import code_digest, library_versions
from vpoc_ml.lake.mirror import cache_folder
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import clip_to_reviewed, contract_sessions, sessions
from vpoc_ml.pipeline.feature_inputs import History, pair_closes
from vpoc_ml.pipeline.plan_stage import covariate_values, vix_closes
from vpoc_ml.pipeline.run import Run, stage
from vpoc_ml.pipeline.run_sessions import data_age, due_sessions
from vpoc_ml.pipeline.stages import GATES

if TYPE_CHECKING:
    from vpoc_ml.artifacts.gate_report import Verdict
    from vpoc_ml.quality.checks import Quote

log = logging.getLogger(__name__)
MARGIN = timedelta(days=10)
PROVEN = ("vpoc_ml.leakage.prove", "vpoc_ml.leakage.product_builders")
ProofKey = dict[str, str]
KNOWN: dict[str, LeakageProof] = {}  # by build key: a proof is never out of date for its own key


@stage
def gate_bars(run: Run, contracts: list[str]) -> BarsGateResult:
    """Validate the bars of every contract against the calendar, the tick grid and the schema.

    Raises:
        GateFailedError: a critical check failed; the error carries the verdict.
    """
    from vpoc_ml.quality.checks import ContractFacts, MarketFacts
    from vpoc_ml.quality.gates import raise_if_failed, validate_bars

    due = due_sessions(run, contracts)
    facts = {}
    for contract in contracts:
        code, manifest = parse_contract(contract), run.lake.manifest(run.key("bars", contract))
        details = manifest.details_as(BarsDetails) if manifest else None
        if manifest and details is None:
            raise ArtifactError(manifest.key, "the number of quarantined rows in its manifest", "no such number")
        facts[contract] = ContractFacts(
            path=run.lake.local(run.key("bars", contract)),
            calendar=_calendar(run, contract, due.get(contract)),
            quarantined=details.quarantined if details else 0,
            # the scheduled rolls and not the volumes: a contract's verdict must not depend on the others in the lake
            front=(code.previous.scheduled_roll, code.scheduled_roll),
            due=due.get(contract),
        )
    market = MarketFacts(
        tick_size=run.instrument.tick_size,
        price_range=run.instrument.price_range,
        negative_prices=run.instrument.negative_prices,
        equity_index=run.instrument.is_equity_index,
        has_vix=run.uses_vix,
        vix_implied=run.uses_vix and run.instrument.is_equity_index,
        vix_closes=vix_closes(run),
        covariates=run.covariates,
    )
    verdict = validate_bars(
        facts,
        market,
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
        config=run.config.quality,
        daily=daily_figures(run),
        quote=_source_lines(run),
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    return BarsGateResult.of(verdict, **data_age(run, contracts).to_json())


@stage
def gate_sessions(run: Run, contracts: list[str]) -> GateResult:
    """Validate the volume profiles of every contract against its bars, its developing levels and the calendar.

    Raises:
        GateFailedError: a critical check failed; the error carries the verdict.
    """
    from vpoc_ml.quality.gates import raise_if_failed, validate_sessions
    from vpoc_ml.quality.rules.sessions_gate import SessionFacts

    facts = {}
    for contract in contracts:
        code = parse_contract(contract)
        files = {kind: run.lake.local(run.key(kind, contract)) for kind in ("sessions", "developing", "bars")}
        facts[contract] = SessionFacts(
            path=files["sessions"],
            developing=files["developing"],
            bars=files["bars"],
            calendar=_calendar(run, contract, None),
            front=(code.previous.scheduled_roll, code.scheduled_roll),
        )
    verdict = validate_sessions(
        facts,
        tick_size=run.instrument.tick_size,
        value_area=run.config.profile.value_area,
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
        config=run.config.quality.thresholds,
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    return GateResult.of(verdict)


@stage
def gate_features(run: Run, contracts: list[str]) -> GateResult:
    """Validate the features of every contract against the registry's bounds and warm-ups, and against their bars.

    ``features.names`` limits the checks to those features. A step at a roll that was not measured is a warning.

    Raises:
        GateFailedError: a critical check failed; the error carries the verdict.
    """
    from vpoc_ml.features.registry import for_prices_near_zero
    from vpoc_ml.quality.gates import raise_if_failed, validate_features

    registry = selected_features(families_of(run.config.features), vix=run.uses_vix, covariates=run.covariates)
    verdict = validate_features(
        {contract: run.lake.local(run.key("features", contract)) for contract in contracts},
        bars={contract: run.lake.local(run.key("bars", contract)) for contract in contracts},
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
        config=run.config.quality.thresholds,
        registry=for_prices_near_zero(registry) if run.instrument.negative_prices else registry,
        names=run.config.features.names,
        rolls=run.lake.read_frame(run.roll_key()) if run.lake.manifest(run.roll_key()) else None,
        quote=_source_lines(run),
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    return GateResult.of(verdict)


@stage
def gate_training_set(run: Run) -> GateResult:
    """Validate labels, class balance, splits and embargo of the run's training set; many lost rows are a warning.

    Raises:
        GateFailedError: a critical check failed; the error carries the verdict.
    """
    from vpoc_ml.quality.gates import raise_if_failed, validate_training_set

    path, made = run.folder / layout.TRAINING_SET, run.result("training-set", TrainingSetResult)
    days = pl.scan_parquet(path).select(pl.col("session").min().alias("first"), pl.col("session").max().alias("last"))
    first, last = days.collect().row(0)
    calendar = run.instrument.calendar
    verdict = validate_training_set(
        path,
        features=made.features,
        losses=made.losses,
        bars={contract: run.lake.local(run.key("bars", contract)) for contract in run.plan().contracts},
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
        calendar=sessions(
            calendar, clip_to_reviewed(calendar, first - MARGIN), clip_to_reviewed(calendar, last + MARGIN)
        ),
        dataset=run.config.dataset,
        config=run.config.quality.thresholds,
    )
    _keep_distributions(run, verdict.gate)
    raise_if_failed(verdict := published_verdict(run, verdict))
    return GateResult.of(verdict)


def _keep_distributions(run: Run, gate: str) -> None:
    """Store the distribution of every feature on both splits; of a set without one of them, nothing."""
    from vpoc_ml.analysis.split_distributions import split_distributions
    from vpoc_ml.analysis.train_validation_view import open_train_validation_view
    from vpoc_ml.quality.history import write_table

    try:
        view = open_train_validation_view(run.folder)
    except VpocError as error:  # the gate has failed for the same reason
        log.warning("no distributions of the features are kept: %s", error)
        return
    found = split_distributions(view, run.config.model.guard_clip)
    write_table(run.reports, layout.DISTRIBUTIONS, gate, run.name, found)


def _source_lines(run: Run) -> Quote:
    """Return the function that quotes a contract's bars from the delivered files."""

    def quote(contract: str, timestamps: Sequence[datetime]) -> Sequence[str]:
        try:
            sources = run.plan().sources.get(contract, ())
            return source_lines_at(timestamps, sources, run.instrument, run.config.ingest)
        except VpocError as error:  # the files may be gone since: the failure of the gate counts
            log.warning("the delivered rows are not quoted: %s", error)
            return []

    return quote


def published_verdict(run: Run, verdict: Verdict) -> Verdict:
    """Write the run's gates page; return the verdict with the page's URI in the lake, which every machine can reach."""
    from vpoc_ml.reports.gate_pages import write_gates_page

    page = write_gates_page(run.reports, run.name, GATES)
    return verdict.model_copy(update={"report": run.lake.uri(page)})


def _calendar(run: Run, contract: str, due: date | None) -> pl.DataFrame:
    """Return the sessions the contract's bars should lie in, with a margin on both sides, and those up to ``due``."""
    days = run.lake.read_frame(run.key("bars", contract), ["session"])["session"]
    first, last = days.min(), days.max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    calendar = run.instrument.calendar
    begin, finish = (
        clip_to_reviewed(calendar, first - MARGIN),
        clip_to_reviewed(calendar, max(last, due or last) + MARGIN),
    )
    traded = contract_sessions(parse_contract(contract), run.instrument, begin, finish)
    end = traded["session"][-1]
    if due is None or due <= end:
        return traded
    return pl.concat([traded, sessions(calendar, end + timedelta(days=1), due)])


def daily_figures(run: Run) -> pl.DataFrame:
    """Return one row a contract and session (``schemas.DAILY_FIGURES``), by which gate ``bars`` compares contracts.

    Covers every contract of the lake; only bars that changed are read again.
    """

    def daily(bars: pl.DataFrame) -> str:  # sessions as days, timestamps as microseconds since 1970
        figures = bars.group_by("contract", "session", maintain_order=True).agg(
            pl.col("ts").last().to_physical().alias("last"),
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum().cast(pl.Float64),
            pl.len().alias("bars"),
        )
        return json.dumps(figures.with_columns(pl.col("session").to_physical()).select(DAILY_FIGURES.keys()).rows())

    keys = run.lake.keys(run.shared_key(f"bars/{run.config.data.instrument}"))
    columns = ("contract", "session", "ts", "open", "high", "low", "close", "volume")
    texts = [run.lake.cached(key, "daily figures", columns, daily) for key in keys]
    rows = [row for text in texts for row in json.loads(text)]
    plain: dict[str, pl.DataType] = DAILY_FIGURES | {"session": pl.Int32(), "last": pl.Int64()}
    return pl.DataFrame(rows, schema=plain, orient="row").cast(pl.Schema(DAILY_FIGURES))


@stage
def gate_leakage(run: Run, contracts: list[str]) -> LeakageGateResult:
    """Run the leakage checks of the code, and those of the newest front contract's stored features.

    The proof is an artifact, ``leakage/proof.json``. It is made again when the code, a library it computes with, the
    list of features or a setting of profile, features or dataset changes, and read on all other nights. A proof made
    on this machine for the same build key serves every lake.

    Raises:
        GateFailedError: a check found a violation; the error carries the verdict.
    """
    from vpoc_ml.leakage.comparison import check_results
    from vpoc_ml.leakage.prove import CHECK_DESCRIPTIONS
    from vpoc_ml.quality.gates import raise_if_failed, validate_leakage

    proof, reason = stored_proof(run)
    key = run.roll_key()
    rolls = run.lake.read_cached(key).sort("first_session")["contract"].to_list() if run.lake.manifest(key) else []
    fronts = [each for each in rolls if each in contracts]  # without a roll table, the contract that expires last
    contract = fronts[-1] if fronts else max(contracts, key=lambda code: parse_contract(code).expiry)
    verdict = validate_leakage(
        contract,
        proved=check_results(proof.comparisons, proof.violations, CHECK_DESCRIPTIONS),
        sampled=_sampled(run, contract),
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    largest_t = proof.largest_t.model_dump(mode="json")
    return LeakageGateResult.of(verdict, largest_t=largest_t, proof=reason or UNCHANGED)


def prove_code(config: RunConfig) -> LeakageProof:
    """Return the leakage proof of the features, the training set and the folds that ``config`` selects."""
    from vpoc_ml.leakage.product_builders import feature_builder, training_set_builder, walk_forward_builder
    from vpoc_ml.leakage.prove import config_for_proof, prove

    families, own, profile = families_of(config.features), config.features.own, config.profile
    sized = config_for_proof(config)
    return prove(
        feature_builder(profile, own),  # of own features nobody has measured lookback and skill before
        known_features(),
        training_set_builder(sized),
        walk_forward_builder(sized),
        sized.dataset,
        extended=feature_builder(profile, families) if config.features.extras else None,
        history=required_history(families).history,
    )


def stored_proof(run: Run) -> tuple[LeakageProof, str | None]:
    """Return the proof of this code and the reason it was made, None if the lake has it. A failed one is made again.

    A proof for the same build key comes from this process, else from this machine, else it is made.
    """
    build_key = {
        "code": code_digest(*PROVEN),
        "config": run.config.digest("profile", "features", "dataset"),
        "features": ", ".join(selected_features(families_of(run.config.features))),
        "own features": ", ".join(own_digests(run.config.features.own).values()),
        "libraries": ", ".join(f"{name} {version}" for name, version in library_versions(*PROVEN).items()),
    }
    stored = _parse(run.lake.read_checksummed_json(layout.LEAKAGE_PROOF))
    reason = _stale_reason(stored, build_key)
    if stored is not None and reason is None:
        return stored, None
    with run.lake.writing("leakage"):
        digest = hashlib.sha256(json.dumps(build_key, sort_keys=True).encode()).hexdigest()[:16]
        local = cache_folder() / "proofs" / f"{digest}.json"
        proof = KNOWN.get(digest)
        if proof is None:
            with suppress(OSError, ValueError):  # not there, or damaged: a new proof replaces it
                remembered = _parse(json.loads(local.read_text()))
                proof = remembered if _stale_reason(remembered, build_key) is None else None
        if proof is None:
            proof = prove_code(run.config).model_copy(update={"build_key": build_key})
            write_json(local, proof.to_json())
        if proof.passed:
            KNOWN[digest] = proof
        run.lake.write_checksummed_json(layout.LEAKAGE_PROOF, proof.to_json())
    return proof, reason


def _parse(stored: Any) -> LeakageProof | None:
    """Return a stored proof; None where there is none, or one that this version cannot read."""
    try:
        return LeakageProof.model_validate(stored)
    except ValidationError:
        return None


def _stale_reason(stored: LeakageProof | None, build_key: ProofKey) -> str | None:
    """Return the reason why a stored proof is not valid for this build key; None when it is."""
    if stored is None:
        return "new"
    if not stored.passed:
        return "the stored proof failed"
    changed = sorted(name for name in build_key if stored.build_key.get(name) != build_key[name])
    return f"changed: {', '.join(changed)}" if changed else None


def _sampled(run: Run, contract: str) -> list[LeakageCheckResult]:
    """Return the results of the nightly sample: stored features compared with those of fewer and of other bars."""
    from vpoc_ml.leakage.comparison import Market, check_results
    from vpoc_ml.leakage.invariance import check_sample
    from vpoc_ml.leakage.product_builders import feature_builder, streamed
    from vpoc_ml.leakage.prove import CHECK_DESCRIPTIONS

    features, manifest = run.lake.load(run.key("features", contract))
    bars, described = run.lake.load(run.key("bars", contract))
    predecessor = History(run, contract, manifest).predecessor()
    pair = pair_closes(run, described)
    market = Market(bars, vix_closes(run), run.instrument, predecessor, pair, covariate_values(run))
    extras, profile = families_of(run.config.features), run.config.profile

    found = check_sample(
        feature_builder(profile, extras),
        lambda given, rows, skip: streamed(given, rows, profile, extras, skip),
        market,
        features,
        seed=int(hashlib.sha256(run.name.encode()).hexdigest()[:8], 16),
        history=required_history(extras).history,
    )
    return check_results(found.comparisons, found.violations, CHECK_DESCRIPTIONS)
