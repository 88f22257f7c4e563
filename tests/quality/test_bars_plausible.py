"""Each planted kind of damage fails the gate and names its bars; correct markets of all kinds pass."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig, QualityConfig
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import contract_sessions
from vpoc_ml.market.instruments import instrument
from vpoc_ml.quality.checks import ContractFacts, MarketFacts, Measurement
from vpoc_ml.quality.measure import Profile
from vpoc_ml.quality.rules import bars_gate

ES = instrument("ES")
ESH25 = parse_contract("ESH25")
FRONT = (ESH25.previous.scheduled_roll, ESH25.scheduled_roll)
PRICES = ["open", "high", "low", "close"]
SEED = 11
ROW = pl.int_range(pl.len())
DEFAULTS = QualityConfig()


def made(first=date(2024, 12, 16), last=date(2025, 1, 31), *, code="ESH25", level=6000.0, seed=SEED) -> pl.DataFrame:
    """Return bars for every minute of a contract's calendar: a random walk whose opens follow the closes."""
    rng = np.random.default_rng(seed)
    contract = parse_contract(code)
    calendar = contract_sessions(contract, instrument(contract.root), first, last)
    timestamps = calendar.select("session", ts=pl.datetime_ranges("open", "close", "1m", closed="left")).explode("ts")
    size = timestamps.height
    close = level + 0.25 * np.cumsum(rng.integers(-6, 7, size))
    open_ = np.concatenate([close[:1], close[:-1]])
    return timestamps.select(
        pl.col("ts").dt.cast_time_unit("us"),
        pl.lit(code).alias("contract"),
        "session",
        pl.lit(True).alias("rth"),
        open=pl.Series(open_),
        high=pl.Series(np.maximum(open_, close) + 0.25 * rng.integers(0, 3, size)),
        low=pl.Series(np.minimum(open_, close) - 0.25 * rng.integers(0, 3, size)),
        close=pl.Series(close),
        volume=pl.Series(rng.integers(50, 3000, size)),
        vix=pl.lit(18.0),
    )


@pytest.fixture(scope="module")
def market() -> pl.DataFrame:
    return made()


@pytest.fixture(scope="module")
def real(real_data) -> pl.DataFrame:
    vix = read_vix(real_data / "vix" / "vix-daily.csv")
    path = real_data / "es_ninjatrader" / "ES 03-25.Last.txt"
    return build_bars(path, ESH25, ES, vix, IngestConfig()).bars


@pytest.fixture
def measured(tmp_path):
    """Return a function: bars -> the checks that fail, by name, with their measurements, at their worst severity."""

    def run(bars: pl.DataFrame, code="ESH25", *, config=DEFAULTS, front=FRONT, due=None) -> dict:
        contract, margin = parse_contract(code), timedelta(days=40)
        entry = instrument(contract.root)
        calendar = contract_sessions(contract, entry, bars["session"].min() - margin, bars["session"].max() + margin)
        path = tmp_path / "bars.parquet"
        bars.write_parquet(path)
        facts = ContractFacts(path, calendar, front=front, due=due)
        market = MarketFacts(entry.tick_size, price_range=entry.price_range, vix_implied=entry.is_equity_index)
        profile = bars_gate.measure(code, facts, market, config.thresholds.max_gap_minutes)
        limits = {(check.name, check.column): check.error_if for check in bars_gate.checks(config, market)}
        return {
            measurement.check: measurement
            for measurement in profile.measurements
            if (limit := limits.get((measurement.check, measurement.column)))
            and limit.breached(measurement.count, measurement.share)
        }

    return run


@pytest.fixture
def validated_bars(tmp_path):
    """Return a function: bars -> the verdict of gate ``bars``."""
    from vpoc_ml.quality.gates import validate_bars

    def run(bars: pl.DataFrame):
        margin = timedelta(days=40)
        calendar = contract_sessions(ESH25, ES, bars["session"].min() - margin, bars["session"].max() + margin)
        bars.write_parquet(tmp_path / "bars.parquet")
        facts = {"ESH25": ContractFacts(tmp_path / "bars.parquet", calendar, front=FRONT)}
        market = MarketFacts(ES.tick_size, price_range=ES.price_range)
        return validate_bars(facts, market, run="run", reports_dir=tmp_path, now=datetime(2025, 2, 1, tzinfo=UTC))

    return run


