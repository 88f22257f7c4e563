"""Access to MLflow: runs, model versions, their files, champion aliases and the head of the ledger.

It contains no decisions.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from vpoc_ml.errors import ArtifactError, RegistryError, RegistryRefusedError
from vpoc_ml.registry.ledger import LedgerHead
from vpoc_ml.registry.model_key import ModelKey

BATCH_POINTS, BATCH_PARAMS = 1000, 100  # MLflow's limits per request
_SQLITE = "sqlite:///"
MODEL, EXPERIMENT = "vpoc", "vpoc"
UNKEYED_ALIAS = "champion"
"""Alias of the champion in registries of the first version, which had one champion for all keys."""
HEAD_TAG = "ledger_head"
CHECK_TAG = "last_check"
CURVES = "training/"


@dataclass(frozen=True)
class ModelVersion:
    """A registered version.

    Attributes:
        version: number of the version.
        run: the run that trained it.
        fingerprint: identity of the training data, settings and code.
        weights: SHA-256 of the weights file.
        source: URI of its files.
        created_ms: time of registration, milliseconds since 1970, UTC.
        key: None for a version registered before there were keys.
        run_id: id of its MLflow run.
        files: SHA-256 of each file; empty for a version of an earlier release.
    """

    version: int
    run: str
    fingerprint: str
    weights: str
    source: str
    created_ms: int
    key: ModelKey | None
    run_id: str
    files: Mapping[str, str] = field(default_factory=dict)


class MlflowStore:
    """The registered model ``vpoc`` at ``tracking_uri``. MLflow is imported on first use."""

    def __init__(self, tracking_uri: str, artifacts: str | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.artifacts = artifacts
        self._connected: Any = None

    def register(
        self,
        run: str,
        files: Sequence[Path],
        *,
        metrics: Mapping[str, float],
        params: Mapping[str, str],
        tags: Mapping[str, str],
        curves: Sequence[tuple[str, float, int]] = (),
    ) -> int:
        """Log a run and register it as a version. An unfinished MLflow run with the same weights is completed."""
        from mlflow.entities import Param

        logged = self._open_run(run, tags)
        settings = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(settings), BATCH_PARAMS):
            self.client.log_batch(logged.info.run_id, params=settings[start : start + BATCH_PARAMS])
        self.log_curves(logged.info.run_id, [*((name, number, 0) for name, number in metrics.items()), *curves])
        for path in files:
            self.client.log_artifact(logged.info.run_id, str(path), "model")
        source = f"{logged.info.artifact_uri}/model"
        made = self.client.create_model_version(MODEL, source=source, run_id=logged.info.run_id, tags=dict(tags))
        self.client.set_terminated(logged.info.run_id)
        return int(made.version)

    def open_live(self, run: str) -> str:
        """Return the id of the MLflow run for the training curves of ``run``; an open one is continued."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT).experiment_id
        found = self.client.search_runs([experiment], f"tags.run = '{run}' and tags.curves = 'live'")
        made = (
            found[0]
            if found
            else self.client.create_run(experiment, tags={"run": run, "curves": "live"}, run_name=f"{run} training")
        )
        return str(made.info.run_id)

    def close_live(self, run_id: str) -> None:
        """Mark the MLflow run of the curves as finished."""
        self.client.set_terminated(run_id)

    def log_curves(self, run_id: str, points: Sequence[tuple[str, float, int]]) -> None:
        """Log name, value and step of each point."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value, step in points]
        for start in range(0, len(metrics), BATCH_POINTS):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH_POINTS])

    def versions(self) -> list[ModelVersion]:
        """Return every version, oldest first."""
        return sorted(self._search(f"name='{MODEL}'"), key=lambda item: item.version)

    def of_run(self, run: str) -> ModelVersion | None:
        """Return the version of ``run``, or None."""
        found = self._search(f"name='{MODEL}' and tags.run = '{run}'")
        return found[0] if found else None

    def get(self, version: int) -> ModelVersion:
        """Return one version.

        Raises:
            RegistryError: there is no such version.
        """
        found = self._search(f"name='{MODEL}' and version_number = {version}")
        if not found:
            raise RegistryError(
                f"Expected a registered version of {MODEL}; was {version}. `vpoc-ml models` lists them."
            )
        return found[0]

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the metrics of every MLflow run by its id, without the training curves."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT).experiment_id
        found: dict[str, dict[str, float]] = {}
        token: str | None = ""
        while token is not None:
            page = self.client.search_runs([experiment], page_token=token or None)
            for each in page:
                own = {name: value for name, value in each.data.metrics.items() if not name.startswith(CURVES)}
                found[each.info.run_id] = own
            token = page.token or None
        return found

    def alias(self, key: ModelKey | None) -> int | None:
        """Return the version with the champion alias of ``key``, or None. Without a key: the alias for all keys."""
        aliases = self.client.get_registered_model(MODEL).aliases
        return int(aliases[_alias(key)]) if _alias(key) in aliases else None

    def move_alias(self, key: ModelKey, version: int) -> None:
        """Move the champion alias of ``key`` to ``version``."""
        self.client.set_registered_model_alias(MODEL, _alias(key), str(version))

    def drop_unkeyed_alias(self) -> None:
        """Remove the alias for all keys."""
        self.client.delete_registered_model_alias(MODEL, UNKEYED_ALIAS)

    def set_key(self, version: int, key: ModelKey) -> None:
        """Set the key of a version that was registered before there were keys."""
        self.client.set_model_version_tag(MODEL, str(version), "key", str(key))

    def head(self) -> LedgerHead | None:
        """Return the head of the ledger; None before the first entry."""
        tags = self.client.get_registered_model(MODEL).tags
        return LedgerHead(**json.loads(tags[HEAD_TAG])) if HEAD_TAG in tags else None

    def set_head(self, head: LedgerHead) -> None:
        """Store the head of the ledger as a tag of the registered model."""
        self.client.set_registered_model_tag(MODEL, HEAD_TAG, json.dumps(asdict(head)))

    def check(self) -> None:
        """Ask for experiment and registered model and write a tag: what a run will need hours later.

        Raises:
            RegistryRefusedError: the server refuses.
            MlflowException: nobody answers, or the server fails: another try may succeed.
        """
        with refusals(self.tracking_uri):
            self.client.set_registered_model_tag(MODEL, CHECK_TAG, "written")

    @property
    def client(self) -> Any:
        """MLflow's client. Experiment and registered model are created on first use.

        Raises:
            RegistryRefusedError: the server refuses.
        """
        if self._connected is None:
            with refusals(self.tracking_uri):
                client = connect_client(self.tracking_uri)
                if client.get_experiment_by_name(EXPERIMENT) is None:
                    create_once(lambda: client.create_experiment(EXPERIMENT, artifact_location=self.artifacts))
                if not client.search_registered_models(f"name='{MODEL}'"):
                    create_once(lambda: client.create_registered_model(MODEL))
            self._connected = client
        return self._connected

    def _open_run(self, run: str, tags: Mapping[str, str]) -> Any:
        experiment = self.client.get_experiment_by_name(EXPERIMENT).experiment_id
        wanted = f"tags.run = '{run}' and tags.weights = '{tags['weights']}'"
        found = self.client.search_runs([experiment], wanted)
        return found[0] if found else self.client.create_run(experiment, tags=dict(tags), run_name=run)

    def _search(self, wanted: str) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        token: str | None = ""
        while token is not None:
            page = self.client.search_model_versions(wanted, page_token=token or None)
            found += [
                ModelVersion(
                    version=int(item.version),
                    run=item.tags["run"],
                    fingerprint=item.tags["fingerprint"],
                    weights=item.tags["weights"],
                    source=item.source,
                    created_ms=int(item.creation_timestamp),
                    key=ModelKey.parse(item.tags["key"]) if "key" in item.tags else None,
                    run_id=item.run_id,
                    files=json.loads(item.tags.get("files", "{}")),
                )
                for item in page
            ]
            token = page.token or None
        return found


def create_once(create: Callable[[], Any]) -> None:
    """Create an experiment or a registered model. That another process has just created it is no error."""
    from mlflow.exceptions import MlflowException

    try:
        create()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


TRANSIENT = (408, 429)
"""Statuses below 500 that another try may change."""


@contextmanager
def refusals(tracking_uri: str) -> Iterator[None]:
    """Turn an error of MLflow that no retry can mend into one that says so, and what to do.

    Raises:
        RegistryRefusedError: the server at ``tracking_uri`` refuses, or is no MLflow.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        status, text = error.get_http_status_code(), str(error)
        alien = "not in a valid JSON format" in text
        if not alien and (status >= 500 or status in TRANSIENT):
            raise
        if "Host header" in text:
            remedy = "Name this host and port in MLFLOW_SERVER_ALLOWED_HOSTS of MLflow's server."
        elif status in (401, 403):
            remedy = (
                "Set MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN, of a user who may write experiments and models."
            )
        else:
            remedy = "Correct MLFLOW_TRACKING_URI: scheme://host:port of MLflow's server, and its path behind a proxy."
        parts = urlsplit(tracking_uri)
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise RegistryRefusedError(place, " ".join(text.split())[:300], remedy) from error


