"""A rerun does nothing; a change rebuilds what depends on it and nothing else."""

import pytest

from vpoc_ml import pipeline
from vpoc_ml.lake.store import Lake
from vpoc_ml.market.instrument_files import INSTRUMENTS_VARIABLE

from .conftest import BEGIN, NOW, ROWS

pytestmark = pytest.mark.slow

LAST = "features"
BUILT = ("ingest", "rolls", "profile", "features")


def build(lake, run):
    """Run up to the features; return which stages did work and the content hash of every artifact."""
    results = []
    pipeline.run_until(lake, run, LAST, NOW, on_stage=results.append)
    worked = [result.stage for result in results if result.stage in BUILT and not result.skipped]
    hashes = {path.name: path.read_bytes() for path in Lake(lake).root.glob("*/ES/*.parquet")}
    return worked, hashes


def test_second_run_skips_every_stage_and_changes_no_byte(lake, start):
    first, before = build(lake, start("one"))
    second, after = build(lake, start("two"))
    assert first == list(BUILT)
    assert second == []
    assert after == before


def test_two_lakes_hold_the_same_bytes(lake, start, tmp_path, delivery):
    _, here = build(lake, start("one"))
    other = str(tmp_path / "other")
    pipeline.start_run(other, "one", "smoke", None, str(delivery), None, NOW)
    assert build(other, "one")[1] == here


def test_longer_file_rebuilds_the_contract(lake, start, delivery, market):
    build(lake, start())
    whole = next(market.glob("ES*.txt")).read_bytes().splitlines(keepends=True)
    next(delivery.glob("ES*.txt")).write_bytes(b"".join(whole[BEGIN : BEGIN + ROWS + 1380]))
    assert build(lake, "night")[0] == list(BUILT)


def test_later_vix_closes_rebuild_nothing(lake, start, delivery):
    vix = next(delivery.glob("VIX*"))
    *known, later = vix.read_text().splitlines(keepends=True)
    vix.write_text("".join(known))
    build(lake, start())
    last_bar = Lake(lake).manifest("bars/ES/ESH23.parquet").last_ts
    vix.write_text("".join([*known, later]))
    assert build(lake, "night")[0] == []
    assert Lake(lake).read_frame("vix/VIX.parquet")["available_at"].max().isoformat() > last_bar


def test_corrected_vix_close_rebuilds_bars_and_features_only_where_seen(lake, start, delivery):
    build(lake, start())
    vix = next(delivery.glob("VIX*"))
    lines = vix.read_text().splitlines()
    manifest = Lake(lake).manifest("bars/ES/ESH23.parquet")
    seen = Lake(lake).read_frame("vix/VIX.parquet")
    row = next(
        number for number, timestamp in enumerate(seen["available_at"]) if timestamp.isoformat() > manifest.first_ts
    )
    day, open_, high, low, _ = lines[1 + row].split(",")
    corrected = round(float(low) + 0.03, 2)
    lines[1 + row] = f"{day},{open_},{high},{low},{corrected}"
    vix.write_text("\n".join(lines) + "\n")
    assert "ingest" in build(lake, "night")[0]
    assert corrected in Lake(lake).read_frame("bars/ES/ESH23.parquet")["vix"].to_list()


def test_profile_setting_rebuilds_profile_and_features_but_not_bars(lake, start):
    build(lake, start())
    assert build(lake, start(overrides={"profile.value_area": 0.68}))[0] == ["profile", "features"]


def test_training_setting_rebuilds_no_data(lake, start):
    build(lake, start())
    assert build(lake, start(overrides={"training.learning_rate": 1e-3}))[0] == []


def test_torn_artifact_is_made_again(lake, start):
    build(lake, start())
    path = Lake(lake).path("features/ES/ESH23.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert build(lake, "night")[0] == ["features"]
    assert path.read_bytes() == whole


def test_instrument_of_ones_own_rebuilds_everything_made_with_the_old_one(lake, start, tmp_path, monkeypatch):
    build(lake, start())
    mine = tmp_path / "instruments.toml"
    mine.write_text("[ES]\nslippage_ticks = 2\n")
    monkeypatch.setenv(INSTRUMENTS_VARIABLE, str(mine))
    assert build(lake, "night")[0] == list(BUILT)
