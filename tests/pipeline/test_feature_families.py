"""Optional families in the lake: what a run computes, what makes it stale, where the other instrument comes from."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import ArtifactError, GateFailedError
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.ingest.vix.vix_closes import available_at
from vpoc_ml.lake.store import BuildKey, Lake

from .short_days import MINUTES, bars_of, walk

pytestmark = pytest.mark.slow

NOW = datetime(2024, 7, 1, 22, 30, tzinfo=UTC)
# contract -> first and last session of its file, first and last as the front contract
FILES = {"H24": (0, 50, 0, 44), "M24": (30, 100, 45, 100)}
PAIR = {"features.extras": "cointegration, hurst", "features.pair": "NQ"}


def make_bars(code: str, first: int, last: int, front: range, level: float, seed: int) -> pl.DataFrame:
    """A contract of a walk of its own; it trades more from the session before it becomes front."""
    return bars_of(code, first, last, walk(int(4 * level), first, last, seed), range(front.start - 1, front.stop - 1))


class World:
    """A lake in which two instruments can be delivered, each with two contracts."""

    def __init__(self, root: Path) -> None:
        self.root, self.lake = str(root), Lake(str(root))
        close = pl.DataFrame({"date": pl.date_range(date(2023, 12, 1), date(2024, 7, 31), eager=True)})
        close = close.with_columns(close=15.0, available_at=available_at("date"))
        self.lake.write_frame("vix/VIX.parquet", close, BuildKey({"file": "made"}, "", ""))

    def deliver(self, symbol: str, level: float, seed: int = 3) -> None:
        for code, (first, last, begins, ends) in FILES.items():
            front = range(begins, 10**6 if ends == last else ends + 1)
            bars = make_bars(symbol + code, first, last, front, level, seed)
            self.lake.write_frame(f"bars/{symbol}/{symbol}{code}.parquet", bars, BuildKey({"raw": "made"}, "", ""))

    def run(self, name: str, symbol: str, overrides: dict[str, Any] | None = None) -> dict[str, str]:
        """Roll table, profiles and features of an instrument; return why each contract's features were made."""
        given = {"data.instrument": symbol, **(overrides or {})}
        pipeline.start_run(self.root, name, "smoke", given, None, None, NOW)
        codes = [symbol + code for code in FILES]
        pipeline.build_rolls(self.root, name, codes)
        for code in codes:
            pipeline.profile_contract(self.root, name, code)
        return {code: pipeline.features_contract(self.root, name, code).reason for code in codes}

    def features(self, code: str) -> pl.DataFrame:
        return self.lake.read_frame(f"features/ES/{code}.parquet")


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path / "lake")
    found.deliver("ES", 5000.0)
    return found


def test_without_families_the_features_are_the_registrys_and_with_them_more(world: World) -> None:
    world.run("plain", "ES")
    assert world.features("ESM24").columns == ["ts", "contract", "session", *FEATURE_NAMES]
    reasons = world.run("more", "ES", {"features.extras": "hurst, fracdiff"})
    assert set(reasons.values()) == {"config changed"}
    assert world.features("ESM24").columns[-2:] == ["hurst_390m", "fracdiff_04"]
    assert set(world.run("again", "ES", {"features.extras": "fracdiff, hurst"}).values()) == {"unchanged"}


def test_the_pair_is_read_from_the_lake_and_its_change_makes_the_features_stale(world: World) -> None:
    with pytest.raises(ArtifactError, match="run NQ first"):
        world.run("early", "ES", PAIR)
    world.deliver("NQ", 18_000.0, seed=4)
    world.run("nq", "NQ")
    world.run("night", "ES", PAIR)
    found = world.features("ESM24")["coint_z_20d"].to_numpy()
    assert np.isfinite(found[20 * MINUTES :]).all()
    assert set(world.run("next", "ES", PAIR).values()) == {"unchanged"}
    world.deliver("NQ", 18_000.0, seed=5)
    world.run("nq2", "NQ")
    assert world.run("last", "ES", PAIR)["ESM24"] == "inputs changed: pair"
    assert not np.array_equal(world.features("ESM24")["coint_z_20d"].to_numpy(), found, equal_nan=True)


@pytest.mark.parametrize(
    ("code", "kept", "reported"),
    [("NQM24", slice(60 * MINUTES), "bars up to"), ("NQH24", slice(9 * MINUTES, None), "bars from")],
)
def test_a_pair_that_ends_before_the_bars_or_begins_after_them_is_refused(world, code, kept, reported) -> None:
    world.deliver("NQ", 18_000.0)
    bars = world.lake.read_frame(f"bars/NQ/{code}.parquet")
    world.lake.write_frame(f"bars/NQ/{code}.parquet", bars[kept], BuildKey({"raw": "cut"}, "", ""))
    world.run("nq", "NQ")
    with pytest.raises(ArtifactError, match=reported):
        world.run("night", "ES", PAIR)


def test_har_reads_more_sessions_than_the_others(world: World) -> None:
    world.run("plain", "ES")
    kept = world.lake.manifest("features/ES/ESM24.parquet")
    assert kept is not None
    world.run("har", "ES", {"features.extras": "har"})
    made = world.lake.manifest("features/ES/ESM24.parquet")
    assert made is not None
    assert made.details["history"]["sessions"] == 83
    assert kept.details["history"]["sessions"] == 30
    assert made.details["spliced_from"] is None  # 45 sessions before the roll are fewer than its warm-up of 53
    assert made.inputs["predecessor"] != kept.inputs["predecessor"]


def test_the_gate_checks_only_the_features_that_are_named(world: World) -> None:
    world.run("all", "ES")
    with pytest.raises(GateFailedError):  # some features of these thin bars are constant
        pipeline.gate_features(world.root, "all", ["ESM24"])
    settings = {"data.instrument": "ES", "features.names": "mom_15m, vwap"}
    pipeline.start_run(world.root, "some", "smoke", settings, None, None, NOW)
    assert pipeline.gate_features(world.root, "some", ["ESM24"]).passed


def missing_columns(world: World, run: str) -> set[str]:
    """Return the columns the gate misses; these thin bars fail it in any case, because some columns are constant."""
    with pytest.raises(GateFailedError) as caught:
        pipeline.gate_features(world.root, run, ["ESM24"])
    return {each["column"] for each in caught.value.verdict["failures"] if each["check"] in ("schema", "missing")}


@pytest.mark.slow
def test_the_gate_requires_the_columns_of_the_chosen_families(world: World) -> None:
    world.run("hurst", "ES", {"features.extras": "hurst"})
    assert missing_columns(world, "hurst") == set()
    world.run("plain", "ES")
    assert missing_columns(world, "plain") == set()
    assert missing_columns(world, "hurst") == {"hurst_390m"}
