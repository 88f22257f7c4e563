"""The record of a failed stage: ``runs/<run>/failures/<stage>.json``, or ``<stage>.<label>.json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

FOLDER = "failures"
"""Folder of the records, below the run's."""


class StageFailure(BaseModel):
    """Why a stage failed.

    Attributes:
        stage: name of the failed function of the pipeline.
        label: contract of a mapped task; "" for a stage that runs once.
        error: class of the error.
        message: text of the error.
        exit_code: exit code that belongs to the class.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str
    label: str = ""
    error: str
    message: str
    exit_code: int = 1

    @property
    def file_name(self) -> str:
        """Name of the record's file in its folder."""
        return failure_file(self.stage, self.label)


def failure_file(stage: str, label: str = "") -> str:
    """Return the name of the record's file for a stage and a contract."""
    return f"{stage}.{label}.json" if label else f"{stage}.json"
