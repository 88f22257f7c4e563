"""The weekly maintenance of the lake."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk.exceptions import AirflowSkipException

from vpoc_airflow import stage_tasks
from vpoc_ml import environment, pipeline
from vpoc_ml.environment import lake_uri
from vpoc_ml.errors import InvalidValueError, VerificationError

log = logging.getLogger(__name__)


def verify() -> dict[str, Any]:
    """Verify the lake and return what was checked.

    Raises:
        AirflowFailException: there is a problem; the log has one line for each.
    """
    with stage_tasks.recorded(stage_tasks.current_run(), "verify"):
        found = pipeline.verify(lake_uri())
        for problem in found.problems:
            log.error("%s", problem.to_line())
        if found.problems:
            raise VerificationError([problem.to_line() for problem in found.problems])
        return found.to_json()


def retain() -> dict[str, Any]:
    """Delete what no kept night needs, and return what was deleted.

    Raises:
        AirflowSkipException: ``VPOC_KEEP_NIGHTS`` is not set: everything is kept.
        AirflowFailException: it is no number of nights, or a record is damaged.
    """
    text = environment.read(environment.KEEP_NIGHTS)
    with stage_tasks.recorded(stage_tasks.current_run(), "retain"):
        if text is None:
            raise AirflowSkipException(f"{environment.KEEP_NIGHTS} is not set: every night is kept.")
        if not text.isdecimal():
            raise InvalidValueError(environment.KEEP_NIGHTS, text, "a number of nights, such as 90")
        found = pipeline.retain(lake_uri(), int(text))
        log.info("Deleted %d files of %d runs and %d folds", found.files, len(found.runs), len(found.folds))
        return found.to_json()
