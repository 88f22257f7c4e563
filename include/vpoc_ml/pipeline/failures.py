"""Records of failed stages in the folder of a run. Airflow's tasks write them; reports and command lines read them."""

from __future__ import annotations

from vpoc_ml.artifacts.failure import FOLDER, StageFailure, failure_file
from vpoc_ml.errors import VpocError
from vpoc_ml.lake.store import Lake


def record_failure(lake: Lake, run: str, stage: str, label: str, error: Exception) -> None:
    """Write the record of ``error``; exit code 1 unless the error is the project's own."""
    code = error.exit_code if isinstance(error, VpocError) else 1
    failure = StageFailure(stage=stage, label=label, error=type(error).__name__, message=str(error), exit_code=code)
    lake.write_json(f"runs/{run}/{FOLDER}/{failure.file_name}", failure.model_dump())


def remove_failure(lake: Lake, run: str, stage: str, label: str) -> None:
    """Delete the record of an earlier failure of a stage; without one nothing happens."""
    lake.storage.delete(f"runs/{run}/{FOLDER}/{failure_file(stage, label)}")


def read_failures(lake: Lake, run: str) -> list[StageFailure]:
    """Return the records of a run, in the order of their files' names."""
    keys = sorted(lake.storage.version_tokens(f"runs/{run}/{FOLDER}"))
    return [StageFailure.model_validate(lake.read_json(key)) for key in keys]
