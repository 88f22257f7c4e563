"""The stage that extends the live records: champion and challengers on the sessions since their models were fixed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.metrics import Metrics, read_metrics
from vpoc_ml.artifacts.schemas import LIVE_RECORD
from vpoc_ml.artifacts.stage_results import LiveResult
from vpoc_ml.dataset.quantiles import interpolated_rank
from vpoc_ml.errors import VpocError
from vpoc_ml.evaluation.forecasts import CANDIDATE, Forecast
from vpoc_ml.evaluation.live_record import live_sessions, summarize_live
from vpoc_ml.evaluation.session_scores import SKILL
from vpoc_ml.lake.atomic import replacing
from vpoc_ml.models.bundle import load_model
from vpoc_ml.pipeline.champion_stages import model_store
from vpoc_ml.pipeline.fold_stages import labelled_rows, labelled_sessions
from vpoc_ml.pipeline.run import Run, stage
from vpoc_ml.registry import ledger
from vpoc_ml.registry.store import Champion, ModelStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """A registered version of a preset and when it was fixed."""

    number: int
    fixed: datetime


@stage
def update_live_records(run: Run, now: datetime) -> LiveResult:
    """Add the run's sessions that have ended since to the live records of champion and challengers.

    The newest version of a preset that was registered before a bar began predicts the bar. The stage follows the
    champion's preset and the ``promotion.challengers`` others with the most evidence. It keeps the records of the rest
    as they are. The newest session of a record is predicted again, because more of its bars
    may have arrived. A run of a past night changes nothing.
    """
    if run.as_of is not None:
        return LiveResult(rows_in=0, rows_out=0, skipped=True, reason="a past night has no live record")
    store = model_store(run.lake, run.model_key)
    with store.locked():
        versions = _versions(store, now)
        champion = store.champion()
        followed = _followed(store, versions, champion, run.config.promotion.challengers)
        stored = {preset: read_live(store, preset) for preset in followed}
        first = {
            preset: max([versions[preset][0].fixed.date(), *record["session"].tail(1)])
            for preset, record in stored.items()
        }
        begin = min(first.values(), default=None)
        sessions = labelled_sessions(run).sessions if begin else ()
        days = [day.session for day in sessions if begin is not None and day.session >= begin]
        records, predicted = [], 0
        rows = labelled_rows(run, days[0], days[-1]).frame if days else pl.DataFrame()
        for preset, metrics in followed.items():
            new = pl.DataFrame(schema=LIVE_RECORD)
            if days:
                due = rows.filter(pl.col("session") >= first[preset], pl.col("ret").is_finite())
                new = _predicted(run, store, versions[preset], due)
            record = pl.concat([stored[preset].join(new, on="session", how="anti"), new]).sort("session")
            if not record.equals(stored[preset]):
                with replacing(_path(store, preset)) as temporary:
                    record.write_parquet(temporary)
            predicted += int(new["rows"].sum())
            skill = metrics.evidence.get(SKILL)
            records.append(
                summarize_live(
                    preset,
                    record,
                    version=versions[preset][-1].number,
                    champion=_leads(versions[preset], champion),
                    track_rank_ic=skill.mean if skill else None,
                    horizon=run.config.dataset.horizon.later_sessions + 1,
                )
            )
    return LiveResult(rows_in=predicted, rows_out=predicted, skipped=not predicted, records=tuple(records))


def read_live(store: ModelStore, preset: str) -> pl.DataFrame:
    """Return the live record of a preset (``schemas.LIVE_RECORD``), by session; empty where there is none."""
    path = _path(store, preset)
    stored = pl.read_parquet(path) if path.is_file() else None
    if stored is None or stored.columns != list(LIVE_RECORD):  # one of an earlier release is made again from the lake
        return pl.DataFrame(schema=LIVE_RECORD)
    return stored


def _path(store: ModelStore, preset: str) -> Path:
    return store.folder / layout.LIVE / str(store.key) / f"{preset}.parquet"


def _versions(store: ModelStore, now: datetime) -> dict[str, list[Version]]:
    """Return the candidates of every preset, oldest first, with the times of their ledger entries."""
    found: dict[str, list[Version]] = {}
    for entry in store.entries():
        if entry.action != ledger.CANDIDATE or entry.key != str(store.key):
            continue
        fixed = datetime.fromisoformat(entry.time)
        if entry.preset is not None and entry.version is not None and fixed <= now:
            found.setdefault(entry.preset, []).append(Version(entry.version, fixed))
    return found


def _leads(versions: Sequence[Version], champion: Champion | None) -> bool:
    return champion is not None and any(each.number == champion.version for each in versions)


def _followed(
    store: ModelStore, versions: Mapping[str, Sequence[Version]], champion: Champion | None, challengers: int
) -> dict[str, Metrics]:
    """Return the presets to follow with the metrics of their newest version, the champion's first."""
    known: dict[str, tuple[bool, float, Metrics]] = {}
    for preset, candidates in versions.items():
        try:
            metrics = read_metrics(store.get(candidates[-1].number).folder)
        except VpocError as error:
            log.warning("preset %s is not followed: %s", preset, error)
            continue
        skill = metrics.evidence.get(SKILL)
        known[preset] = (_leads(candidates, champion), skill.log_evidence if skill else 0.0, metrics)
    ordered = sorted(known, key=lambda preset: known[preset][:2], reverse=True)
    most = challengers + any(leads for leads, _, _ in known.values())
    return {preset: known[preset][2] for preset in ordered[:most]}


def _predicted(run: Run, store: ModelStore, versions: Sequence[Version], due: pl.DataFrame) -> pl.DataFrame:
    """Return the live record of the sessions of ``due``, labelled rows by ts; without rows before the first version."""
    parts: list[pl.DataFrame] = []
    for version, following in zip(versions, [*versions[1:], None], strict=True):
        end = pl.lit(True) if following is None else pl.col("ts") < following.fixed
        rows = due.filter(pl.col("ts") >= version.fixed, end)
        if rows.is_empty():
            continue
        model = load_model(store.get(version.number).folder / layout.BEST_MODEL_CARD)
        quantiles = model.model_card.target_quantiles
        if quantiles is None or (absent := [name for name in model.features if name not in rows.columns]):
            why = "its model card has no quantiles" if quantiles is None else f"the run lacks {', '.join(absent)}"
            log.warning("version %d predicts no session of run %s: %s", version.number, run.name, why)
            continue
        rank = np.asarray(model.predict(rows.select(model.features).to_numpy()), dtype=np.float64)
        parts.append(
            rows.select(
                "ts",
                "session",
                "ret",
                pl.Series("y", interpolated_rank(rows["ret"].to_numpy(), np.asarray(quantiles))),
                pl.Series("rank", rank),
                pl.lit(float(model.zero_rank)).alias("zero"),
                pl.lit(version.number).alias("version"),
            )
        )
    if not parts:
        return pl.DataFrame(schema=LIVE_RECORD)
    rows = pl.concat(parts).sort("ts")
    score = Forecast(CANDIDATE, rows["rank"].to_numpy(), rows["zero"].to_numpy())
    newest = rows.group_by("session").agg(pl.col("version").last())
    found = live_sessions(rows, score, run.config.evaluation.huber_delta).join(newest, on="session")
    return found.select(list(LIVE_RECORD)).cast(LIVE_RECORD).sort("session")  # type: ignore[arg-type]
