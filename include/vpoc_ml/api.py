"""The Python interface for notebooks: open a lake, look at what a run made, try a feature, compare runs.

    from vpoc_ml import api

    lake = api.open_lake("data/demo")
    lake.bars("ESH23", session="2023-03-01")

Tables are pandas frames. Times are UTC; a bar is labelled with its start and known 60 s later; sessions are trade dates
of the exchange. Prices are in points, volumes in contracts. What is more than a table is one of the typed models that
the product stores. Nothing here computes anything of its own, and nothing but ``run`` writes into the lake.

Every function raises ``ArtifactError`` or ``MissingInputError`` where the lake does not have what is wanted; the
message says which stage makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from vpoc_ml import environment, pipeline
from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.json_artifact import JsonArtifact
from vpoc_ml.artifacts.leakage_proof import LeakageProof
from vpoc_ml.artifacts.metrics import Metrics, ModelMetrics
from vpoc_ml.artifacts.run_summary import RunSummary
from vpoc_ml.artifacts.track_record import TrackRecord
from vpoc_ml.config import resolve
from vpoc_ml.errors import ArtifactError, InvalidValueError
from vpoc_ml.features.build import build_features
from vpoc_ml.features.registry import known_features
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument
from vpoc_ml.pipeline.active_plugins import refuse_unknown_plugins, use_plugins
from vpoc_ml.pipeline.champion_stages import existing_registry
from vpoc_ml.pipeline.run import read_artifact
from vpoc_ml.pipeline.stages import STAGE_NAMES
from vpoc_ml.reports.charts import gains_chart, learning_chart, profile_chart, track_chart
from vpoc_ml.reports.nights import all_nights
from vpoc_ml.reports.session_chart import SessionPicture, plot_session, read_session, session_days, stored_contracts
from vpoc_ml.scoring.predictions import read_predictions

if TYPE_CHECKING:
    import pandas as pd

    from vpoc_ml.artifacts.model_card import ModelSummary

__all__ = ["Chart", "OpenedLake", "open_lake"]

A = TypeVar("A", bound=JsonArtifact)


@dataclass(frozen=True)
class Chart:
    """A chart of the reports, which a notebook shows. ``uri`` is a data URI with an SVG."""

    uri: str = field(repr=False)

    def _repr_html_(self) -> str:
        return f'<img style="background: white" src="{self.uri}">'


def open_lake(lake: str | Path | None = None) -> OpenedLake:
    """Open a lake and load its plugins.

    Args:
        lake: a folder, or the URL of an object store such as ``s3://bucket/es``, whose credentials come from the
            environment; None: ``VPOC_LAKE``, else ``data`` in the project.

    Raises:
        PluginError: a plugin cannot be used.
    """
    root = environment.lake_uri(lake)
    use_plugins(root)
    return OpenedLake(root)


class OpenedLake:
    """A lake; ``open_lake`` makes it. A run is named as in ``runs``, a contract as in ``contracts``."""

    def __init__(self, root: str) -> None:
        self.root, self._lake = root, Lake(root)

    def __repr__(self) -> str:
        """Return the lake's place."""
        return f"open_lake({self.root!r})"

    def runs(self) -> pd.DataFrame:
        """Return one row a run, the newest first: name, preset, start, state, and the reason of a refusal."""
        nights = all_nights(self._lake).nights
        rows = [each.model_dump(include={"run", "preset", "started", "as_of"}) for each in nights]
        states = [each.decision.state if each.decision else None for each in nights]
        reasons = [each.decision.reason if each.decision else None for each in nights]
        frame = pl.DataFrame(rows, infer_schema_length=None)
        return frame.with_columns(pl.Series("decision", states), pl.Series("reason", reasons)).to_pandas()

    def contracts(self, kind: str = "bars") -> list[str]:
        """Return the contracts that have bars, ``sessions``, ``developing`` or ``features``, by delivery month."""
        return stored_contracts(self._lake, kind)

    def session_days(self, contract: str) -> list[date]:
        """Return the trade dates of a contract that have a volume profile, oldest first."""
        return session_days(self._lake, contract)

    def bars(self, contract: str, session: date | str | None = None) -> pd.DataFrame:
        """Return the minute bars of a contract, of one trade date or of all: ``ts``, OHLC, ``volume``, ``vix``."""
        return self._of_contract("bars", contract, session)

    def sessions(self, contract: str) -> pd.DataFrame:
        """Return one row a session: OHLCV, ``vpoc``, ``vah``, ``val``, and the same of the regular hours."""
        return self._of_contract("sessions", contract, None)

    def developing(self, contract: str, session: date | str | None = None) -> pd.DataFrame:
        """Return ``vpoc``, ``vah`` and ``val`` of the session so far, at the close of each bar."""
        return self._of_contract("developing", contract, session)

    def features(self, contract: str, session: date | str | None = None) -> pd.DataFrame:
        """Return the stored features of a contract: float32, NaN where there is no value."""
        return self._of_contract("features", contract, session)

    def profile(self, contract: str, session: date | str) -> pd.DataFrame:
        """Return the volume profile of a session: ``price`` in points, ``volume`` in contracts, lowest price first."""
        found = read_session(self._lake, contract, _day(session)).profile
        return pl.DataFrame({"price": found.prices, "volume": found.volume}).to_pandas()

    def known_features(self) -> pd.DataFrame:
        """Return one row a feature that can be computed, own ones included: family, formula, window, unit, warm-up."""
        columns = ("name", "family", "formula", "window", "unit", "warmup_sessions", "warmup_bars")
        rows = [[getattr(each, name) for name in columns] for each in known_features().values()]
        return pl.DataFrame(rows, schema=list(columns), orient="row").to_pandas()

    def compute_features(self, contract: str, families: Sequence[str] = ()) -> pd.DataFrame:
        """Compute the features of a contract from its stored bars, with families that no run has selected yet.

        The contract's own bars alone are read, without the history before its roll, so the first sessions have NaN.

        Args:
            contract: code of the contract.
            families: optional families without inputs of their own, such as ``garch``, and families of own features.
        """
        use_plugins(self.root)
        bars, sessions, developing = (self._read(kind, contract) for kind in ("bars", "sessions", "developing"))
        vix = self._lake.read_frame(layout.VIX) if self._lake.manifest(layout.VIX) else None
        traded = instrument(parse_contract(contract).root)
        return build_features(bars, sessions, developing, vix, traded, extras=tuple(families)).to_pandas()

    def prove_features(self, families: Sequence[str]) -> LeakageProof:
        """Run the checks of gate ``leakage`` on families of own features; takes about a minute.

        Look at ``passed``, ``violations`` and ``skills`` of the result.
        """
        use_plugins(self.root)
        config = resolve("nightly", {"features.own": ", ".join(families)})
        refuse_unknown_plugins(config)
        return pipeline.prove_code(config)

    def run(
        self,
        name: str,
        preset: str = "nightly",
        settings: Mapping[str, Any] | None = None,
        until: str = "evaluate",
        *,
        raw: str | Path | None = None,
        vix: str | Path | None = None,
    ) -> RunSummary:
        """Run the stages of a run in this process, up to and including ``until``; unchanged ones skip themselves.

        Args:
            name: name of the run; an existing one is started again.
            preset: named preset.
            settings: settings that differ, by dotted name.
            until: name of the last stage, such as ``features``, ``track-record`` or ``evaluate``.
            raw: folder of the vendor files; None: that of the lake, else the one that an earlier run named.
            vix: VIX file; None likewise.

        Raises:
            ConfigError: an unknown preset, setting or stage.
            GateFailedError: a gate failed.
        """
        if until not in STAGE_NAMES:
            raise InvalidValueError("until", until, f"one of {', '.join(STAGE_NAMES)}")
        now = datetime.now(UTC)
        places = [None if each is None else str(Path(each).absolute()) for each in (raw, vix)]
        inputs = pipeline.recall_inputs(self.root, *places)
        pipeline.start_run(self.root, name, preset, settings, inputs.raw, inputs.vix, now=now)
        pipeline.run_until(self.root, name, until, now)
        return self.summary(name)

    def summary(self, run: str) -> RunSummary:
        """Return what a run did, stage by stage: rows, verdicts of the gates, metrics, decision."""
        return pipeline.summarize(self.root, run)

    def training_set(self, run: str) -> pd.DataFrame:
        """Return the training set of a run: keys, ``split``, label, return, weight, and the features."""
        return self._run_frame(run, layout.TRAINING_SET, "the training set")

    def metrics(self, run: str) -> Metrics:
        """Return the evaluation of a run, with backtest, calibration and costs."""
        return self._run_model(run, layout.METRICS, Metrics)

    def scores(self, run: str) -> pd.DataFrame:
        """Return one row a model, the candidate and each baseline: each metric with the bounds of its interval."""
        return _score_table(self.metrics(run).models).to_pandas()

    def track_record(self, run: str) -> TrackRecord:
        """Return the walk-forward track record of a run: metrics fold by fold, and cumulated gains."""
        return self._run_model(run, layout.TRACK_RECORD, TrackRecord)

    def has_track_record(self, run: str) -> bool:
        """Return whether a run has one: it was evaluated with folds."""
        return self._lake.exists(layout.run_file(run, layout.TRACK_RECORD))

    def folds(self, run: str) -> pd.DataFrame:
        """Return one row a fold and model: sessions that trained and tested it, and its metrics."""
        tables = []
        for each in self.track_record(run).folds:
            period = each.fold.train.last, each.fold.test.first, each.fold.test.last
            named = zip(("train_last", "test_first", "test_last"), period, strict=True)
            own = [pl.lit(each.fold.name).alias("fold"), *(pl.lit(day).alias(name) for name, day in named)]
            tables.append(_score_table(each.models).select(*own, pl.lit(each.sessions).alias("sessions"), pl.all()))
        return (pl.concat(tables) if tables else _score_table({})).to_pandas()

    def track_predictions(self, run: str) -> pd.DataFrame:
        """Return the out-of-sample predictions of a run, row by row, with labels and baselines."""
        return self._run_frame(run, layout.TRACK_RECORD_PREDICTIONS, "the track record")

    def models(self, key: str | None = None) -> list[ModelSummary]:
        """Return the registered versions, of one key such as ``ES-1m-rank`` or of all; none: an empty list."""
        return pipeline.models(self.root, key) if existing_registry(self._lake) else []

    def ledger(self) -> pd.DataFrame:
        """Return the ledger of promotions, oldest entry first; its chain of hashes is checked."""
        registry = existing_registry(self._lake)
        entries = registry.entries() if registry else []
        columns = ["seq", "time", "action", "version", "reasons", "key", "actor"]
        rows = [{name: asdict(each)[name] for name in columns} for each in entries]
        return pl.DataFrame(rows, schema=None if rows else columns, infer_schema_length=None).to_pandas()

    def predictions(self, contract: str | None = None, **wanted: Any) -> pd.DataFrame:
        """Return stored predictions of a registered model; arguments as ``scoring.predictions.read_predictions``."""
        return read_predictions(self.root, contract=contract, **wanted).to_pandas()

    def plot_session(self, contract: str, session: date | str) -> SessionPicture:
        """Draw a session: candles, volume profile, developing levels, naked levels."""
        return plot_session(self._lake, contract, _day(session))

    def plot_profile(self, contract: str, session: date | str) -> Chart:
        """Draw the close of a session beside its volume profile."""
        found = read_session(self._lake, contract, _day(session))
        levels = {name: float(found.levels[name] or 0) for name in ("vpoc", "vah", "val")}
        return Chart(profile_chart(found.bars, levels, instrument(parse_contract(contract).root)))

    def plot_track_record(self, run: str) -> Chart:
        """Draw the cumulated Huber gain of a run's candidate over each baseline, session by session."""
        return Chart(track_chart(self.track_record(run).cumulative))

    def plot_gains(self, run: str) -> Chart:
        """Draw the gain in direction accuracy of a run's candidate over each other model, with intervals."""
        return Chart(gains_chart(self.metrics(run).versus))

    def plot_learning(self, run: str) -> Chart | None:
        """Draw the rank IC over the sessions that trained each fold; None with fewer than three folds."""
        uri = learning_chart(self.track_record(run).folds)
        return None if uri is None else Chart(uri)

    def _read(self, kind: str, contract: str) -> pl.DataFrame:
        code = parse_contract(contract)
        return self._lake.read_frame(layout.contract_key(kind, code.root, code.code))

    def _of_contract(self, kind: str, contract: str, session: date | str | None) -> pd.DataFrame:
        frame = self._read(kind, contract)
        return (frame if session is None else frame.filter(session=_day(session))).to_pandas()

    def _run_frame(self, run: str, name: str, what: str) -> pd.DataFrame:
        folder = Lake(self._lake.location(layout.run_folder(run)))  # a run's tables are described within its folder
        if not folder.exists(name):
            raise ArtifactError(folder.location(name), f"{what} of run {run}", "none")
        return folder.read_frame(name).to_pandas()

    def _run_model(self, run: str, name: str, kind: type[A]) -> A:
        key = layout.run_file(run, name)
        found = read_artifact(self._lake, key, kind, f"{name} of a run")
        if found is None:
            raise ArtifactError(self._lake.location(key), f"{name} of run {run}", "none")
        return found


def _day(session: date | str) -> date:
    """Return a trade date; text is ISO.

    Raises:
        InvalidValueError: it is no date.
    """
    if isinstance(session, date):
        return session
    try:
        return date.fromisoformat(session)
    except ValueError as error:
        raise InvalidValueError("session", session, "a date such as 2023-03-01") from error


def _score_table(models: Mapping[str, ModelMetrics]) -> pl.DataFrame:
    """Return one row a model with three columns a metric: ``rank_ic``, ``rank_ic_low``, ``rank_ic_high``."""
    rows: list[dict[str, Any]] = []
    for name, each in models.items():
        row: dict[str, Any] = {"model": name}
        for metric in ModelMetrics.model_fields:
            interval = getattr(each, metric)
            bounds = (None, None, None) if interval is None else (interval.value, interval.low, interval.high)
            row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), bounds, strict=True))
        rows.append(row)
    floats = {f"{metric}{end}": pl.Float64() for metric in ModelMetrics.model_fields for end in ("", "_low", "_high")}
    return pl.DataFrame(rows, schema={"model": pl.String(), **floats})
