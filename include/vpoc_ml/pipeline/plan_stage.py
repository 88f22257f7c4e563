"""The first two stages: resolve and store the configuration, then find the input."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.sources import Source, UnreadableFile
from vpoc_ml.artifacts.stage_results import Plan, RecalledInputs, StartedRun
from vpoc_ml.config import RunConfig, change, resolve
from vpoc_ml.dataset.splits import MIN_PART_SESSIONS, sessions_needed
from vpoc_ml.errors import (
    ArtifactError,
    ConfigError,
    InvalidValueError,
    MissingInputError,
    UnreadableFileError,
    UnreviewedSessionsError,
)
from vpoc_ml.features.registry import (
    COVARIATES,
    REGISTRY,
    covariate_features,
    families_of,
    known_features,
    own_features,
    selected_features,
)
from vpoc_ml.ingest.discover import Discovery, discover
from vpoc_ml.ingest.row_filters import (
    BAR_LENGTH,
    describe_reviewed_range,
    first_timestamp,
    has_reviewed_bar,
)
from vpoc_ml.ingest.vix.covariates import covariates
from vpoc_ml.ingest.vix.index_files import read_index
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.lake.code_digest import code_digest
from vpoc_ml.lake.store import BuildKey, Lake
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import reviewed_range
from vpoc_ml.pipeline.active_plugins import own_texts, refuse_unknown_plugins, use_plugins
from vpoc_ml.pipeline.roll_stage import open_interest_file, stated_rolls
from vpoc_ml.pipeline.run import Run, open_run, stage
from vpoc_ml.plugins.registered import current, digests


def start_run(
    lake: str,
    run: str,
    preset: str = "nightly",
    overrides: Mapping[str, Any] | None = None,
    raw: str | None = None,
    vix: str | None = None,
    now: datetime | None = None,
    as_of: datetime | None = None,
) -> StartedRun:
    """Resolve the configuration and store it as ``runs/<run>/config.json``; every later stage reads that copy.

    Args:
        lake: root of the lake.
        run: name of the run; letters, digits, dot, dash, underscore.
        preset: named preset.
        overrides: settings by dotted key.
        raw: folder of vendor files; the lake's ``raw/`` when None.
        vix: VIX file; one found in the raw folder when None.
        now: the moment the run starts, timezone-aware.
        as_of: the moment whose knowledge the run is limited to, timezone-aware and not after ``now``; None for a
            live night.

    Raises:
        ConfigError: unknown preset, key, feature or plugin, a broken plugin, impossible value, a run name that cannot
            be a folder, an impossible ``as_of``, or shares and an embargo that no number of sessions up to 5000
            satisfies.
    """
    _refuse_name(run)
    if now is None or now.tzinfo is None:
        raise ConfigError(f"Expected a timezone-aware start time; was {now!r}. Pass datetime.now(UTC).")
    if as_of is not None and (as_of.tzinfo is None or as_of > now):
        raise InvalidValueError("as_of", as_of.isoformat(), f"a timezone-aware moment up to {now.isoformat()}")
    config = resolve(preset, overrides)
    use_plugins(lake)
    refuse_unknown_plugins(config)
    _refuse_unknown_features(config)
    sessions_needed(config.dataset, MIN_PART_SESSIONS)
    moments = {"started": now.isoformat(), "as_of": as_of.astimezone(UTC).isoformat() if as_of else None}
    return _store_start(Lake(lake), run, config, {"raw": raw, "vix": vix, **moments})


def recall_inputs(lake: str, raw: str | None, vix: str | None) -> RecalledInputs:
    """Fill in what a command line leaves out from the newest run of the lake that named it.

    The raw folder is recalled only while the lake's own ``raw/`` is empty, the VIX file only from a run with the same
    raw folder. What no longer exists is not recalled.

    Args:
        lake: root of the lake.
        raw: folder of vendor files; None where the command line names none.
        vix: VIX file; None where the command line names none.
    """
    opened = Lake(lake)
    started = _started_runs(opened)
    recalled = {}
    if raw is None and not opened.names(layout.RAW):
        known = ((name, inputs["raw"]) for name, inputs in started if inputs["raw"] and Path(inputs["raw"]).is_dir())
        if found := next(known, None):
            recalled["raw folder"], raw = found, found[1]
    if vix is None:
        same = ((name, inputs["vix"]) for name, inputs in started if inputs["vix"] and inputs["raw"] == raw)
        if found := next((each for each in same if Path(each[1]).is_file()), None):
            recalled["VIX file"], vix = found, found[1]
    notes = tuple(f"{what} of run {name}: {path}" for what, (name, path) in recalled.items())
    return RecalledInputs(raw=raw, vix=vix, notes=notes)


def newest_run(lake: str) -> str:
    """Return the name of the run of a lake that was started last.

    Raises:
        ArtifactError: there is none.
    """
    opened = Lake(lake)
    started = _started_runs(opened)
    if not started:
        raise ArtifactError(opened.location(layout.RUNS), "a run (start one with vpoc-ml run)", "none")
    return started[0][0]


def _started_runs(lake: Lake) -> list[tuple[str, dict[str, str | None]]]:
    """Return name and inputs of the runs that were started, newest first."""
    stored = {name: lake.read_json(layout.run_file(name, layout.INPUTS)) for name in lake.storage.folders(layout.RUNS)}
    started = [(name, inputs) for name, inputs in stored.items() if inputs and inputs.get("started")]
    return sorted(started, key=lambda each: datetime.fromisoformat(each[1]["started"]), reverse=True)


def start_scoring(
    lake: str,
    run: str,
    now: datetime,
    *,
    like: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    raw: str | None = None,
    vix: str | None = None,
) -> StartedRun:
    """Start a run that scores new bars, with the settings and the input of an earlier run.

    Args:
        lake: root of the lake.
        run: name of the run.
        now: the moment the run starts, timezone-aware.
        like: the earlier run; None: the newest live one that has scored or decided.
        overrides: settings that differ, by dotted key.
        raw: folder of vendor files; that of the earlier run when None.
        vix: VIX file; that of the earlier run when None.

    Raises:
        ConfigError: an unknown key or an impossible value, or a run name that cannot be a folder.
        ArtifactError: there is no such run.
    """
    _refuse_name(run)
    opened = Lake(lake)
    source = open_run(lake, like or newest_scored(opened))
    config = change(source.config, overrides or {})
    places = {"raw": raw or source.inputs["raw"], "vix": vix or source.inputs["vix"]}
    return _store_start(opened, run, config, {**places, "started": now.isoformat(), "as_of": None})


def newest_scored(lake: Lake) -> str:
    """Return the name of the newest live run that has scored or decided.

    Raises:
        ArtifactError: there is none.
    """
    keys = set(lake.names(layout.RUNS, ".json"))
    names = {key.split("/")[1] for key in keys}
    done = [name for name in names if {layout.stage_key(name, each) for each in ("score", "decide")} & keys]
    inputs = {name: lake.read_json(layout.run_file(name, layout.INPUTS)) or {} for name in done}
    live = [name for name in done if inputs[name].get("started") and not inputs[name].get("as_of")]
    if not live:
        expected = "a run that has scored or decided (start one with vpoc-ml run, or name one with --like)"
        raise ArtifactError(lake.location(layout.RUNS), expected, "none")
    return max(live, key=lambda name: datetime.fromisoformat(inputs[name]["started"]))


def _refuse_name(run: str) -> None:
    if run != layout.run_name(run):
        raise InvalidValueError(
            "run", run, f"a name of letters, digits, '.', '-' and '_', such as {layout.run_name(run)!r}"
        )


def _store_start(lake: Lake, run: str, config: RunConfig, inputs: Mapping[str, str | None]) -> StartedRun:
    key = layout.run_file(run, layout.CONFIG)
    lake.write_text(key, config.to_json() + "\n")
    lake.write_json(layout.run_file(run, layout.INPUTS), {**inputs, "plugins": current().fingerprint})
    if (texts := own_texts(config)).features:
        lake.write_json(layout.run_file(run, layout.OWN_FEATURES), texts.to_json())
    uri = str(lake.location(key))
    return StartedRun(run=run, preset=config.preset, config_hash=config.digest(), config_uri=uri, config=config)


def _refuse_unknown_features(config: RunConfig) -> None:
    """Refuse names in ``features.names`` that no feature of the run has; suggest the nearest."""
    columns = [each.column for each in covariates(config.ingest)]
    known = selected_features(families_of(config.features), covariates=columns)
    unknown = [name for name in config.features.names if name not in known]
    if not unknown:
        return
    possible = known | known_features() | covariate_features(columns)
    hints = []
    for name in unknown:
        if name in possible:
            setting = "own" if name in own_features() else "extras"
            hints.append(f"{name} needs features.{setting}={possible[name].family}")
        elif near := difflib.get_close_matches(name.lower(), possible, n=1):
            hints.append(f"did you mean {near[0]} for {name}?")
    expected = f"names of features ({', '.join(hints) or 'docs/features.md lists them'})"
    raise InvalidValueError("features.names", ", ".join(unknown), expected)


@stage
def plan_contracts(run: Run) -> Plan:
    """Find the raw files and the VIX closes; return the contracts to build and the unreadable files.

    Raises:
        MissingInputError: the folder is missing, nothing in it is readable, a required contract
            is missing, or there is no VIX file though the run uses the VIX, no file of open interest
            though it rolls by that, or no file that ``data.rolls`` names.
        UnreadableFileError: the VIX file is in no known format, or the file of ``data.rolls`` cannot be read.
        UnreviewedSessionsError: no contract has a bar of a session whose hours were reviewed.
        InvalidValueError: ``features.names`` names features of the VIX in a run without it.
    """
    folder = run.raw
    own = " ".join(digests("readers").values())
    how = f"{run.instrument.digest} {run.config.digest('ingest')} {code_digest(discover)} {own}".rstrip()

    def remember(path: Path, look: Callable[[], str]) -> str:
        return run.lake.cached_for_file(path, f"listing {path} in {folder} {how}", look)

    found = discover(folder, run.instrument, run.config.ingest, remember)
    selected = _selected(run, folder, found)
    reviewed_sources = _reviewed_sources(run, folder, selected)
    left_out = [
        f"{code} left out: {describe_reviewed_range(run.instrument)}"
        for code in selected
        if code not in reviewed_sources
    ]
    sources = _known_sources(run, folder, reviewed_sources)
    _refuse_absent_indices(run)
    open_interest_file(run)
    stated_rolls(run)
    vix_file = _store_vix(run, folder, found) if run.uses_vix else None
    others = _store_covariates(run, folder, found)
    unused = [f"{path.name}: VIX closes that this run does not use" for path in found.vix if path != vix_file]
    return Plan(
        contracts=tuple(sources),
        sources=sources,
        unreadable=tuple(UnreadableFile(name=item.name, reason=item.reason) for item in found.unreadable),
        notes=(*found.notes, *left_out, *unused),
        raw=str(folder),
        vix=None if vix_file is None else str(vix_file),
        covariates=others,
    )


def _selected(run: Run, folder: Path, found: Discovery) -> dict[str, tuple[Source, ...]]:
    """Return the sources of each contract, in order of expiry: all, or those the configuration names."""
    wanted = [parse_contract(text, where="setting data.contracts").code for text in run.config.data.contracts]
    missing = sorted(set(wanted) - set(found.contracts))
    if missing:
        broken = (file for file in found.unreadable if set(file.contracts) & set(missing))
        if (error := next((file.error for file in broken), None)) is not None:
            raise error
        raise MissingInputError(
            folder,
            f"a file of {', '.join(missing)}",
            f"The folder (of --raw, else raw/ of the lake) holds {', '.join(found.contracts)};"
            " correct data.contracts or deliver the file.",
        )
    return {code: each for code, each in found.contracts.items() if not wanted or code in wanted}


def _reviewed_sources(run: Run, folder: Path, found: dict[str, tuple[Source, ...]]) -> dict[str, tuple[Source, ...]]:
    """Return the contracts that have a bar of a session whose hours were reviewed, with all their sources."""

    def has_bar(source: Source) -> bool:
        contract = parse_contract(source.contract, where=str(source.path))
        look = partial(has_reviewed_bar, source, contract, run.instrument, run.config.ingest)
        return _remembered(run, source, "reviewed bars", lambda: str(look())) == str(True)

    kept = {contract: sources for contract, sources in found.items() if any(map(has_bar, sources))}
    if not kept:
        calendar = run.instrument.calendar
        raise UnreviewedSessionsError(f"{folder} ({', '.join(found)})", calendar, *reviewed_range(calendar))
    return kept


def _known_sources(run: Run, folder: Path, found: dict[str, tuple[Source, ...]]) -> dict[str, tuple[Source, ...]]:
    """Return the contracts that had a bar when the run's night began, with those sources; all if live."""
    as_of = run.as_of
    if as_of is None:
        return found

    def began(source: Source) -> bool:
        look = partial(first_timestamp, source, run.instrument, run.config.ingest)
        first = _remembered(run, source, "first bar", lambda: str(look() or ""))
        return bool(first) and datetime.fromisoformat(first) + BAR_LENGTH <= as_of

    known = {contract: tuple(filter(began, sources)) for contract, sources in found.items()}
    known = {contract: sources for contract, sources in known.items() if sources}
    absent = [contract for contract in found if contract not in known] if run.config.data.contracts else []
    if absent or not known:
        expected = f"a bar of {', '.join(absent) or 'any contract'} known by {as_of:%Y-%m-%d %H:%M} UTC"
        raise MissingInputError(folder, expected, "Choose a later session or other contracts.")
    return known


