"""Contracts and folds in processes of their own: the bytes of one process, and its errors."""

import json
from datetime import UTC, datetime

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import InputError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.run import open_run
from vpoc_ml.synthetic.generate import write_market

from .conftest import NOW
from .nights import H, M, contents, deliver
from .test_walk_forward import SETTINGS, first_sessions

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def run(lake, raw, last, jobs, now=NOW, **settings):
    results = []
    pipeline.start_run(str(lake), "night", "smoke", settings, str(raw), None, now)
    pipeline.run_until(str(lake), "night", last, now, jobs=jobs, on_stage=results.append)
    return [(each.stage, each.contract) for each in results]


def test_two_contracts_at_a_time_leave_the_bytes_of_one_at_a_time(tmp_path):
    write_market(tmp_path / "raw", contracts=2, seed=7, mode="signal")
    now = datetime(2023, 6, 16, 22, 30, tzinfo=UTC)
    one = run(tmp_path / "one", tmp_path / "raw", "features", 1, now)
    two = run(tmp_path / "two", tmp_path / "raw", "features", 2, now)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert len(contents(tmp_path / "one")) == 2 * 5 + 2, "five artifacts of each contract, rolls and VIX"
    assert two == one


def test_two_folds_at_a_time_leave_the_bytes_of_one_at_a_time(delivery, tmp_path):
    raw = first_sessions(delivery, tmp_path / "raw", 11)
    found = {}
    for jobs in (1, 2):
        lake = Lake(tmp_path / f"lake{jobs}")
        run(lake.root, raw, "track-record", jobs, **SETTINGS)
        folds = json.loads((lake.root / "runs" / "night" / "folds.json").read_text())
        predictions = sorted(lake.root.glob("track/ES/*/predictions.parquet"))
        found[jobs] = folds, [(path.parent.name, path.read_bytes()) for path in predictions]
        assert len(predictions) > 1
    assert found[1] == found[2]


def test_an_error_in_a_process_is_that_of_one_process_with_its_record(vendor, tmp_path):
    deliver(vendor, tmp_path / "raw", H, M)
    (tmp_path / "raw" / "VIX_History.csv").write_text("DATE,CLOSE\n2023-05-01,17.5\n")
    messages = []
    for jobs in (1, 2):
        with pytest.raises(InputError) as caught:
            run(tmp_path / f"lake{jobs}", tmp_path / "raw", "ingest", jobs)
        messages.append((type(caught.value), str(caught.value)))
        records = Lake(tmp_path / f"lake{jobs}").read_json("runs/night/stages/ingest.ESH23.json")
        assert records["error"] == str(caught.value)
        assert open_run(str(tmp_path / f"lake{jobs}"), "night").has_result("plan")
    assert messages[0] == messages[1]
