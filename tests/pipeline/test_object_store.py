"""The whole path on a lake in S3, every stage on a machine that knows nothing but the store."""

import os
from pathlib import Path

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import ConfigError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.champion_stages import model_store
from vpoc_ml.pipeline.stages import GATES, STAGES

from .conftest import KEY, LEARNS, NOW

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
KINDS = ("bars", "quarantine", "sessions", "developing", "features")


@pytest.fixture
def workers(monkeypatch, tmp_path):
    """Give every stage a machine of its own: an empty cache. The registry is a shared folder."""
    monkeypatch.setenv("VPOC_REGISTRY", str(tmp_path / "registry"))
    machines = iter(range(1000))

    def move(result=None):
        monkeypatch.setenv("VPOC_CACHE", str(tmp_path / f"machine{next(machines)}"))

    move()
    return move


def test_every_stage_finds_what_earlier_ones_wrote_elsewhere(bucket, market, workers):
    lake = f"{bucket}/es"
    pipeline.start_run(lake, "first", "smoke", LEARNS, str(market), None, NOW)
    pipeline.run_until(lake, "first", STAGES[-1].name, NOW, on_stage=workers)
    workers()
    pipeline.publish_reports(lake, "first", NOW)
    workers()
    summary = pipeline.summarize(lake, "first")
    assert summary.decision.promote, summary.decision.reasons
    assert set(summary.reports) == {"evaluation", "gates", "data docs"}
    assert all(place.startswith(f"{lake}/") for place in summary.reports.values())
    assert [gate.report for gate in summary.gates] == [f"{lake}/reports/runs/first/gates.html"] * len(GATES)
    assert model_store(Lake(lake), KEY).champion().run == "first"
    check_store(lake)
    check_second_run(lake, market, workers)


def check_store(lake):
    kept = set(Lake(lake).storage.version_tokens(""))
    assert {f"{kind}/ES/ESH23.{end}" for kind in KINDS for end in ("parquet", "json")} <= kept
    assert {"vix/VIX.parquet", "roll/ES.parquet", "predictions/ES-1m-rank/v1/ESH23.parquet"} <= kept
    of_run = ("config.json", "stages/train.json", "training_set.parquet", "training_set.json", "report.html")
    assert {f"runs/first/{name}" for name in (*of_run, "best_model.safetensors", "predictions.parquet")} <= kept
    assert any(key.startswith("runs/first/checkpoints/") for key in kept)
    assert not [key for key in kept if key.endswith(".tmp")]


def check_second_run(lake, market, workers):
    """The same night again on yet other machines: nothing is made twice."""
    pipeline.start_run(lake, "second", "smoke", LEARNS, str(market), None, NOW)
    results = []
    pipeline.run_until(lake, "second", "train", NOW, on_stage=lambda result: (results.append(result), workers()))
    worked = [result.stage for result in results if getattr(result, "skipped", None) is False]
    assert worked == ["training-set"], "which every run makes for itself"


def test_vendor_files_in_the_store(bucket, delivery, workers, monkeypatch):
    """Without a folder of vendor files the ones below ``raw/`` of the store are read."""
    lake = Lake(bucket)
    for path in delivery.iterdir():
        lake.storage.upload(path, f"raw/{path.name}")
    pipeline.start_run(bucket, "night", "smoke", None, None, None, NOW)
    pipeline.run_until(bucket, "night", "profile", NOW)
    assert lake.keys("sessions") == ["sessions/ES/ESH23.parquet"]
    folder = Path(os.environ["VPOC_CACHE"])
    assert len(list(folder.rglob("raw/ES*.txt"))) == 1


def test_registry_needs_a_place(bucket, monkeypatch):
    monkeypatch.delenv("VPOC_REGISTRY", raising=False)
    with pytest.raises(ConfigError, match="VPOC_REGISTRY"):
        pipeline.models(bucket)