def _remembered(run: Run, source: Source, what: str, look: Callable[[], str]) -> str:
    """Return what ``look()`` finds out about a source, or what it found while file, settings and code were the same."""
    made = f"{run.instrument.digest} {run.config.digest('ingest')} {code_digest(has_reviewed_bar, first_timestamp)}"
    own = " ".join(digests("readers", {source.reader}).values())
    text = f"{what} of {source.key} {made} {own}".rstrip()
    return run.lake.cached_for_file(source.path, text, look)


def _store_vix(run: Run, folder: Path, found: Discovery) -> Path:
    """Read the VIX file into the lake unless the same file is there already; return its path."""
    given = run.inputs["vix"]
    remedy = (
        "Give one VIX file with --vix (VIX= for make demo, vix in the form), or put exactly one into the raw folder;"
        " data.vix=none goes without."
    )
    if given is None and len(found.vix) > 1:
        raise UnreadableFileError(folder, "one VIX file", ", ".join(path.name for path in found.vix), remedy=remedy)
    path = Path(given) if given else next(iter(found.vix), None)
    if path is None or not path.is_file():
        raise MissingInputError(path or folder, "a VIX file", remedy)
    _store_index(run, layout.VIX, "vix", path, {"name": path.name}, partial(read_vix, path, run.config.ingest))
    return path


