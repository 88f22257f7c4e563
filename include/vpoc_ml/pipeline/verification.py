"""Verifies a lake: its ledger, registered versions, artifacts, folds, and the lineage of its champions.

Every file is read and hashed; no cache is used, and nothing is changed. A file that does not match its manifest is
read again after a moment, because a run may be writing it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.lineage import Lineage
from vpoc_ml.artifacts.stage_results import Plan
from vpoc_ml.artifacts.verification import Problem, Verification
from vpoc_ml.config.overrides import load_stored
from vpoc_ml.errors import ArtifactError, MissingInputError, RegistryError, VpocError
from vpoc_ml.lake.hashing import hash_file
from vpoc_ml.lake.manifest import checked, read_manifest
from vpoc_ml.lake.store import Lake
from vpoc_ml.models.bundle import read_model_card
from vpoc_ml.pipeline.champion_stages import existing_registry
from vpoc_ml.pipeline.lineage import stored_lineage
from vpoc_ml.pipeline.migration import FOREIGN, MANIFEST
from vpoc_ml.pipeline.run import read_artifact
from vpoc_ml.registry.ledger import champions_of, keys
from vpoc_ml.registry.mlflow_store import ModelVersion, download
from vpoc_ml.registry.registry import Registry
from vpoc_ml.registry.store import REQUIRED, WEIGHTS

PAUSE_SECONDS = 2.0
REBUILD = "Delete it and the file of the same name beside it: the next run that needs it builds it anew."
RESTORE = "Restore it from a backup."
REGISTER_AGAIN = "Restore the registry's files from a backup; if it is the champion, roll back until then."
FOLD_AGAIN = "Delete the fold's folder: the next run trains the fold again."


class _Findings:
    """What was counted, and the problems that were found."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.counts: Counter[str] = Counter()
        self.problems: list[Problem] = []

    def add(self, place: object, found: str, remedy: str) -> None:
        """Add one problem; ``found`` has no full stop."""
        self.problems.append(Problem(place=str(place), found=" ".join(found.split()).rstrip("."), remedy=remedy))


def verify(lake: str) -> Verification:
    """Check a lake and its registry against all hashes that they hold.

    Raises:
        MissingInputError: there is no lake.
    """
    opened = Lake(lake)
    records = [key for key in opened.names("", ".json") if key.partition("/")[0] not in FOREIGN]
    registry = existing_registry(opened)
    if not records and registry is None:
        raise MissingInputError(lake, "a lake with artifacts", "Name the lake's folder or URL.")
    findings = _Findings(opened)
    for key in records:
        _check_record(findings, key)
    if registry is not None:
        _check_registry(findings, registry)
    names = ("entries", "versions", "artifacts", "folds", "champions")
    return Verification(**{name: findings.counts[name] for name in names}, problems=tuple(findings.problems))


def _check_record(findings: _Findings, key: str) -> None:
    """Check what a JSON file of the lake states about other files: the manifest of an artifact, or a fold."""
    stored = findings.lake.storage.read(key)
    if stored is None:
        return  # a run has deleted it
    try:
        document = json.loads(stored)
    except (ValueError, RecursionError) as error:
        findings.add(findings.lake.location(key), f"expected JSON; found something else ({error})", REBUILD)
        return
    if isinstance(document, dict) and document.keys() >= MANIFEST:
        _check_artifact(findings, key, document)
    elif key.startswith("track/") and key.endswith("/fold.json"):
        _check_fold(findings, key, stored)


def _check_artifact(findings: _Findings, key: str, document: dict[str, JsonValue]) -> None:
    lake, artifact = findings.lake, f"{key.removesuffix('.json')}.parquet"
    findings.counts["artifacts"] += 1
    found = _artifact_problem(lake, key, artifact, str(document["key"]))
    if found is not None:
        time.sleep(PAUSE_SECONDS)
        found = _artifact_problem(lake, key, artifact, str(document["key"]))
    if found is not None:
        findings.add(lake.location(artifact), found, REBUILD)


