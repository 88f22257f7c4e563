"""Bars that are older than the run's clock allows end the night, and a run says how old its bars are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import GateFailedError

from .conftest import NOW

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gate(market, tmp_path_factory):
    """Run gate bars on the whole contract, which ends on 2023-03-17, at some clock; the bars are built once."""
    lake = str(tmp_path_factory.mktemp("age") / "lake")

    def run(name, now, preset="nightly", **settings):
        overrides = {key.replace("__", "."): value for key, value in settings.items()}
        pipeline.start_run(lake, name, preset, overrides, str(market), None, now)
        codes = pipeline.plan_contracts(lake, name).contracts
        for code in codes:
            pipeline.ingest_contract(lake, name, code)
        return pipeline.gate_bars(lake, name, codes), pipeline.summarize(lake, name)

    return run


def test_bars_up_to_the_last_session_pass_and_their_age_is_reported(gate):
    result, summary = gate("fresh", NOW)
    assert (result.newest_bar, result.age_sessions) == ("2023-03-17T13:29:00+00:00", 0)
    assert summary.data.to_json() == {"newest_bar": "2023-03-17T13:29:00+00:00", "age_sessions": 0}


def test_a_night_two_sessions_later_still_passes_and_three_sessions_later_fails(gate):
    result, _ = gate("tuesday", NOW + timedelta(days=4))
    assert result.age_sessions == 2
    with pytest.raises(GateFailedError, match="session 2023-03-22 is due; deliver newer bars"):
        gate("wednesday", NOW + timedelta(days=5))


def test_a_clock_months_later_fails_unless_the_setting_allows_any_age(gate):
    later = datetime(2023, 9, 1, 22, 30, tzinfo=UTC)
    with pytest.raises(GateFailedError, match="newest bar is 2023-03-17 13:29 UTC"):
        gate("months", later)
    result, summary = gate("any-age", later, quality__max_age_sessions=10_000)
    assert result.age_sessions > 100
    assert summary.data.age_sessions == result.age_sessions


def test_a_run_of_one_contract_must_reach_its_roll_and_no_clock(gate):
    result, _ = gate("one", datetime(2025, 9, 1, 22, 30, tzinfo=UTC), data__contracts=["ESH23"])
    assert result.passed


def test_a_bad_bar_is_reported_with_its_file_line_and_text(delivery, lake):
    path = next(delivery.glob("ES*.txt"))
    lines = path.read_bytes().splitlines(keepends=True)
    parts = lines[5000].split(b";")
    parts[2] = str(float(parts[2]) + 600).encode()
    lines[5000] = b";".join(parts)
    path.write_bytes(b"".join(lines))
    pipeline.start_run(lake, "bad", "smoke", {"ingest.bad_prints": 0}, str(delivery), None, NOW)
    codes = pipeline.plan_contracts(lake, "bad").contracts
    pipeline.ingest_contract(lake, "bad", codes[0])
    with pytest.raises(GateFailedError) as failed:
        pipeline.gate_bars(lake, "bad", codes)
    assert f"{path.name}, line 5001: {lines[5000].decode().strip()!r}" in str(failed.value)
