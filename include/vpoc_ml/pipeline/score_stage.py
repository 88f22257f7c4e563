"""The stage that scores the champion on the front contract's new bars, and what it refuses to score."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.manifest_details import ScoresDetails
from vpoc_ml.artifacts.metrics import read_metrics
from vpoc_ml.artifacts.run_summary import DataAge
from vpoc_ml.artifacts.schemas import PREDICTIONS
from vpoc_ml.artifacts.stage_results import UNCHANGED, Coverage, ScoreResult
from vpoc_ml.config.settings import ANY_AGE
from vpoc_ml.dataset.assemble import BAR_COLUMNS, label_rows
from vpoc_ml.errors import ArtifactError, RegistryError
from vpoc_ml.evaluation.forecasts import CANDIDATE
from vpoc_ml.features.registry import families_of, known_features, selected_features
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.lake.stored_frames import StoredFrames
from vpoc_ml.market.exchange_calendar import reviewed_range, sessions
from vpoc_ml.models.bundle import LoadedModel, load_model
from vpoc_ml.pipeline.champion_stages import current_champion
from vpoc_ml.pipeline.feature_inputs import History, pair_closes
from vpoc_ml.pipeline.plan_stage import covariate_values, newest_scored, vix_closes
from vpoc_ml.pipeline.roll_stage import with_exact_ratios
from vpoc_ml.pipeline.run import Run, open_run, stage
from vpoc_ml.pipeline.run_sessions import data_age
from vpoc_ml.plugins.registered import digests
from vpoc_ml.registry.store import Champion
from vpoc_ml.reports.sentences import scores_sentence
from vpoc_ml.scoring.batch import ScoringRules, score_bars
from vpoc_ml.scoring.coverage import joined_coverage, measure_coverage, measure_track_coverage
from vpoc_ml.scoring.live import LiveModel, Scorer
from vpoc_ml.scoring.open_session import LiveMarket

log = logging.getLogger(__name__)

LABEL_DELAY = 20
"""Sessions after which every label is known: the longest horizon."""


@dataclass(frozen=True)
class Scored:
    """Scores of one contract: all stored ones, the number of bars they are of and of new scores, and the reason."""

    frame: pl.DataFrame
    bars: int
    added: int
    reason: str | None


@stage
def score(run: Run, now: datetime) -> ScoreResult:
    """Score the champion on every bar of the front contracts after its training data that has no score yet.

    Scores begin after the last label the champion trained or stopped on, so every one is out of sample. They go to
    ``predictions/<key>/v<version>/``, those of a past night to the same folders below the run's own. A stored score is
    never changed, unless the code that scores has. Nothing is scored while bars, VIX or features are older than the
    settings allow, nor by a run that does not compute the champion's features.
    """
    champion = current_champion(run)
    if champion is None:
        note = f"there is no champion of {run.model_key} yet"
        return ScoreResult(rows_in=0, rows_out=0, skipped=True, note=note)
    contracts = run.plan().contracts
    age, model = data_age(run, contracts), load_model(champion.folder / layout.BEST_MODEL_CARD)
    refusal = _refusal(run, model, age)
    if refusal is not None:
        log.warning("%s", refusal)
        own = {"reason": refusal, "note": refusal, "refused": True}
        return ScoreResult.model_validate({"rows_in": 0, "rows_out": 0, "skipped": True, **own, **dict(age)})
    metrics, settings = read_metrics(champion.folder), run.config.scoring
    rules = ScoringRules.of(model.model_card, metrics, settings, run.instrument)
    front = run.lake.read_frame(run.roll_key())
    periods = front.filter(pl.col("contract").is_in(contracts))
    scored = [_score_contract(run, champion, model, rules, period) for period in periods.iter_rows(named=True)]
    frame = pl.concat([pl.DataFrame(schema=PREDICTIONS), *(each.frame for each in scored)])
    reasons = "; ".join(dict.fromkeys(each.reason for each in scored if each.reason))
    result = ScoreResult(
        rows_in=sum(each.bars for each in scored),
        rows_out=frame.height,
        quarantined=sum(each.bars - each.frame.height for each in scored),
        skipped=not reasons,
        reason=reasons or UNCHANGED,
        added=sum(each.added for each in scored),
        abstained=int(frame["abstained"].sum()),
        coverage=_coverage(run, champion, model, periods, frame),
        stated_coverage=settings.coverage if rules.offsets else None,
        key=str(run.model_key),
        version=champion.version,
        scored_at=now.isoformat(),
        newest_bar=age.newest_bar,
        age_sessions=age.age_sessions,
    )
    log.info("%s", scores_sentence(result))
    return result


def live_scorer(lake: str, run: str | None = None) -> Scorer:
    """Return a scorer of the newest front contract that continues the stored bars with the champion.

    Its predictions are those that ``score`` stores for the same bars later, to the bit.

    Args:
        lake: root of the lake.
        run: run with the settings; None: the newest live one that has scored or decided.

    Raises:
        RegistryError: there is no champion.
        ArtifactError: there is no such run, or bars or rolls are missing.
    """
    opened = open_run(lake, run or newest_scored(Lake(lake)))
    champion = current_champion(opened)
    if champion is None:
        raise RegistryError(f"Expected a champion of {opened.model_key}; found none. Promote a model first.")
    model = load_model(champion.folder / layout.BEST_MODEL_CARD)
    rules = ScoringRules.of(model.model_card, read_metrics(champion.folder), opened.config.scoring, opened.instrument)
    periods = opened.lake.read_frame(opened.roll_key()).filter(pl.col("contract").is_in(opened.plan().contracts))
    contract = str(periods.sort("first_session")["contract"][-1])
    bars, manifest = opened.lake.load(opened.key("bars", contract))
    market = LiveMarket(
        contract=contract,
        instrument=opened.instrument,
        bars=bars,
        predecessor=History(opened, contract, opened.lake.manifest(opened.key("features", contract))).predecessor(),
        vix=vix_closes(opened),
        profile=opened.config.profile,
        extras=families_of(opened.config.features),
        pair=pair_closes(opened, manifest),
        covariates=covariate_values(opened),
    )
    return Scorer(LiveModel(model, rules, opened.model_key, champion.version), market)


def predictions_key(run: Run, version: int, contract: str) -> str:
    """Return the lake key of a version's scores of a contract."""
    key = layout.predictions_key(str(run.model_key), version, contract)
    return key if run.as_of is None else layout.run_file(run.name, key)