def _store_covariates(run: Run, folder: Path, found: Discovery) -> dict[str, str]:
    """Read the files of the covariates into the lake unless the same ones are there already; return them by column."""
    paths = {}
    for each in covariates(run.config.ingest):
        remedy = f"Name its file in ingest.covariates, as {each.symbol}=FILE, or put exactly one into the raw folder."
        files = found.indices.get(each.symbol, ())
        if each.file is not None:
            path = folder / each.file
            if not path.is_file():
                raise MissingInputError(path, f"the file of {each.symbol}", "Correct ingest.covariates.")
        elif len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise UnreadableFileError(folder, f"one file of {each.symbol}", names, remedy=remedy)
        elif not files:
            raise MissingInputError(folder, f"a file of {each.symbol}", remedy)
        else:
            path = files[0]
        read = partial(read_index, path, each.symbol, run.config.ingest, each.published)
        _store_index(run, layout.index_key(each.column), each.column, path, {}, read)
        paths[each.column] = str(path)
    return paths


def _store_index(
    run: Run, key: str, lock: str, path: Path, inputs: Mapping[str, str], read: Callable[[], pl.DataFrame]
) -> None:
    """Store what ``read`` returns of an index's file unless it is there for the same file, ``inputs`` and settings.

    A run of a past night stores the values that were published when that night began.
    """
    hashes, code = {"file": run.lake.hash_file(path), **inputs}, code_digest(read_vix, read_index)
    build_key = BuildKey(hashes, run.config.digest("ingest"), code)
    shared = run.shared_key(key)
    with run.lake.writing(lock):
        if run.lake.up_to_date(shared, build_key):
            return
        values = read()
        if run.as_of is not None:
            values = values.filter(pl.col("available_at") <= run.as_of)
            if values.is_empty():
                expected = f"a value published by {run.as_of:%Y-%m-%d %H:%M} UTC"
                raise MissingInputError(path, expected, "Choose a later session.")
        run.lake.write_frame(shared, values, build_key)


def covariate_values(run: Run) -> dict[str, pl.DataFrame]:
    """Return the values of each covariate by its column among the bars, as ``plan_contracts`` stored them."""
    return {
        each.column: run.lake.read_cached(run.shared_key(layout.index_key(each.column)))
        for each in covariates(run.config.ingest)
    }


def vix_closes(run: Run) -> pl.DataFrame | None:
    """Return the VIX closes that ``plan_contracts`` stored; None of a run without the VIX."""
    return run.lake.read_cached(run.shared_key(layout.VIX)) if run.uses_vix else None


def _refuse_absent_indices(run: Run) -> None:
    """Refuse features of family vix in a run without the VIX, and family covariates without one."""
    names = [name for name in run.config.features.names if name in REGISTRY and REGISTRY[name].family == "vix"]
    if names and not run.uses_vix:
        entry = f"the entry of {run.instrument.symbol} says vix = false"
        where = "data.vix is none" if run.config.data.vix == "none" else entry
        raise InvalidValueError("features.names", ", ".join(names), f"no features of the VIX, because {where}")
    if COVARIATES in run.config.features.extras and not run.config.ingest.covariates:
        raise InvalidValueError(
            "ingest.covariates", "empty", "the indices that family covariates of features.extras reads"
        )
