"""Runs of past nights: what limits them, and that nothing later reaches them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.pipeline.run import open_run

NOW = datetime(2024, 7, 1, 22, 30, tzinfo=UTC)


def test_as_of_is_stored_as_utc_and_is_the_clock_of_the_run(lake: str) -> None:
    chicago = timezone(timedelta(hours=-5))
    pipeline.start_run(lake, "may", "smoke", now=NOW, as_of=datetime(2024, 5, 14, 17, 30, tzinfo=chicago))
    run, night = open_run(lake, "may"), datetime(2024, 5, 14, 22, 30, tzinfo=UTC)
    assert run.as_of == run.started == night
    inputs = json.loads(Path(lake, "runs", "may", "inputs.json").read_text())
    assert inputs["as_of"] == "2024-05-14T22:30:00+00:00"
    assert inputs["started"] == NOW.isoformat()


def test_a_live_night_has_no_as_of_and_its_start_is_its_clock(lake: str) -> None:
    pipeline.start_run(lake, "tonight", "smoke", now=NOW)
    run = open_run(lake, "tonight")
    assert run.as_of is None
    assert run.started == NOW


def test_a_run_that_an_earlier_version_started_is_live(lake: str) -> None:
    pipeline.start_run(lake, "old", "smoke", now=NOW)
    file = Path(lake, "runs", "old", "inputs.json")
    inputs = json.loads(file.read_text())
    del inputs["as_of"]
    file.write_text(json.dumps(inputs))
    assert open_run(lake, "old").as_of is None


@pytest.mark.parametrize("as_of", [datetime(2024, 5, 14), NOW + timedelta(seconds=1)])  # noqa: DTZ001 - that is the fault
def test_a_naive_or_future_as_of_is_refused_before_anything_is_stored(lake: str, as_of: datetime) -> None:
    with pytest.raises(InvalidValueError, match="as_of"):
        pipeline.start_run(lake, "may", "smoke", now=NOW, as_of=as_of)
    assert not Path(lake).exists()