def _artifact_problem(lake: Lake, key: str, artifact: str, named: str) -> str | None:
    """Return what is wrong with an artifact; the manifest in a run's folder names it relative to that folder."""
    stored = lake.storage.read(key)
    manifest = None if stored is None else read_manifest(stored, named)
    if manifest is None or not f"/{artifact}".endswith(f"/{named}"):
        return "expected an intact manifest of this file; found a damaged one or that of another file"
    sha256 = _sha256(lake, artifact)
    if sha256 is None:
        return "expected the file that its manifest describes; found none"
    if sha256 != manifest.sha256:
        return f"expected content {manifest.sha256[:12]}, as its manifest says; found {sha256[:12]}"
    return None


def _check_fold(findings: _Findings, key: str, stored: bytes) -> None:
    """Check the files of a complete fold's model; they never change."""
    lake, folder = findings.lake, key.rpartition("/")[0]
    findings.counts["folds"] += 1
    try:
        files = checked(stored)["files"]
        assert isinstance(files, dict)
    except (ValueError, KeyError, AssertionError, RecursionError):
        findings.add(lake.location(key), "expected an intact record of a fold; found a damaged one", FOLD_AGAIN)
        return
    for name, expected in files.items():
        sha256 = _sha256(lake, f"{folder}/{name}")
        if sha256 != expected:
            found = f"expected content {str(expected)[:12]}; found {sha256[:12] if sha256 else 'no file'}"
            findings.add(lake.location(f"{folder}/{name}"), found, FOLD_AGAIN)


def _check_registry(findings: _Findings, registry: Registry) -> None:
    intact = True
    try:
        findings.counts["entries"] = registry.ledger.verify()
    except RegistryError as error:
        intact = False
        findings.problems.append(Problem(place=str(registry.ledger.path), found="broken", remedy=str(error)))
    versions = {item.version: item for item in registry.mlflow.versions()}
    champions = _check_champions(findings, registry, versions) if intact else set()
    for item in versions.values():
        findings.counts["versions"] += 1
        try:
            with _files_of(item) as folder:
                _check_version(findings, item, folder)
                if item.version in champions:
                    _check_lineage(findings, item, folder)
        except ArtifactError as error:
            findings.add(f"version {item.version}", f"expected its files; {error}", REGISTER_AGAIN)
            if item.version in champions:
                _check_lineage(findings, item, None)


@contextmanager
def _files_of(item: ModelVersion) -> Iterator[Path]:
    """Give the folder of a version's files: where they are, or a temporary copy of those on a server.

    Raises:
        ArtifactError: there are none.
    """
    place = urlsplit(item.source)
    if place.scheme in ("", "file"):
        folder = Path(unquote(place.path))
        if not folder.is_dir():
            raise ArtifactError(folder, "the files of a registered model", "none")
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        download(item.source, Path(temporary, "model"))
        yield Path(temporary, "model")


def _check_version(findings: _Findings, item: ModelVersion, folder: Path) -> None:
    """Check a version's files; those registered by an earlier release have a hash of their weights only."""
    expected = {name: item.files.get(name) for name in {*REQUIRED, *item.files}} | {WEIGHTS: item.weights}
    for name, sha256 in sorted(expected.items()):
        found = hash_file(folder / name) if (folder / name).is_file() else None
        if found is None or sha256 not in (None, found):
            stated = "its file" if sha256 is None else f"content {sha256[:12]}"
            text = f"version {item.version}: expected {stated}; found {found[:12] if found else 'none'}"
            findings.add(folder / name, text, REGISTER_AGAIN)
    description = folder / layout.BEST_MODEL_CARD
    if description.is_file():
        try:
            named = read_model_card(description).weights_sha256
        except VpocError as error:
            findings.add(description, f"version {item.version}: {error}", REGISTER_AGAIN)
        else:
            if named != item.weights:
                text = f"version {item.version}: expected that of weights {item.weights[:12]}; found {named[:12]}"
                findings.add(description, text, REGISTER_AGAIN)