def _alias(key: ModelKey | None) -> str:
    return UNKEYED_ALIAS if key is None else f"{UNKEYED_ALIAS}-{key}"


def connect_client(tracking_uri: str) -> Any:
    """Return MLflow's client without telemetry, migration logs and progress bars.

    Raises:
        RegistryError: the SQLite file of ``tracking_uri`` cannot be created.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # after the import, which sets its own levels
        logging.getLogger(name).setLevel(logging.WARNING)
    if tracking_uri.startswith(_SQLITE):
        _create_database(Path(tracking_uri.removeprefix(_SQLITE)))
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _create_database(path: Path) -> None:
    """Create MLflow's SQLite file unless it exists. The file appears only when it is complete.

    MLflow's migrations are not atomic. A process killed during them would leave a file that MLflow cannot open.
    """
    if path.exists():
        return
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            return
        for leftover in path.parent.glob(f"{path.name}.*.new"):
            leftover.unlink()
        # MLflow caches one store per file name and process, so each attempt needs a new name
        unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
        try:
            MlflowClient(tracking_uri=f"{_SQLITE}{unfinished}").search_experiments()
        except MlflowException as error:
            raise RegistryError(f"{path}: expected to create MLflow's database; {error}. Try again.") from error
        os.replace(unfinished, path)


def local_copy(source: str, target: Path, *, check: Callable[[Path], None]) -> Path:
    """Copy the artifact folder ``source`` to ``target`` and return ``target``.

    An existing copy that passes ``check`` is reused. A new copy is written beside ``target``, checked and renamed, so
    ``target`` is always complete.

    Raises:
        ArtifactError: ``source`` does not exist, or its files do not pass ``check``.
    """
    if target.is_dir():
        try:
            check(target)
        except ArtifactError:
            shutil.rmtree(target)  # damaged: download it again
        else:
            return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / "model"
        download(source, folder)
        check(folder)
        if not target.is_dir():  # another process may have created it
            folder.rename(target)
    return target


def download(source: str, folder: Path) -> None:
    """Copy the artifact file or folder ``source`` into the new folder ``folder``.

    Raises:
        ArtifactError: ``source`` does not exist.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    folder.mkdir()
    try:
        download_artifacts(artifact_uri=source, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise ArtifactError(source, "the files of a registered model", str(error)) from error
    nested = folder / source.rstrip("/").rsplit("/", 1)[-1]
    if nested.is_dir():
        for path in nested.iterdir():
            path.rename(folder / path.name)
        nested.rmdir()
