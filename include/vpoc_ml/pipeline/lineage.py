"""What a run's model was made from, and all that is known about a registered version."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.decision import Decision
from vpoc_ml.artifacts.lineage import BuiltArtifact, GateOutcome, LedgerLine, Lineage, ModelRecord
from vpoc_ml.artifacts.metrics import Metrics
from vpoc_ml.artifacts.sources import DeliveredFile
from vpoc_ml.artifacts.stage_results import GateResult, IngestResult, TrainResult
from vpoc_ml.artifacts.track_record import FoldPlan
from vpoc_ml.errors import RegistryError
from vpoc_ml.lake.atomic import read_json, write_json
from vpoc_ml.lake.code_digest import library_versions
from vpoc_ml.lake.manifest import Manifest
from vpoc_ml.lake.store import Lake
from vpoc_ml.models.bundle import read_model_card
from vpoc_ml.pipeline.champion_stages import registry_of
from vpoc_ml.pipeline.run import Run, read_artifact
from vpoc_ml.pipeline.stages import GATES
from vpoc_ml.registry.registry import Registry
from vpoc_ml.registry.store import ModelStore

KINDS = (layout.BARS, layout.SESSIONS, layout.DEVELOPING, layout.FEATURES)
COMPUTE = (
    "vpoc_ml.ingest.bars",
    "vpoc_ml.profile.sessions",
    "vpoc_ml.features.build",
    "vpoc_ml.dataset.assemble",
    "vpoc_ml.training.launch.fit",
    "vpoc_ml.evaluation.evaluate",
)
"""Modules that compute bars, levels, features, training sets, models and metrics."""


def write_lineage(run: Run, plan: FoldPlan | None, metrics: Metrics) -> None:
    """Write ``lineage.json`` of an evaluated run, unless it describes the same model and training set already.

    A later evaluation against another champion must not replace it: shared artifacts may have changed by then.
    """
    trained = run.result("train", TrainResult)
    training_set = Lake(run.folder).require_manifest(layout.TRAINING_SET)
    known = read_artifact(run.lake, layout.run_file(run.name, layout.LINEAGE), Lineage, "the lineage of a model")
    if known is not None and (known.fingerprint, known.training_set.sha256) == (
        trained.fingerprint,
        training_set.sha256,
    ):
        return
    described = read_model_card(run.folder / layout.BEST_MODEL_CARD)
    contracts = {code: [run.lake.manifest(run.key(kind, code)) for kind in KINDS] for code in run.plan().contracts}
    lineage = Lineage(
        run=run.name,
        trained_in=trained.trained_in,
        preset=run.config.preset,
        config_hash=run.config.digest(),
        preset_key=metrics.preset_key,
        fingerprint=trained.fingerprint,
        weights_sha256=described.weights_sha256,
        periods=described.splits,
        files=_delivered(run),
        indices=tuple(_built(manifest) for manifest in _indices(run)),
        roll=_built(run.lake.require_manifest(run.roll_key())),
        contracts={code: tuple(_built(each) for each in found if each) for code, found in contracts.items()},
        training_set=_built(training_set),
        folds=plan.folds if plan is not None else (),
        gates=_gates(run),
        sessions=metrics.sessions,
        rank_ic=metrics.candidate.rank_ic,
        net=metrics.backtest.net,
        libraries={"python": platform.python_version(), **library_versions(*COMPUTE)},
    )
    write_json(run.folder / layout.LINEAGE, lineage.to_json())


def _built(manifest: Manifest) -> BuiltArtifact:
    return BuiltArtifact.model_validate(asdict(manifest))


def _gates(run: Run) -> tuple[GateOutcome, ...]:
    found = [run.result(f"gate-{gate}", GateResult) for gate in GATES if run.has_result(f"gate-{gate}")]
    return tuple(GateOutcome(gate=each.gate, passed=each.passed, checks=each.checks) for each in found)


def _indices(run: Run) -> list[Manifest]:
    """Return the manifests of the VIX and of the further indices that the run reads."""
    keys = ([layout.VIX] if run.uses_vix else []) + [layout.index_key(column) for column in run.covariates]
    return [run.lake.require_manifest(run.shared_key(key)) for key in keys]


def _delivered(run: Run) -> tuple[DeliveredFile, ...]:
    """Return the vendor files as the run read them, and the files of the indices."""
    plan = run.plan()
    files = {file.path: file for code in plan.contracts for file in run.result("ingest", IngestResult, code).files}
    paths = ([plan.vix] if plan.vix is not None else []) + [plan.covariates[name] for name in run.covariates]
    for path, manifest in zip(paths, _indices(run), strict=True):
        sha256, place = manifest.inputs["file"], Path(path)
        same = place.is_file() and run.lake.hash_file(place) == sha256  # else it has been delivered again meanwhile
        files[path] = DeliveredFile(path=path, size=place.stat().st_size if same else None, sha256=sha256)
    return tuple(files[path] for path in sorted(files))


def model_record(lake: str, version: int) -> ModelRecord:
    """Return all that is known about a registered version.

    Raises:
        RegistryError: the version does not exist.
        ArtifactError: its files are missing or damaged.
    """
    return record_of_version(Lake(lake), registry_of(Lake(lake)), version)


def record_of_version(lake: Lake, registry: Registry, version: int) -> ModelRecord:
    """Return all that is known about a version of an open registry; errors as for ``model_record``."""
    key = registry.mlflow.get(version).key
    if key is None:
        raise RegistryError(f"Expected version {version} to have a key; found none. Run vpoc-ml models once.")
    folder = ModelStore(registry, key).get(version).folder
    summary = next(model for model in registry.models() if model.version == version)
    return ModelRecord(
        summary=summary,
        description=read_model_card(folder / layout.BEST_MODEL_CARD),
        settings=read_json(folder / layout.CONFIG),
        lineage=stored_lineage(folder),
        decision=read_artifact(lake, layout.run_file(summary.run, layout.DECISION), Decision, "a decision"),
        ledger=tuple(
            LedgerLine(seq=each.seq, time=each.time, action=each.action, actor=each.actor, reasons=each.reasons)
            for each in registry.entries()
            if each.version == version
        ),
    )


def stored_lineage(folder: Path) -> Lineage | None:
    """Return the lineage among a version's files; None in versions of earlier releases.

    Raises:
        ArtifactError: the file holds something else.
    """
    path = folder / layout.LINEAGE
    return Lineage.read(path, what="the lineage of a model", remedy="") if path.is_file() else None