def at(where: pl.Expr, **changed: pl.Expr) -> list[pl.Expr]:
    return [pl.when(where).then(value).otherwise(pl.col(name)).alias(name) for name, value in changed.items()]


def times(factor: float, names=PRICES) -> dict[str, pl.Expr]:
    return {name: (pl.col(name) * factor * 4).round() / 4 for name in names}


def frozen(bars: pl.DataFrame, start: int, count: int) -> pl.DataFrame:
    price = pl.lit(bars["close"][start - 1])
    return bars.with_columns(at(ROW.is_between(start, start + count - 1), **dict.fromkeys(PRICES, price)))


def days(bars: pl.DataFrame) -> list[date]:
    return bars["session"].unique().sort().to_list()


def middle(bars: pl.DataFrame) -> int:
    """Return a row in the middle of a session in the middle of the file."""
    session = days(bars)[len(days(bars)) // 2 + 1]
    rows = bars.with_row_index("row").filter(pl.col("session") == session)["row"]
    return int(rows[rows.len() // 2])


def without(bars: pl.DataFrame, start: int, count: int) -> pl.DataFrame:
    return bars.filter(~ROW.is_between(start, start + count - 1))


ROWS = ROW.is_in([500 + 1000 * n for n in range(20)])
DAMAGE = {
    "a bar x 1.05": ("print", lambda b: b.with_columns(at(middle(b) == ROW, **times(1.05)))),
    "a bar x 1.2": ("print", lambda b: b.with_columns(at(middle(b) == ROW, **times(1.2)))),
    "a bar x 2": ("print", lambda b: b.with_columns(at(middle(b) == ROW, **times(2)))),
    "a bar x 10": ("print", lambda b: b.with_columns(at(middle(b) == ROW, **times(10)))),
    "a high x 10": ("print", lambda b: b.with_columns(at(middle(b) == ROW, **times(10, ["high"])))),
    "a high + 600": ("print", lambda b: b.with_columns(at(middle(b) == ROW, high=pl.col("high") + 600))),
    "twenty highs + 600": ("print", lambda b: b.with_columns(at(ROWS, high=pl.col("high") + 600))),
    "two bars x 1.05": ("jump", lambda b: b.with_columns(at(ROW.is_between(middle(b), middle(b) + 1), **times(1.05)))),
    "a day x 1.02": ("jump", lambda b: b.with_columns(at(pl.col("session") == days(b)[9], **times(1.02)))),
    "a level jump of 2 %": ("jump", lambda b: b.with_columns(at(middle(b) <= ROW, **times(1.02)))),
    "open and close swapped": ("opens", lambda b: b.with_columns(open="close", close="open")),
    "the file x 100": ("plausible", lambda b: b.with_columns(at(pl.lit(True), **times(100)))),
    "the file / 100": ("plausible", lambda b: b.with_columns(at(pl.lit(True), **times(0.01)))),
    "three highs x 10": (
        "far",
        lambda b: b.with_columns(at(ROW.is_between(middle(b), middle(b) + 2), **times(10, ["high"]))),
    ),
    "half an hour of frozen prices": ("stale", lambda b: frozen(b, middle(b), 30)),
    "half an hour without volume": (
        "silent",
        lambda b: b.with_columns(at(ROW.is_between(middle(b), middle(b) + 29), volume=pl.lit(0))),
    ),
    "an hour of frozen prices": ("stale", lambda b: frozen(b, middle(b), 60)),
    "a session of frozen prices": ("stale", lambda b: frozen(b, middle(b), 1380)),
    "five sessions of frozen prices": ("stale", lambda b: frozen(b, middle(b), 5 * 1380)),
    "five sessions without volume": (
        "idle",
        lambda b: b.with_columns(at(pl.col("session").is_in(days(b)[8:13]), volume=pl.lit(0))),
    ),
    "one volume x 1000": ("outlier", lambda b: b.with_columns(at(middle(b) == ROW, volume=pl.col("volume") * 1000))),
    "one volume of 1e12": ("outlier", lambda b: b.with_columns(at(middle(b) == ROW, volume=pl.lit(10**12)))),
    "a missing hour": ("gaps", lambda b: without(b, middle(b), 60)),
    "ten missing sessions": ("sessions", lambda b: b.filter(~pl.col("session").is_in(days(b)[8:18]))),
    "18 % missing at random": (
        "minutes",
        lambda b: b.filter(pl.Series(np.random.default_rng(SEED).random(b.height) > 0.18)),
    ),
    "the VIX / 100": ("implied", lambda b: b.with_columns(vix=pl.col("vix") / 100)),
}


def test_correct_bars_pass(market, measured):
    assert measured(market) == {}


@pytest.mark.parametrize("kind", DAMAGE)
def test_planted_damage_is_found(kind, market, measured):
    check, plant = DAMAGE[kind]
    found = measured(plant(market))
    assert check in found, f"{kind}, seed {SEED}: {sorted(found)}"


@pytest.mark.real
def test_the_real_contract_passes(real, measured):
    assert measured(real) == {}


@pytest.mark.real
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_planted_in_the_real_contract_is_found(kind, real, measured):
    check, plant = DAMAGE[kind]
    found = measured(plant(real))
    assert check in found, f"{kind}: {sorted(found)}"


def test_the_first_bad_bars_are_named_with_their_values(market, measured):
    row = middle(market)
    bad = measured(DAMAGE["one volume of 1e12"][1](market))["outlier"]
    assert (bad.count, bad.first, bad.values) == (1, (market["ts"][row],), (1e12,))


@pytest.mark.parametrize(("repeats", "severity"), [(9, None), (20, "warning"), (25, "critical")])
def test_the_longest_run_of_repeated_prices_gives_the_severity(repeats, severity, market, measured, validated_bars):
    start = middle(market)
    failures = [each for each in validated_bars(frozen(market, start, repeats + 1)).failures if each.check == "stale"]
    assert [each.severity for each in failures] == ([severity] if severity else [])
    if severity:
        begins, ends = market["ts"][start + 1], market["ts"][start + repeats]
        assert failures[0].note == f"{begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} ({repeats} bars)"
        assert failures[0].count == repeats


def test_a_deferred_month_may_move_between_two_prints_of_a_data_release(measured):
    """Consecutive minutes of a contract that hardly trades, 1.3 % apart; in a front contract that is a jump."""
    bars = made(code="ESU25", seed=SEED)
    row = middle(bars)
    sparse = bars.filter((pl.int_range(pl.len()) % 200 == row % 200) | (row + 1 == ROW))
    moved = sparse.with_columns(at(pl.col("ts") > bars["ts"][row], **times(1.013)))
    roll = parse_contract("ESU25")
    assert measured(moved, "ESU25", front=(roll.previous.scheduled_roll, roll.scheduled_roll)) == {}
    assert "jump" in measured(bars.with_columns(at(row < ROW, **times(1.013))), "ESU25", front=None)


def test_gaps_and_missing_sessions_are_reported_as_ranges(market, measured):
    row = middle(market)
    begins, ends = market["ts"][row], market["ts"][row + 60]
    gap = measured(without(market, row, 60))["gaps"]
    assert gap.note == f"{begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} (60 minutes)"
    assert gap.first == (begins,)
    gone = days(market)[8:18]
    missing = measured(market.filter(~pl.col("session").is_in(gone)))["sessions"]
    assert missing.note == f"{gone[0]} to {gone[-1]} (10 sessions)"


@pytest.mark.parametrize("edge", ["first", "last"])
def test_a_missing_hour_at_the_edge_of_a_session_is_a_gap(edge, market, measured):
    rows = market.with_row_index("row").filter(pl.col("session") == days(market)[10])["row"]
    found = measured(without(market, rows[0] if edge == "first" else rows[-1] - 59, 60))
    assert found["gaps"].note.endswith("(60 minutes)")


def test_the_longest_gap_that_passes_is_a_setting(market, measured):
    outage = without(market, middle(market), 60)
    assert measured(outage, config=QualityConfig(overrides=("max_gap_minutes=60",))) == {}


# ---------------------------------------------------------------- what must pass


def test_a_morning_at_the_daily_limit_passes(market, measured):
    """March 2020: the price falls by 5 %, stands at the limit for hours, some without a trade, and reopens."""
    start = int(market.with_row_index("row").filter(pl.col("session") == days(market)[10])["row"][0])
    before = market["close"][start - 1]
    limit = round(before * 0.95 * 4) / 4
    steps = 40
    fall = {name: ((pl.lit(before) + (ROW - start) * (limit - before) / steps) * 4).round() / 4 for name in PRICES}
    falling = market.with_columns(at(ROW.is_between(start, start + steps - 1), **fall))
    fixed = falling.with_columns(at(ROW.is_between(start + steps, start + 800), **dict.fromkeys(PRICES, pl.lit(limit))))
    shift = limit - market["close"][start + 800]
    after = {name: pl.col(name) + shift for name in PRICES}
    lower = fixed.with_columns(at(start + 800 < ROW, **after))
    locked = lower.with_columns(
        open=pl.when(ROW.is_between(start + 1, start + steps)).then(pl.col("close").shift(1)).otherwise("open")
    ).with_columns(high=pl.max_horizontal("high", "open"), low=pl.min_horizontal("low", "open"))
    assert measured(without(locked, start + 300, 100)) == {}


def test_a_deferred_month_with_few_prints_passes(measured):
    rng = np.random.default_rng(SEED)
    bars = made(code="ESU25", seed=SEED)
    sparse = bars.filter(pl.Series(rng.random(bars.height) < 0.005)).with_columns(volume=pl.lit(1, pl.Int64))
    roll = parse_contract("ESU25")
    assert measured(sparse, "ESU25", front=(roll.previous.scheduled_roll, roll.scheduled_roll)) == {}


@pytest.mark.parametrize("share", [0.005, 0.0])
def test_a_deferred_month_whose_empty_minutes_are_filled_passes(share, measured):
    """As some vendors deliver it: a bar for every minute, with the last price and no volume where nothing traded."""
    bars = made(code="ESU25", seed=SEED)
    traded = pl.Series(np.random.default_rng(SEED).random(bars.height) < share)
    last = pl.when(traded).then(pl.col("close")).forward_fill().fill_null(pl.col("close").first())
    prices = [pl.when(traded).then(pl.col(name)).otherwise(last).alias(name) for name in PRICES]
    filled = bars.with_columns(*prices, volume=traded.cast(pl.Int64))
    roll = parse_contract("ESU25")
    assert measured(filled, "ESU25", front=(roll.previous.scheduled_roll, roll.scheduled_roll)) == {}
    while_front = measured(filled, "ESU25", front=(filled["session"].min(), roll.scheduled_roll))
    assert while_front["idle"].count == filled["session"].n_unique()


def test_crude_oil_that_falls_below_zero_passes(measured):
    """April 2020: a last session before expiry from 18 to -37, in minutes of several dollars."""
    code, last = "CLK20", date(2020, 4, 20)
    bars = made(date(2020, 3, 20), last, code=code, level=25.0).with_columns(
        at(pl.lit(True), **{name: (pl.col(name) * 100).round() / 100 for name in PRICES})
    )
    calm = bars.with_columns(at(pl.lit(True), **{name: 25 + (pl.col(name) - 25) / 100 for name in PRICES}))
    start = int(calm.with_row_index("row").filter(pl.col("session") == last)["row"][0])
    size = calm.height - start
    rng = np.random.default_rng(SEED)
    # small moves until noon, then ever wider minutes
    width = np.where(np.arange(size) < size - 400, 0.03, np.linspace(0.03, 2.5, size) ** 1.5)
    path = np.linspace(0, -55, size) * (np.arange(size) >= size - 400) * np.linspace(0, 1, size)
    close = calm["close"][start - 1] + path + np.cumsum(rng.normal(0, 0.01, size))
    open_ = np.concatenate([[calm["close"][start - 1]], close[:-1]])
    tail = calm.tail(size).with_columns(
        open=pl.Series(open_.round(2)),
        close=pl.Series(close.round(2)),
        high=pl.Series((np.maximum(open_, close) + width).round(2)),
        low=pl.Series((np.minimum(open_, close) - width).round(2)),
    )
    fallen = pl.concat([calm.head(start), tail])
    assert fallen["low"].min() < -30
    contract = parse_contract(code)
    found = measured(fallen, code, front=(contract.previous.scheduled_roll, contract.scheduled_roll))
    assert not set(found) & {"print", "jump", "stale", "opens", "outlier", "idle", "plausible", "implied"}, found


# ---------------------------------------------------------------- the wrong contract, and the end of the file


def test_the_bars_of_the_contract_before_are_found_by_their_volume(market, measured):
    """H25 delivered as M25: its volume leaves when M25 becomes the front contract."""
    bars = made(date(2025, 1, 27), date(2025, 3, 20), code="ESM25")
    left = bars.with_columns(at(pl.col("session") >= date(2025, 3, 17), volume=pl.col("volume") // 20))
    contract = parse_contract("ESM25")
    found = measured(left, "ESM25", front=(contract.previous.scheduled_roll, contract.scheduled_roll))
    assert "another contract" in found["fades"].note


def test_a_second_half_of_the_next_contract_is_a_jump_and_a_loss_of_volume(market, measured):
    row = middle(market)
    other = {name: pl.col(name) + 56 for name in PRICES} | {"volume": pl.col("volume") // 200}
    found = measured(market.with_columns(at(row <= ROW, **other)))
    assert found["jump"].first == (market["ts"][row],)
    assert found["quiet"].count > 5


def test_a_file_that_ends_early_names_the_session_that_is_due(market, measured):
    last = days(market)[-1]
    assert measured(market, due=last) == {}
    early = market.filter(pl.col("session") <= days(market)[-4])
    ends = measured(early, due=last)["ends"]
    assert (ends.count, ends.first) == (3, tuple(days(market)[-3:]))
    assert f"session {last} is due" in ends.note
    assert measured(early, due=last, config=QualityConfig(max_age_sessions=3)) == {}


def test_a_newest_session_that_ends_at_noon_is_incomplete(market, measured):
    last = days(market)[-1]
    noon = without(market, market.height - 240, 240)
    cut = measured(noon, due=last)["complete"]
    assert "ends 240 minutes before its close" in cut.note
    assert measured(noon, due=days(market)[-2]) == {}, "its session still trades"


@pytest.mark.parametrize("bars_of_newest", [1, 30, 1000, 1379])
def test_a_session_that_still_trades_lacks_no_minutes(bars_of_newest, measured):
    """At 17:30 Chicago half an hour of the next session has traded; it may be the second as the front contract."""
    first = date(2024, 12, 16)
    found = measured(made(first, date(2024, 12, 17)).head(1380 + bars_of_newest), front=(first, FRONT[1]))
    assert found == {}


def test_minutes_missing_before_the_newest_bar_count(measured):
    first = date(2024, 12, 16)
    found = measured(without(made(first, date(2024, 12, 17)), 1381, 1000), front=(first, FRONT[1]))
    assert found["minutes"].count == 1000


def test_a_halt_after_the_newest_bar_is_not_taken_off_twice(measured):
    """Until 2021-06-25 the session halted at 15:15 Chicago for a quarter of an hour and went on to 16:00."""
    first = date(2020, 12, 21)
    full = made(first, date(2020, 12, 22), code="ESH21", level=3700.0)
    contract = parse_contract("ESH21")
    calendar = contract_sessions(contract, ES, first, date(2020, 12, 22))
    traded = full.filter(~pl.col("ts").is_between(calendar["halt_start"][0], calendar["halt_end"][0], closed="left"))
    newest = traded.filter(pl.col("ts") < calendar["halt_start"][1])
    assert measured(newest, "ESH21", front=(first, contract.scheduled_roll)) == {}


def test_single_bad_bars_of_the_first_contracts_are_quoted_and_no_others():
    codes = [f"ES{month}25" for month in "HMUZ"] + ["ESH26"]
    bar = datetime(2025, 1, 6, 15, tzinfo=UTC)
    damaged = [
        Profile(code, 1, pl.DataFrame(), [Measurement(code, "close", check, 1, 1, (bar,)) for check in ("jump", "nan")])
        for code in codes
    ]
    damaged.insert(1, Profile("ESH24", 1, pl.DataFrame(), [Measurement("ESH24", "close", "jump", 0, 1)]))
    requested = []

    def quote(contract, timestamps):
        requested.append((contract, *timestamps))
        return [f"line of {contract}"]

    found = [each for profile in bars_gate.with_source_lines(damaged, quote) for each in profile.measurements]
    quoted = codes[: bars_gate.QUOTED_CONTRACTS]
    assert requested == [(code, bar) for code in quoted]
    assert [each.contract for each in found if each.note] == quoted
    assert {each.check for each in found if each.note} == {"jump"}
    assert [each.contract for each in found] == [each.contract for profile in damaged for each in profile.measurements]
