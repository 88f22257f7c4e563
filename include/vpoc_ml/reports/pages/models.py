"""Registered versions: who is champion, why each was promoted or refused, its evidence, and what it was made from.

The pages read the ledger and the files of the versions: the registry's copy, else those in the folder of the run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.lineage import Lineage
from vpoc_ml.artifacts.metrics import Metrics
from vpoc_ml.artifacts.model_card import StoredModelCard
from vpoc_ml.artifacts.schemas import LIVE_RECORD
from vpoc_ml.artifacts.track_record import TrackRecord
from vpoc_ml.config import RunConfig
from vpoc_ml.config.overrides import load_stored
from vpoc_ml.evaluation.sequential import bounded, log_wealth
from vpoc_ml.evaluation.session_scores import SKILL, session_ic
from vpoc_ml.registry import ledger
from vpoc_ml.registry.ledger import LedgerEntry
from vpoc_ml.registry.promotion import AGAINST
from vpoc_ml.reports.champions import ReigningChampion, ledger_entries, reigning_champions
from vpoc_ml.reports.inline_svg import Chart, Threshold, line_chart
from vpoc_ml.reports.nights import all_nights
from vpoc_ml.reports.site import NoSuchPageError, Query, Site

A = TypeVar("A", bound=JsonArtifact)
STROKES = ("solid", "dashed", "dotted", "dash-dotted")
"""How ``line_chart`` draws its lines, in their order."""


class ModelQuery(Query):
    """``version`` is the number of a registered version."""

    version: int


class ChampionQuery(Query):
    """``key`` names the champion's key, such as ``ES-1m-rank``; "" is the first one."""

    key: str = ""


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version in the list.

    Attributes:
        version: its number.
        key: its key.
        preset: identity of its settings and code.
        registered: when it became a candidate, UTC.
        newest: the newest decision about it; None before the first.
        champion: whether it is the champion.
        live_sessions: sessions in the live record of its preset.
        live_rank_ic: their mean rank IC; None without one.
    """

    version: int
    key: str
    preset: str
    registered: str
    newest: LedgerEntry | None
    champion: bool
    live_sessions: int
    live_rank_ic: float | None


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """Where the files of a version are: the registry's copy of them, and the run's folder in the lake."""

    site: Site
    copy: Path | None
    run: str | None

    def read(self, name: str) -> bytes | None:
        """Return a file; None where there is none."""
        if self.copy is not None and (self.copy / name).is_file():
            return (self.copy / name).read_bytes()
        return None if self.run is None else self.site.lake.storage.read(layout.run_file(self.run, name))

    def artifact(self, name: str, kind: type[A]) -> A | None:
        """Return a JSON file as a model; None where there is none."""
        content = self.read(name)
        return None if content is None else kind.model_validate_json(content)


def models_page(site: Site, query: Query) -> str:
    """Return the list of all versions and the ledger."""
    entries = ledger_entries(site.registry)
    champions = reigning_champions(entries)
    return site.render(
        "models.html",
        champions=champions,
        versions=_listed(site, entries, champions),
        entries=list(reversed(entries)),
    )


def champion_page(site: Site, query: ChampionQuery) -> str:
    """Return the page of a champion, or of no champion yet.

    Raises:
        NoSuchPageError: no model of this key was ever promoted.
    """
    champions = reigning_champions(ledger_entries(site.registry))
    found = [each for each in champions if query.key in ("", each.key)]
    if query.key and not found:
        raise NoSuchPageError(f"Expected the key of a champion; found {query.key}. Open it from Models.")
    if not found:
        return site.render("models.html", champions=(), versions=[], entries=[])
    return model_page(site, ModelQuery(version=found[0].version))


def model_page(site: Site, query: ModelQuery) -> str:
    """Return the page of one version.

    Raises:
        NoSuchPageError: the ledger has no such version.
    """
    entries = ledger_entries(site.registry)
    champions = reigning_champions(entries)
    own = [entry for entry in entries if entry.version == query.version]
    if not own:
        raise NoSuchPageError(f"Expected a registered version; found {query.version}. Open it from Models.")
    files = _files(site, query.version)
    lineage, metrics = files.artifact(layout.LINEAGE, Lineage), files.artifact(layout.METRICS, Metrics)
    stored = files.read(layout.CONFIG)
    config = None if stored is None else load_stored(stored, f"version {query.version}, {layout.CONFIG}")
    preset = next((entry.preset for entry in own if entry.preset is not None), None)
    key = ledger.key_of(own[0], entries)
    champion = next((each for each in champions if each.version == query.version), None)
    return site.render(
        "model.html",
        version=query.version,
        key=key,
        champion=champion,
        champions=champions,
        own=own,
        run=files.run,
        described=files.artifact(layout.BEST_MODEL_CARD, StoredModelCard),
        settings=[] if config is None else _settings(config),
        decision=_decision(site, files.run),
        metrics=metrics,
        record=files.artifact(layout.TRACK_RECORD, TrackRecord),
        lineage=lineage,
        charts=_charts(site, files, config, metrics, f"{key}/{preset}"),
        request=_request(query.version, str(key), champion),
    )


def _listed(site: Site, entries: Sequence[LedgerEntry], champions: Sequence[ReigningChampion]) -> list[ListedVersion]:
    """Return every candidate of the ledger, newest first, with the live record of its preset."""
    newest = {entry.version: entry for entry in entries if entry.action in ledger.DECISIONS}
    reigning = {each.version for each in champions}
    found = []
    for entry in reversed(entries):
        if entry.action != ledger.CANDIDATE or entry.version is None:
            continue
        skill = _live_skill(site, f"{entry.key}/{entry.preset}")
        finite = skill[np.isfinite(skill)]
        found.append(
            ListedVersion(
                version=entry.version,
                key=str(entry.key),
                preset=str(entry.preset),
                registered=entry.time,
                newest=newest.get(entry.version),
                champion=entry.version in reigning,
                live_sessions=len(finite),
                live_rank_ic=float(finite.mean()) if len(finite) else None,
            )
        )
    return found


def _files(site: Site, version: int) -> VersionFiles:
    nights = (night for night in all_nights(site.lake).nights if night.decision and not night.decision.simulated)
    run = next((night.run for night in nights if night.decision and night.decision.version == version), None)
    copy = None if site.registry is None else site.registry / "models" / str(version)
    return VersionFiles(site, copy if copy is not None and copy.is_dir() else None, run)


def _decision(site: Site, run: str | None) -> Decision | None:
    content = None if run is None else site.lake.storage.read(layout.run_file(run, layout.DECISION))
    return None if content is None else Decision.model_validate_json(content)


def _settings(config: RunConfig) -> list[tuple[str, str]]:
    """Return the settings of the model and of its training, by dotted name."""
    chosen: dict[str, dict[str, Any]] = config.model_dump(mode="json", include={"dataset", "model", "training"})
    return [(f"{part}.{name}", json.dumps(value)) for part, each in chosen.items() for name, value in each.items()]


def _request(version: int, key: str, champion: ReigningChampion | None) -> str:
    """Return the configuration for the form of the DAG vpoc_champion: a promotion or, of a champion, a rollback."""
    action = "promote" if champion is None else "rollback"
    return json.dumps({"action": action, "version": version, "key": key, "reason": ""}, indent=2)


def _charts(
    site: Site, files: VersionFiles, config: RunConfig | None, metrics: Metrics | None, preset: str
) -> dict[str, Chart]:
    """Return the charts by their names in the template; those without data are left out."""
    charts: dict[str, Chart] = {}
    stride = 1 if config is None else config.dataset.horizon.later_sessions + 1
    scores = files.read(layout.SESSION_SCORES)
    if scores is not None:
        frame = pl.read_parquet(scores)
        days, skill = [str(day) for day in frame["session"]], frame[SKILL].fill_null(math.nan).to_numpy()
        charts["track"] = evidence_chart(
            "Evidence of skill on the track record, log10 of the odds", days, skill, stride
        )
    live = _live(site, preset)
    if live is not None and live.height > 1:
        days = [str(day) for day in live["session"]]
        charts["live"] = evidence_chart(
            "Evidence on live sessions, log10 of the odds", days, session_ic(live), stride, opposed=True
        )
    if metrics is not None:
        bins = metrics.calibration
        labels = [f"{each.prediction:.3f}" if each.prediction is not None else "n/a" for each in bins]
        charts["calibration"] = _lines(
            "Calibration by decile of the prediction, mean rank",
            labels,
            {"realised": [each.realised for each in bins], "predicted": [each.prediction for each in bins]},
        )
    record = files.artifact(layout.TRACK_RECORD, TrackRecord)
    folds = () if record is None else record.folds
    if names := list(dict.fromkeys(name for fold in folds for name in fold.weights)):
        weights = {name: [fold.weights.get(name) for fold in folds] for name in names}
        title = "Weight of each learner at the end of each fold"
        charts["weights"] = _lines(title, [fold.fold.name for fold in folds], weights)
    return charts


def evidence_chart(
    title: str, days: Sequence[str], skill: np.ndarray[Any, np.dtype[np.float64]], stride: int, *, opposed: bool = False
) -> Chart:
    """Return the e-processes that the mean rank IC is above and, with ``opposed``, below zero, session by session.

    Args:
        title: What the chart shows.
        days: Label of each session, (n,).
        skill: Rank IC of each session, (n,); NaN where it is not known.
        stride: Sessions that a label covers.
        opposed: Show the evidence against too, with the limit from which on a preset is refused.
    """

    def path(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
        return [float(value) for value in log_wealth(bounded(values, stride)) / math.log(10)]

    lines = {"rank IC above zero": path(skill)} | ({"below zero": path(-skill)} if opposed else {})
    return _lines(title, days, lines, [Threshold(AGAINST / math.log(10), "20 to 1", "bad")] if opposed else [])


def _lines(
    title: str, labels: Sequence[str], lines: Mapping[str, Sequence[float | None]], limits: Sequence[Threshold] = ()
) -> Chart:
    """Return a line chart whose title says which line is which."""
    named = ", ".join(f"{name} ({STROKES[k % len(STROKES)]})" for k, name in enumerate(lines))
    return line_chart(f"{title}: {named}", labels, lines, limits)


def _live(site: Site, preset: str) -> pl.DataFrame | None:
    """Return the live record of ``key/preset``; None where there is none, or one of an earlier release."""
    path = None if site.registry is None else site.registry / layout.LIVE / f"{preset}.parquet"
    frame = pl.read_parquet(path) if path is not None and path.is_file() else None
    return None if frame is None or frame.columns != list(LIVE_RECORD) else frame


def _live_skill(site: Site, preset: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    frame = _live(site, preset)
    return np.empty(0) if frame is None else session_ic(frame)
