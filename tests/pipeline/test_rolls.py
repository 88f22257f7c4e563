"""Rolls and continuity in the lake: which feature file is made again, why, and which is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import MissingInputError, UnreadableFileError
from vpoc_ml.features.registry import FEATURE_NAMES
from vpoc_ml.ingest.vix.vix_closes import available_at
from vpoc_ml.lake.store import BuildKey, Lake, Manifest
from vpoc_ml.market.instruments import instrument
from vpoc_ml.pipeline import feature_inputs, roll_stage

from .short_days import DAYS, bars_of, walk

NOW = datetime(2024, 7, 1, 22, 30, tzinfo=UTC)
# contract -> first and last session in its file, first session as the front contract; all places in DAYS
FILES = {"ESH24": (0, 50, 0), "ESM24": (30, 113, 45), "ESU24": (90, 120, 105)}
GAP = 50.0
Bars = Callable[..., pl.DataFrame]


def make_bars(code: str, first: int, last: int, front: int, follower: int | None, seed: int = 3) -> pl.DataFrame:
    """One walk of prices for all contracts, each 50 points above the one before; volume is all the front's."""
    closes = walk(20_000, first, last, seed) + GAP * list(FILES).index(code)
    # the new contract trades more for the first time in the session before it becomes front
    return bars_of(code, first, last, closes, range(front - 1, (follower or 10**6) - 1))


class World:
    """A lake with a started run; bars are put into it as an ingest would, without vendor files."""

    def __init__(self, root: Path, overrides: dict[str, Any] | None = None) -> None:
        self.root = str(root)
        self.lake = Lake(self.root)
        self.begin("night", overrides)
        close = pl.DataFrame({"date": pl.date_range(date(2023, 12, 1), date(2024, 7, 31), eager=True)})
        close = close.with_columns(close=15.0, available_at=available_at("date"))
        self.lake.write_frame("vix/VIX.parquet", close, BuildKey({"file": "made"}, "", ""))

    def begin(self, name: str, overrides: dict[str, Any] | None = None) -> None:
        self.run = name
        pipeline.start_run(self.root, name, "smoke", overrides, None, None, NOW)

    def deliver(self, code: str, change: Callable[[pl.DataFrame], pl.DataFrame] = lambda bars: bars) -> None:
        first, last, front = FILES[code]
        follower = next((start for other, (_, _, start) in FILES.items() if start > front), None)
        bars = change(make_bars(code, first, last, front, follower))
        self.lake.write_frame(f"bars/ES/{code}.parquet", bars, BuildKey({"raw": "made"}, "", ""))

    def build(self) -> dict[str, str]:
        """Run the stages over what the lake holds; return why each contract's features were made."""
        codes = [code for code in FILES if self.lake.manifest(f"bars/ES/{code}.parquet")]
        pipeline.build_rolls(self.root, self.run, codes)
        for code in codes:
            pipeline.profile_contract(self.root, self.run, code)
        return {code: pipeline.features_contract(self.root, self.run, code).reason for code in codes}

    def rolls(self) -> dict[str, dict[str, Any]]:
        return {row["contract"]: row for row in self.lake.read_frame("roll/ES.parquet").iter_rows(named=True)}

    def features(self, code: str) -> pl.DataFrame:
        return self.lake.read_frame(f"features/ES/{code}.parquet")

    def manifest(self, code: str) -> Manifest:
        found = self.lake.manifest(f"features/ES/{code}.parquet")
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path / "lake")
    for code in FILES:
        found.deliver(code)
    return found


FRESH = dict.fromkeys(FILES, "unchanged")


def on(*places: int) -> pl.Expr:
    return pl.col("session").is_in([DAYS[place] for place in places])