def _refusal(run: Run, model: LoadedModel, age: DataAge) -> str | None:
    """Return in one sentence why nothing may be scored and what to do; None if all is fresh."""
    found = _absent_features(run, model) or _old_bars(run, age) or _old_vix(run, model, age) or _old_features(run)
    return f"not scored: {found}" if found else None


def _absent_features(run: Run, model: LoadedModel) -> str | None:
    computed = selected_features(families_of(run.config.features), vix=run.uses_vix, covariates=run.covariates)
    absent = [name for name in model.features if name not in computed]
    if not absent:
        return None
    return (
        f"the champion needs {', '.join(absent)}, which this run does not compute; set data.vix, ingest.covariates,"
        " features.extras and features.own as in the champion's run, or promote a model without these features"
    )


def _old_bars(run: Run, age: DataAge) -> str | None:
    allowed = run.config.quality.max_age_sessions
    if allowed == ANY_AGE or age.age_sessions <= allowed:
        return None
    return (
        f"bars are {age.age_sessions} sessions old, quality.max_age_sessions is {allowed}; deliver newer bars or raise"
        " the setting"
    )


def _old_vix(run: Run, model: LoadedModel, age: DataAge) -> str | None:
    closes, allowed = vix_closes(run), run.config.scoring.max_vix_age_sessions
    known = known_features()
    reads_vix = any(name in known and known[name].family == "vix" for name in model.features)
    if closes is None or not reads_vix or allowed == ANY_AGE:
        return None
    bar = datetime.fromisoformat(age.newest_bar)
    day = closes.filter(pl.col("available_at") < bar)["date"].max()
    found = "there is no VIX close before the newest bar"
    if isinstance(day, date):
        missing = _sessions_between(run, day, bar)
        if missing <= allowed:
            return None
        found = f"{missing} sessions lie between the last VIX close, of {day}, and the newest bar's session"
    return f"{found}, scoring.max_vix_age_sessions is {allowed}; deliver a newer VIX file or raise the setting"


def _old_features(run: Run) -> str | None:
    allowed = run.config.scoring.max_feature_lag_minutes
    for contract in run.plan().contracts:
        bars, features = (run.lake.manifest(run.key(kind, contract)) for kind in ("bars", "features"))
        if bars is None or bars.last_ts is None:
            continue
        end = features.last_ts if features else None
        if end is None or _minutes(end, bars.last_ts) > allowed:
            return (
                f"the features of {contract} {f'end at {end}' if end else 'do not exist'} and its bars end at"
                f" {bars.last_ts}, scoring.max_feature_lag_minutes is {allowed}; run vpoc-ml features or raise the"
                " setting"
            )
    return None


