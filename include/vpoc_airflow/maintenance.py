"""The weekly maintenance of the lake."""

from __future__ import annotations

import logging
from typing import Any

from vpoc_airflow import stage_tasks
from vpoc_ml import pipeline
from vpoc_ml.environment import lake_uri
from vpoc_ml.errors import VerificationError

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
