"""The gates as stages: each validates files of the stages before it and ends the run if a critical check failed.

The gate on look-ahead has a module of its own, ``leakage_stage``.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.manifest_details import BarsDetails
from vpoc_ml.artifacts.schemas import DAILY_FIGURES
from vpoc_ml.artifacts.stage_results import BarsGateResult, GateResult, TrainingSetResult
from vpoc_ml.errors import ArtifactError
from vpoc_ml.ingest.row_filters import source_lines_at
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import clip_to_reviewed, contract_sessions, sessions
from vpoc_ml.pipeline.plan_stage import vix_closes
from vpoc_ml.pipeline.run import Run, stage
from vpoc_ml.pipeline.run_sessions import data_age, due_sessions
from vpoc_ml.pipeline.stages import GATES
from vpoc_ml.reports.gates_page import write_gates_page

if TYPE_CHECKING:
    from vpoc_ml.artifacts.gate_report import Verdict


MARGIN = timedelta(days=10)


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
        quote=lambda contract, timestamps: source_lines_at(
            timestamps, run.plan().sources[contract], run.instrument, run.config.ingest
        ),
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    return BarsGateResult.of(verdict, **data_age(run, contracts).to_json())


@stage
def gate_features(run: Run, contracts: list[str]) -> GateResult:
    """Validate the features of every contract against the registry's bounds and warm-ups, and against their bars.

    ``features.names`` limits the checks to those features. A step at a roll that was not measured is a warning.

    Raises:
        GateFailedError: a critical check failed; the error carries the verdict.
    """
    from vpoc_ml.features.registry import for_prices_near_zero, selected_features
    from vpoc_ml.quality.gates import raise_if_failed, validate_features

    registry = selected_features(run.config.features.extras, vix=run.uses_vix, covariates=run.covariates)
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
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
        calendar=sessions(
            calendar, clip_to_reviewed(calendar, first - MARGIN), clip_to_reviewed(calendar, last + MARGIN)
        ),
        dataset=run.config.dataset,
        config=run.config.quality.thresholds,
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    return GateResult.of(verdict)


def published_verdict(run: Run, verdict: Verdict) -> Verdict:
    """Write the run's gates page; return the verdict with the page's URI in the lake, which every machine can reach."""
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