def _minutes(first: str, last: str) -> float:
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() / 60


def _sessions_between(run: Run, day: date, bar: datetime) -> int:
    """Return the number of sessions after the trade date ``day`` that were over when ``bar`` began."""
    calendar = run.instrument.calendar
    later = sessions(calendar, max(day, reviewed_range(calendar)[0]), bar.date())
    return later.filter((pl.col("session") > day) & (pl.col("close") <= bar)).height


def _score_contract(
    run: Run, champion: Champion, model: LoadedModel, rules: ScoringRules, period: Mapping[str, Any]
) -> Scored:
    """Add the scores of a contract's new bars to the stored ones."""
    contract = period["contract"]
    key, out = run.key("features", contract), predictions_key(run, champion.version, contract)
    inputs = {"features": run.lake.content_hash(key), "model": champion.fingerprint, "front": str(dict(period))}
    inputs |= digests("models", model.own)
    build_key = BuildKey(inputs, run.config.digest("scoring"), code_digest(score_bars, load_model))
    reason = run.lake.stale_reason(out, build_key)
    if reason is None:
        stored, manifest = run.lake.load(out)
        known = manifest.details_as(ScoresDetails)
        return Scored(stored, known.rows_in if known else stored.height, 0, None)
    in_front = pl.col("session").is_between(period["first_session"], period["last_session"])
    since = model.model_card.learned_until()
    features = run.lake.read_frame(key).filter(in_front & (pl.col("ts") > since))
    closes = run.lake.read_frame(run.key("bars", contract), ["ts", "close"])
    before = _stored_scores(run, out, build_key)
    new = features.join(closes, on="ts", how="left", maintain_order="left")
    if before is not None:
        new = new.join(before, on="ts", how="anti", maintain_order="left")
    scores = score_bars(model, new, rules, key=run.model_key, model_version=champion.version)
    frame = scores.frame if before is None else pl.concat([before, scores.frame]).sort("ts")
    details = ScoresDetails(
        rows_in=frame.height + scores.skipped, quarantined=scores.skipped, abstained=int(frame["abstained"].sum())
    )
    run.lake.write_frame(out, frame, build_key, details.to_json())
    return Scored(frame, details.rows_in, scores.frame.height, reason)


def _stored_scores(run: Run, out: str, build_key: BuildKey) -> pl.DataFrame | None:
    """Return the stored scores of the same model and code; None where there are none or they are damaged."""
    manifest = run.lake.manifest(out)
    if manifest is None or manifest.code != build_key.code or manifest.inputs["model"] != build_key.inputs["model"]:
        return None
    try:
        return run.lake.read_frame(out)
    except ArtifactError as error:
        log.warning("%s: the bars are scored again", error)
        return None


def _coverage(
    run: Run, champion: Champion, model: LoadedModel, periods: pl.DataFrame, scores: pl.DataFrame
) -> Coverage | None:
    """Return the coverage of the newest labelled sessions: those of the scores, then of the track record before."""
    settings = run.config.scoring
    scored = _scored_coverage(run, model, periods, scores)
    missing = settings.coverage_sessions - (scored.sessions if scored else 0)
    before, stored = None, champion.folder / layout.TRACK_RECORD_PREDICTIONS
    if missing > 0 and stored.is_file():
        track = pl.read_parquet(stored, columns=["ts", "session", "y", CANDIDATE])
        track = track.filter(pl.col("ts") < model.model_card.learned_until())
        before = measure_track_coverage(track, settings.coverage, missing)
    return joined_coverage((before, scored))


def _scored_coverage(run: Run, model: LoadedModel, periods: pl.DataFrame, scores: pl.DataFrame) -> Coverage | None:
    """Return the coverage of the newest sessions of these scores whose labels are known."""
    quantiles, newest = model.model_card.target_quantiles, run.config.scoring.coverage_sessions
    if quantiles is None or scores.is_empty():
        return None
    days = scores["session"].unique().sort().tail(newest + LABEL_DELAY)
    recent = scores.filter(pl.col("session").is_in(days.implode()))
    codes = recent["contract"].unique()
    front = with_exact_ratios(periods.filter(pl.col("contract").is_in(codes.implode())))
    bars, features = (
        StoredFrames(run.lake, {each: run.key(kind, each) for each in codes}, columns)
        for kind, columns in (("bars", BAR_COLUMNS), ("features", None))
    )
    labels = label_rows(bars, features, front, run.instrument, run.config).frame.select("ts", "contract", "ret")
    return measure_coverage(recent, labels, quantiles, newest)
