"""Isolated bad prints go to quarantine, real moves stay, and more bad prints than the limit are left for the gate."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.clean import isolated_prints
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.instruments import instrument

ES, ESH25 = instrument("ES"), parse_contract("ESH25")
PRICES = ["open", "high", "low", "close"]
ROW = 700


def session_bars(size: int = 1380, *, step: int = 3, level: float = 6000.0, seed: int = 5) -> pl.DataFrame:
    """Return a normal session of minute bars: a random walk of up to ``step`` ticks a minute."""
    rng = np.random.default_rng(seed)
    close = level + 0.25 * np.cumsum(rng.integers(-step, step + 1, size))
    open_ = np.concatenate([close[:1], close[:-1]])
    begin = datetime(2025, 1, 14, 23, tzinfo=UTC)
    return pl.DataFrame(
        {
            "ts": pl.Series([begin + timedelta(minutes=n) for n in range(size)], dtype=pl.Datetime("us", "UTC")),
            "session": [date(2025, 1, 15)] * size,
            "open": open_,
            "high": np.maximum(open_, close) + 0.25,
            "low": np.minimum(open_, close) - 0.25,
            "close": close,
            "volume": rng.integers(50, 500, size),
        }
    )


def at(rows: range | list[int], **changed: pl.Expr) -> list[pl.Expr]:
    chosen = pl.int_range(pl.len()).is_in(list(rows))
    return [pl.when(chosen).then(value).otherwise(pl.col(name)).alias(name) for name, value in changed.items()]


def times(factor: float) -> dict[str, pl.Expr]:
    return {name: pl.col(name) * factor for name in PRICES}


def marked(bars: pl.DataFrame) -> list[int]:
    return bars.with_row_index("row").filter(isolated_prints())["row"].to_list()


@pytest.mark.parametrize(
    "changed",
    [
        times(1.05),
        times(1.2),
        times(2),
        times(10),
        times(0.01),
        {"high": pl.col("high") * 10},
        {"high": pl.col("high") + 600},
        {"low": pl.col("low") - 600},
        {"volume": pl.col("volume") * 1000},
        {"volume": pl.lit(10**12)},
    ],
    ids=lambda changed: ",".join(changed),
)
@pytest.mark.parametrize("row", [0, 1, ROW, 1378, 1379])
def test_one_bar_that_no_bar_around_supports_is_a_bad_print(row, changed):
    assert marked(session_bars().with_columns(at([row], **changed))) == [row]


def test_a_normal_session_has_no_bad_print():
    assert marked(session_bars()) == []


@pytest.mark.parametrize("rows", [range(ROW, ROW + 2), range(ROW, 1380)], ids=["two bars", "a new level"])
def test_errors_longer_than_one_bar_are_no_single_print(rows):
    assert marked(session_bars().with_columns(at(rows, **times(1.05)))) == []


def test_a_data_release_and_a_limit_down_morning_are_no_bad_prints():
    calm = session_bars()
    drop = calm.with_columns(at(range(ROW, 1380), **{name: pl.col(name) - 150.0 for name in PRICES}))
    release = drop.with_columns(at([ROW], open=pl.col("open") + 150.0, high=pl.col("open") + 150.25))
    assert marked(release) == []
    locked = release.with_columns(at(range(ROW + 200, ROW + 400), **{name: pl.lit(5700.0) for name in PRICES}))
    assert marked(locked) == []


def test_wide_bars_around_zero_are_no_bad_prints():
    """Crude oil on 2020-04-20: bars of several dollars around a price of zero."""
    wild = session_bars(200, step=800, level=0.0)
    assert wild["low"].min() < 0 < wild["high"].max()
    assert marked(wild) == []


def test_a_deferred_month_that_trades_hours_apart_is_not_checked_by_its_neighbours():
    sparse = session_bars().gather_every(180).with_columns(at([3], **times(0.96)))
    assert marked(sparse) == []


def test_a_block_trade_in_a_thin_session_is_no_bad_print():
    thin = session_bars().with_columns(volume=pl.lit(2)).with_columns(at([ROW], volume=pl.lit(3000)))
    assert marked(thin) == []


# ---------------------------------------------------------------- from the vendor's file


def lines(bars: pl.DataFrame) -> list[str]:
    timestamps = (bars["ts"] + timedelta(minutes=1)).dt.strftime("%Y%m%d %H%M%S")
    return [
        ";".join(map(str, row)) for row in zip(timestamps, *(bars[name] for name in [*PRICES, "volume"]), strict=True)
    ]


@pytest.fixture
def build(tmp_path):
    def run(bars: pl.DataFrame, **settings):
        path, vix = tmp_path / "ES 03-25.Last.txt", tmp_path / "VIX_History.csv"
        path.write_text("\r\n".join(lines(bars)) + "\r\n")
        vix.write_text("DATE,OPEN,HIGH,LOW,CLOSE\n01/13/2025,19,19,19,19\n01/14/2025,18,18,18,18\n")
        return build_bars(path, ESH25, ES, read_vix(vix), IngestConfig(**settings))

    return run


def test_a_bad_print_is_quarantined_with_line_and_text(build):
    bars = session_bars().with_columns(at([ROW], high=pl.col("high") + 600))
    built = build(bars)
    (bad,) = built.quarantine.rows(named=True)
    assert (bad["reason"], bad["line"], bad["ts"]) == ("isolated bad print", ROW + 1, bars["ts"][ROW])
    assert bad["text"] == lines(bars)[ROW]
    assert built.reasons == {"isolated bad print": 1}
    assert built.bars.height == built.rows_in - 1 == bars.height - 1


def test_more_bad_prints_than_the_setting_allows_stay_in_the_bars(build):
    rows = list(range(100, 1300, 60))
    bars = session_bars().with_columns(at(rows, high=pl.col("high") + 600))
    assert marked(bars) == rows
    assert build(bars).bars.height == bars.height
    assert build(bars, bad_prints=len(rows), quarantine_limit=0.1).bars.height == bars.height - len(rows)
    one = session_bars().with_columns(at([ROW], high=pl.col("high") + 600))
    assert build(one, bad_prints=0).bars.height == one.height
