"""Backfill and nightly at the same time, as real processes: nothing is lost, whoever dies."""

import shutil
import signal
import subprocess
import sys
import time

import pytest

from vpoc_ml.lake.store import Lake

from .nights import H, M, U, contents, night

pytestmark = pytest.mark.slow

RUN = """
import sys
from datetime import UTC, datetime
from vpoc_ml import pipeline

lake, run, raw, *chosen = sys.argv[1:]
now = datetime(2023, 7, 10, 22, 30, tzinfo=UTC)
for code in chosen or [None]:
    name = f"{run}-{code}"
    pipeline.start_run(lake, name, "smoke", {"data.contracts": [code]} if code else None, raw, None, now)
    codes = pipeline.plan_contracts(lake, name).contracts
    print("planned", flush=True)
    for each in codes:
        pipeline.ingest_contract(lake, name, each)
    pipeline.build_rolls(lake, name, codes)
    for each in codes:
        pipeline.profile_contract(lake, name, each)
    for each in codes:
        pipeline.features_contract(lake, name, each)
    if code:
        pipeline.features_successor(lake, name, code)
"""


@pytest.fixture
def start(built):
    """Start a run in a process of its own: all contracts in one run, or one run for each of those named."""
    started = []

    def begin(lake, run, *codes):
        command = [sys.executable, "-c", RUN, str(lake), run, str(built(H, M, U) / "raw"), *codes]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.wait()


def finished(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_backfill_beside_the_nightly_run_equals_one_after_the_other(where, request, built, start, tmp_path):
    lake = tmp_path / "lake" if where == "folder" else request.getfixturevalue("bucket")
    nightly, backfill = start(lake, "nightly"), start(lake, "backfill", "ESU23", "ESM23", "ESH23")
    finished(nightly)
    finished(backfill)
    assert contents(lake) == contents(built(H, M, U) / "lake")
    assert not [key for key in Lake(lake).names("") if ".tmp" in key]


def test_killed_backfill_leaves_a_lake_that_the_nightly_run_completes(built, start, tmp_path):
    lake = tmp_path / "lake"
    backfill, nightly = start(lake, "backfill", "ESU23", "ESM23", "ESH23"), start(lake, "nightly")
    assert backfill.stdout.readline() == "planned\n"
    deadline = time.monotonic() + 60
    while not Lake(lake).keys("bars") and time.monotonic() < deadline:
        time.sleep(0.01)
    backfill.send_signal(signal.SIGKILL)
    finished(nightly)
    assert contents(lake) == contents(built(H, M, U) / "lake")


def test_backfill_of_a_lake_that_is_whole_does_nothing(built, start, tmp_path):
    place = shutil.copytree(built(H, M, U), tmp_path / "place")
    before = contents(place / "lake")
    finished(start(place / "lake", "backfill", "ESH23"))
    assert night(place) == (set(), {})
    assert contents(place / "lake") == before