def cheaper(*places: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A correction: one tick off the lows of these sessions."""
    return lambda bars: bars.with_columns(low=pl.when(on(*places)).then(pl.col("low") - 0.25).otherwise("low"))


def test_roll_table_has_periods_predecessors_gaps_and_ratios(world: World) -> None:
    world.build()
    table = world.rolls()
    assert [(row["first_session"], row["last_session"]) for row in table.values()] == [
        (DAYS[0], DAYS[44]),
        (DAYS[45], DAYS[104]),
        (DAYS[105], DAYS[120]),
    ]
    assert [row["predecessor"] for row in table.values()] == [None, "ESH24", "ESM24"]
    assert [row["gap"] for row in table.values()] == [None, GAP, GAP]
    before = make_bars("ESH24", 44, 44, 0, 45)["close"]
    walk = make_bars("ESH24", 0, 50, 0, 45).filter(on(44))["close"]
    assert before.len() == walk.len()
    assert table["ESM24"]["ratio"] == ((walk + GAP) / walk).median()


def test_only_the_first_contract_has_a_warm_up_once_it_is_front(world: World) -> None:
    assert world.build() == dict.fromkeys(FILES, "new")
    assert world.manifest("ESH24").details["history_sessions"] == 0
    for code, before in (("ESM24", "ESH24"), ("ESU24", "ESM24")):
        details, found = world.manifest(code).details, world.features(code)
        assert (details["history_sessions"], details["predecessors"]) == (30, [before])
        assert details["spliced_from"] == DAYS[FILES[code][2]].isoformat()
        front = found.filter(pl.col("session") >= DAYS[FILES[code][2]])
        assert not front.select(pl.any_horizontal(pl.col(FEATURE_NAMES).is_nan().any())).item()
        assert abs(front["close_change_pct"][0]) < 0.1, "a raw return would be one percent"
        assert found["price_mom_5d"][0] != found["price_mom_5d"][0], "its own first bar, before it is front"
        assert found.height == world.lake.read_frame(f"bars/ES/{code}.parquet").height
    assert world.features("ESH24")["vpoc_prev_dist"].is_nan().any()


def test_a_second_build_makes_nothing_and_reads_no_predecessor(world: World, monkeypatch) -> None:
    world.build()
    read: list[str] = []
    original = Lake.read_frame

    def spy(self: Lake, key: str, *args: Any, **kwargs: Any) -> pl.DataFrame:
        read.append(key)
        return original(self, key, *args, **kwargs)

    monkeypatch.setattr(Lake, "read_frame", spy)
    assert world.build() == FRESH
    assert not [key for key in read if key.startswith("bars/")]


def test_predecessor_corrected_in_its_last_thirty_sessions_makes_its_successor_stale_and_no_other(world: World) -> None:
    world.build()
    world.deliver("ESH24", cheaper(40))
    reasons = world.build()
    assert reasons["ESM24"] == "inputs changed: predecessor"
    assert "bars" in reasons["ESH24"]
    assert reasons["ESU24"] == "unchanged"


def test_predecessor_corrected_before_its_last_thirty_sessions_leaves_its_successor_alone(world: World) -> None:
    world.build()
    world.deliver("ESH24", cheaper(14))
    assert world.build()["ESM24"] == "unchanged"
    world.deliver("ESH24", cheaper(14, 15))
    assert world.build()["ESM24"] == "inputs changed: predecessor", "15 is the first of the last thirty, 15..44"


def test_predecessor_corrected_after_the_roll_leaves_its_successor_alone(world: World) -> None:
    world.build()
    world.deliver("ESH24", cheaper(47))
    assert world.build()["ESM24"] == "unchanged"


def test_a_new_session_of_the_front_contract_rebuilds_its_own_features_only(world: World) -> None:
    world.deliver("ESU24", lambda bars: bars.filter(pl.col("session") < DAYS[120]))
    world.build()
    world.deliver("ESU24")
    reasons = world.build()
    assert {code: text == "unchanged" for code, text in reasons.items()} == {
        "ESH24": True,
        "ESM24": True,
        "ESU24": False,
    }
    assert "predecessor" not in reasons["ESU24"]
    assert "roll" not in reasons["ESU24"]


def test_spliced_rows_stay_the_same_when_the_contract_grows(world: World) -> None:
    world.deliver("ESU24", lambda bars: bars.filter(pl.col("session") < DAYS[112]))
    world.build()
    before = world.features("ESU24")
    world.deliver("ESU24")
    world.build()
    assert world.features("ESU24").head(before.height).equals(before, null_equal=True)


def test_a_moved_roll_makes_the_successor_stale(world: World) -> None:
    world.build()
    # on the session of the crossover the old contract now trades more: the roll comes a session later
    world.deliver("ESH24", lambda bars: bars.with_columns(volume=pl.when(on(44)).then(900).otherwise("volume")))
    reasons = world.build()
    assert world.rolls()["ESM24"]["first_session"] == DAYS[46]
    assert reasons["ESM24"] == "inputs changed: predecessor, roll"
    assert reasons["ESU24"] == "unchanged"


def test_a_changed_ratio_makes_the_successor_stale(world: World) -> None:
    world.build()
    higher = [pl.when(on(44)).then(pl.col(n) + 1).otherwise(n).alias(n) for n in ("open", "high", "low", "close")]
    world.deliver("ESM24", lambda bars: bars.with_columns(higher))
    assert "roll" in world.build()["ESM24"]
    assert world.rolls()["ESM24"]["gap"] == GAP + 1


def test_a_file_that_ends_before_the_crossover_loses_no_session_of_the_next_contract(world: World) -> None:
    world.deliver("ESH24", lambda bars: bars.filter(pl.col("session") < DAYS[44]))
    world.build()
    table = world.rolls()
    assert [table[code][name] for code, name in (("ESH24", "last_session"), ("ESM24", "first_session"))] == DAYS[43:45]
    assert table["ESM24"]["gap"] == GAP
    assert world.manifest("ESM24").details["history_sessions"] == 30
    assert pipeline.summarize(world.root, world.run).lost == ()


def test_what_a_roll_without_overlap_loses_is_in_the_summary(world: World) -> None:
    world.deliver("ESH24", lambda bars: bars.filter(pl.col("session") < DAYS[43]))
    world.deliver("ESM24", lambda bars: bars.filter(pl.col("session") >= DAYS[44]))
    world.build()
    unmeasured, lost = sorted(pipeline.summarize(world.root, world.run).lost, key=lambda text: "without a bar" in text)
    assert unmeasured.startswith(
        f"ESM24: no session of the week before {DAYS[44]} in which ESH24 and ESM24 both traded"
    )
    assert lost.startswith(f"ESH24: session {DAYS[43]} without a bar of the front contract")


def test_built_without_a_predecessor_until_it_arrives(tmp_path: Path) -> None:
    world = World(tmp_path / "lake")
    world.deliver("ESM24")
    assert world.build() == {"ESM24": "new"}
    alone = world.features("ESM24")
    assert world.manifest("ESM24").details["history_sessions"] == 0
    world.deliver("ESU24")
    assert world.build() == {"ESM24": "unchanged", "ESU24": "new"}
    world.deliver("ESH24")
    assert world.build() == {"ESH24": "new", "ESM24": "inputs changed: predecessor, roll", "ESU24": "unchanged"}
    spliced = world.features("ESM24")
    early = pl.col("session") < DAYS[45]
    assert spliced.filter(early).equals(alone.filter(early), null_equal=True)
    assert not spliced.filter(~early).equals(alone.filter(~early), null_equal=True)
    assert world.build() == FRESH


def test_a_predecessor_shorter_than_the_warm_up_is_none(tmp_path: Path) -> None:
    world = World(tmp_path / "lake")
    for code in ("ESH24", "ESM24"):
        world.deliver(code, lambda bars: bars.filter(pl.col("session") >= DAYS[35]))
    world.build()
    assert world.rolls()["ESM24"]["predecessor"] == "ESH24"
    assert world.manifest("ESM24").details["history_sessions"] == 0
    assert world.manifest("ESM24").details["spliced_from"] is None
    world.deliver("ESH24")
    assert world.build()["ESM24"] == "inputs changed: predecessor"
    assert world.manifest("ESM24").details["history_sessions"] == 30


def test_short_front_periods_chain_to_the_contract_before(tmp_path: Path, monkeypatch) -> None:
    """As for monthly contracts: twelve front sessions of the nearest are continued by the one before."""
    monkeypatch.setitem(FILES, "ESM24", (30, 113, 93))
    monkeypatch.setitem(FILES, "ESH24", (0, 100, 0))
    world = World(tmp_path / "lake")
    for code in FILES:
        world.deliver(code)
    # ESH24 expires on 15 March, so its period ends there and ESM24 takes over
    world.build()
    table = world.rolls()
    assert table["ESU24"]["predecessor"] == "ESM24"
    monkeypatch.setattr(feature_inputs, "HISTORY_SESSIONS", 70)
    world.lake.path("features/ES/ESU24.parquet").unlink()
    assert world.build()["ESU24"].startswith("damaged")
    assert world.manifest("ESU24").details["predecessors"] == ["ESM24", "ESH24"]
    world.deliver("ESH24", cheaper(49))
    assert world.build()["ESU24"] == "inputs changed: predecessor"


def test_a_profile_setting_rebuilds_the_features(world: World) -> None:
    world.build()
    world.begin("other", {"profile.value_area": 0.68})
    assert all("config changed" in text for text in world.build().values())


def test_only_a_step_whose_bars_changed_is_measured_again(world: World, monkeypatch) -> None:
    world.build()
    measured: list[date] = []
    original = roll_stage.measure_roll
    monkeypatch.setattr(roll_stage, "measure_roll", lambda *args: measured.append(args[2]) or original(*args))
    world.deliver("ESU24", cheaper(118))
    world.build()
    assert measured == [DAYS[105]]
    assert world.rolls()["ESM24"]["gap"] == GAP


# ---------------------------------------------------------------- steps without common minutes


def front_only(world: World, first: str = "ESH24", last: str = "ESU24") -> None:
    """Deliver files that hold only the front period of each contract from ``first`` to ``last``."""
    starts = [start for _, _, start in FILES.values()] + [len(DAYS)]
    for code, begin, end in zip(FILES, starts, starts[1:], strict=False):
        if first <= code <= last:
            period = pl.col("session").is_between(DAYS[begin], DAYS[end - 1])
            world.deliver(code, lambda bars, period=period: bars.filter(period))


def step(world: World, code: str = "ESM24") -> tuple[str | None, float | None]:
    row = world.rolls()[code]
    return row["source"], row["gap"]


def test_files_of_front_periods_have_estimated_steps_and_no_second_warm_up(tmp_path: Path) -> None:
    world = World(tmp_path / "lake")
    front_only(world)
    world.build()
    for code, row in world.rolls().items():
        if code == "ESH24":
            assert (row["source"], row["uncertainty"]) == (None, None)
            continue
        assert row["source"] == "estimated"
        assert abs(row["gap"] - GAP) <= 0.75, "one step of the walk"
        assert 0.25 < row["uncertainty"] < 0.75, "steps of -3 to 3 ticks: 2 ticks"
        assert world.manifest(code).details["history_sessions"] == 30
        assert not world.features(code).select(pl.any_horizontal(pl.col(FEATURE_NAMES).is_nan().any())).item()
    notes = pipeline.summarize(world.root, world.run).steps
    assert [note.partition(",")[0] for note in notes] == [
        f"{code}: gap of {world.rolls()[code]['gap']:g} points to {world.rolls()[code]['predecessor']}"
        for code in ("ESM24", "ESU24")
    ]
    assert pipeline.summarize(world.root, world.run).lost == ()


def test_a_stated_step_is_used_before_a_measured_one(world: World, tmp_path: Path) -> None:
    file = tmp_path / "rolls.csv"
    file.write_text("contract,gap\nES 06-24,48.5\n")
    world.build()
    world.begin("stated", {"data.rolls": str(file)})
    reasons = world.build()
    assert (step(world), step(world, "ESU24")) == (("file", 48.5), ("common", GAP))
    assert (reasons["ESM24"], reasons["ESU24"]) == ("inputs changed: predecessor, roll", "unchanged")
    assert pipeline.summarize(world.root, "stated").steps == (
        "ESM24: gap of 48.5 points to ESH24, as data.rolls states",
    )
    assert world.build() == FRESH
    file.write_text("contract,gap\nESM24,49\n")
    world.build()
    assert step(world) == ("file", 49.0)
    world.begin("adjusted", {"data.adjusted": True})
    world.build()
    assert (step(world), world.rolls()["ESM24"]["ratio"]) == (("adjusted", 0.0), 1.0)
    world.begin("measured")
    world.build()
    assert step(world) == ("common", GAP), "a stated step is not kept"


def test_a_run_without_the_file_of_stated_steps_ends(world: World, tmp_path: Path) -> None:
    world.begin("lost", {"data.rolls": str(tmp_path / "nowhere.csv")})
    with pytest.raises(MissingInputError, match=r"the steps of the rolls that data\.rolls names"):
        world.build()
    (tmp_path / "bad.csv").write_text("contract,gap\nESM24,wide\n")
    world.begin("bad", {"data.rolls": str(tmp_path / "bad.csv")})
    with pytest.raises(UnreadableFileError, match=r"bad\.csv"):
        world.build()


def test_an_estimated_step_stays_once_the_first_bar_is_there(tmp_path: Path, monkeypatch) -> None:
    world = World(tmp_path / "lake")
    front_only(world, last="ESH24")
    period = make_bars("ESM24", 45, 104, 45, 105)
    for bars in (1, 20, 21, 30 * 20):
        world.deliver("ESM24", lambda _, bars=bars: period.head(bars))
        world.build()
        if bars == 1:
            found, first = world.rolls()["ESM24"], world.features("ESM24")
        for name in ("source", "gap", "ratio", "uncertainty"):
            assert world.rolls()["ESM24"][name] == found[name], name
        assert world.features("ESM24").head(1).equals(first, null_equal=True), "no later price in the first bar's row"
    assert found["source"] == "estimated"
    other = pl.when(pl.int_range(pl.len()) > 0)
    prices = [other.then(pl.col(n) * 1.3).otherwise(n).alias(n) for n in ("open", "high", "low", "close")]
    world.deliver("ESM24", lambda _: period.with_columns(prices))
    world.build()
    assert world.features("ESM24").head(1).equals(first, null_equal=True)
    measured: list[date] = []
    original = roll_stage.estimate_roll
    monkeypatch.setattr(roll_stage, "estimate_roll", lambda *args: measured.append(args[2]) or original(*args))
    front_only(world, first="ESU24")
    world.build()
    assert measured == [DAYS[105]]


def test_no_label_over_sessions_crosses_an_estimated_step(tmp_path: Path) -> None:
    """The estimate takes the market's move at the roll for a part of the step, so such a return would lack it."""
    missing = {}
    for name, deliver in (("common", lambda each: [each.deliver(code) for code in FILES]), ("estimated", front_only)):
        world = World(tmp_path / name, {"dataset.horizon": "1s", "dataset.min_sessions": 30})
        deliver(world)
        world.build()
        pipeline.build_training_set(world.root, world.run, list(FILES))
        rows = pl.read_parquet(Path(world.root) / "runs" / world.run / "training_set.parquet")
        none = rows.group_by("session").agg(pl.col("ret").is_nan().all()).filter("ret")["session"]
        missing[name] = {DAYS.index(day) for day in none}
    assert missing == {"common": {120}, "estimated": {44, 104, 120}}, "120 is the last session of the data"


def test_rows_lost_to_warm_ups_have_a_reason(tmp_path: Path) -> None:
    world = World(tmp_path / "lake", {"dataset.min_sessions": 30})
    world.deliver("ESH24", lambda bars: bars.filter(pl.col("session") >= DAYS[35]))
    world.deliver("ESM24", lambda bars: bars.filter(pl.col("session") >= DAYS[35]))
    world.deliver("ESU24", lambda bars: bars.filter(pl.col("session") >= DAYS[107]))
    world.build()
    first, second, third = pipeline.build_training_set(world.root, world.run, list(FILES)).losses
    assert (first.rows, first.lost, first.reason) == (200, 200, "warm-up of the first contract")
    assert second.reason == "its own warm-up: the history of ESH24 is too short or holds a price at or below 0"
    assert 0 < second.lost < second.rows
    assert (third.lost, third.text) == (0, f"ESU24: 0 of {third.rows:,}, ")
    summary = pipeline.summarize(world.root, world.run)
    assert summary.lost_rows[1:] == (first.text, second.text)


# ---------------------------------------------------------------- rules


def test_calendar_rule_by_configuration(world: World) -> None:
    world.begin("calendar", {"data.roll_rule": "calendar"})
    world.build()
    assert world.rolls()["ESM24"]["first_session"] == date(2024, 3, 11)
    assert world.rolls()["ESU24"]["first_session"] == DAYS[114], "ESM24's file ends the session before"


def test_open_interest_rule_reads_its_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "held.csv"
    rows = [(code, day, 900 if (code == "ESH24") == (at < 38) else 100) for at, day in enumerate(DAYS[:60])
            for code in ("ESH24", "ES 06-24")]  # fmt: skip
    pl.DataFrame(rows, schema=["contract", "session", "open_interest"], orient="row").write_csv(file)
    world.begin("held", {"data.roll_rule": "open_interest", "data.open_interest": str(file)})
    world.build()
    assert world.rolls()["ESM24"]["first_session"] == DAYS[40], "crossed at 38, published during 39"
    assert world.build() == FRESH
    file.write_text(file.read_text().replace(f"ES 06-24,{DAYS[38]},900", f"ES 06-24,{DAYS[38]},9"))
    world.build()
    assert world.rolls()["ESM24"]["first_session"] == DAYS[41], "the old contract still held 100, so 39 decides"


def test_open_interest_rule_without_figures_is_reported(world: World, tmp_path: Path) -> None:
    world.begin("bare", {"data.roll_rule": "open_interest"})
    words = r"open interest of ES.* No stage makes these figures: name the exchange's with data\.open_interest=FILE"
    with pytest.raises(MissingInputError, match=words):
        world.build()
    (tmp_path / "other.csv").write_text("contract,session,open_interest\nESH19,2019-01-02,5\n")
    world.begin("other", {"data.roll_rule": "open_interest", "data.open_interest": str(tmp_path / "other.csv")})
    with pytest.raises(MissingInputError, match=r"open interest of ES.* in the sessions of their bars at .*other\.csv"):
        world.build()
    world.begin("lost", {"data.roll_rule": "open_interest", "data.open_interest": str(tmp_path / "nowhere.csv")})
    with pytest.raises(MissingInputError, match=r"nowhere\.csv"):
        world.build()
    for text in ("a,b\n1,2\n", "contract,session,open_interest\nESH24,2024-01-02,\n",
                 "contract,session,open_interest\nESH24,2024-01-02,5\nES 03-24,2024-01-02,6\n",
                 "contract,session,open_interest\nESH24,02.01.2024,5\n"):  # fmt: skip
        file = tmp_path / "bad.csv"
        file.write_text(text)
        world.begin("bad", {"data.roll_rule": "open_interest", "data.open_interest": str(file)})
        with pytest.raises(UnreadableFileError, match=r"bad\.csv"):
            world.build()


@pytest.mark.real
def test_open_interest_of_december_2013_is_read_from_the_vendors_zip(real_data: Path) -> None:
    from vpoc_ml.ingest.roll_inputs import read_open_interest

    table = read_open_interest(real_data / "es_lean" / "daily" / "es_openinterest.zip", instrument("ES"))
    monday = dict(table.filter(session=date(2013, 12, 16)).select("contract", "open_interest").iter_rows())
    assert (monday["ESZ13"], monday["ESH14"]) == (1_701_691, 1_445_598)