def _check_champions(findings: _Findings, registry: Registry, versions: dict[int, ModelVersion]) -> set[int]:
    """Compare MLflow's aliases with the ledger; return the versions of the champions."""
    entries, champions = registry.ledger.entries(), set()
    for key in keys(entries):
        history, alias = champions_of(entries, key), registry.mlflow.alias(key)
        if history[-1:] != ([] if alias is None else [alias]):
            named = history[-1] if history else "none"
            text = f"expected MLflow's alias on the ledger's champion {named}; found {alias or 'none'}"
            findings.add(key, text, "The next decision about this key moves the alias.")
        if not history:
            continue
        findings.counts["champions"] += 1
        item = versions.get(history[-1])
        if item is None:
            findings.add(f"version {history[-1]}", f"expected the champion of {key} in MLflow; found none", RESTORE)
            continue
        champions.add(item.version)
    return champions


def _check_lineage(findings: _Findings, item: ModelVersion, folder: Path | None) -> None:
    """Check that settings, training record and raw files of a champion are there, in registry or run folder.

    ``folder`` holds the version's files; None if there are none, which is reported with the version.
    """
    lake, champion = findings.lake, f"version {item.version}, the champion of {item.key}"
    names = (layout.CONFIG, layout.TRAINING_CONFIG)
    registered = {}
    if folder is not None:
        registered = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        try:
            lineage = stored_lineage(folder)
        except ArtifactError as error:
            findings.add(champion, str(error), REGISTER_AGAIN)
        else:
            _check_content(findings, lineage, champion)
    for name in names:
        place = layout.run_file(item.run, name)
        stored = registered.get(name) or lake.storage.read(place)
        if stored is None:
            findings.add(champion, f"expected {name} among its files or at {lake.location(place)}; found none", RESTORE)
        elif name == layout.CONFIG:
            try:
                load_stored(stored, f"{champion}, {name}")
            except VpocError as error:
                findings.add(champion, str(error), RESTORE)
    _check_raw(findings, item, champion)


def _check_raw(findings: _Findings, item: ModelVersion, champion: str) -> None:
    """Check that the vendor files from which a champion was made still exist."""
    lake = findings.lake
    try:
        plan = read_artifact(lake, layout.stage_key(item.run, "plan"), Plan, "the plan of a run")
    except ArtifactError as error:
        findings.add(champion, str(error), RESTORE)
        return
    if plan is None:
        place = lake.location(layout.stage_key(item.run, "plan"))
        findings.add(champion, f"expected the record of its raw files at {place}; found none", RESTORE)
        return
    paths = {source.path for sources in plan.sources.values() for source in sources}
    paths |= {Path(path) for path in (plan.vix, *plan.covariates.values()) if path is not None}
    for path in sorted(paths):
        inside = f"{layout.RAW}/{path.relative_to(plan.raw)}" if path.is_relative_to(plan.raw) else None
        if not path.is_file() and not (inside and lake.exists(inside)):
            remedy = "Put it back, or verify where it can be seen: without it the model cannot be made again."
            findings.add(path, f"expected a raw file of {champion}; found none", remedy)


def _check_content(findings: _Findings, lineage: Lineage | None, champion: str) -> None:
    """Check that the delivered files still hold what a champion was made from.

    Lines may have been appended to a text file since. Of a compressed file that has grown nothing can be said.
    """
    for file in () if lineage is None else lineage.files:
        path = Path(file.path)
        if file.size is None or not path.is_file():
            continue  # absent files are reported from the plan
        size = path.stat().st_size
        if size > file.size and path.suffix not in (".txt", ".csv"):
            continue
        if size < file.size or _hash_start(path, file.size) != file.sha256:
            found = f"expected the {file.size:,} bytes that {champion} was made from at its start; found other content"
            findings.add(path, found, "Without them the model cannot be made again: keep its version, or restore them.")


def _hash_start(path: Path, size: int) -> str:
    """Return the SHA-256 of the first ``size`` bytes of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while size > 0 and (block := stream.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()


def _sha256(lake: Lake, key: str) -> str | None:
    """Return the SHA-256 of the file at ``key``, which is read now; None where there is none."""
    if not lake.remote:
        path = lake.path(key)
        return hash_file(path) if path.is_file() else None
    with tempfile.TemporaryDirectory() as folder:
        return hash_file(Path(folder, "object")) if lake.fetch(key, Path(folder, "object")) else None
