"""The synthetic market: its files, and the part of its signal that can be learned."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import IngestConfig
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.ingest.bars import build_bars
from vpoc_ml.ingest.vix.vix_closes import read_vix
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import contract_sessions, sessions
from vpoc_ml.market.instruments import TICK_TOLERANCE, instrument
from vpoc_ml.market.roll_table import front_periods
from vpoc_ml.synthetic.generate import SyntheticMarket, most_contracts, plan_market, write_market
from vpoc_ml.synthetic.planted_rules import Planted
from vpoc_ml.synthetic.price_path import simulate

pytestmark = pytest.mark.slow

ES = instrument("ES")
FEATURES = ("change", "ratio", "volatility", "range", "change_5", "body")


@dataclass(frozen=True)
class Market:
    written: SyntheticMarket
    bars: dict[str, pl.DataFrame]
    vix: pl.DataFrame
    front: pl.DataFrame
    rows: pl.DataFrame  # front contract only, with a few features, the next return and p_up


def built(folder: Path, mode: str) -> Market:
    written = write_market(folder, mode=mode)
    vix = read_vix(written.vix)
    bars = {}
    for code, path in written.files.items():
        result = build_bars(path, parse_contract(code), ES, vix, IngestConfig())
        assert result.reasons == {}
        bars[code] = result.bars
    daily = pl.concat(bars.values()).group_by("contract", "session").agg(pl.col("volume").sum())
    front = front_periods(daily)
    return Market(written, bars, vix, front, featured(bars, front, written.truth))


def built_bars(written: SyntheticMarket, code: str) -> pl.DataFrame:
    return build_bars(written.files[code], parse_contract(code), ES, read_vix(written.vix), IngestConfig()).bars


def featured(bars: dict[str, pl.DataFrame], front: pl.DataFrame, truth: Path) -> pl.DataFrame:
    close, volume = pl.col("close"), pl.col("volume")
    change = 100 * (close / close.shift(1) - 1)
    frames = [
        frame.with_columns(
            change=change,
            ratio=volume / volume.rolling_mean(30),
            volatility=change.rolling_std(30),
            range=(pl.col("high") - pl.col("low")) / close,
            change_5=100 * (close / close.shift(5) - 1),
            body=(close - pl.col("open")) / close,
            ahead=(close.shift(-1) / close).log().over("session"),
        )
        for frame in bars.values()
    ]
    inside = pl.col("session").is_between("first_session", "last_session")
    rows = pl.concat(frames).join(front, on="contract").filter(inside)
    rows = rows.join(pl.read_parquet(truth).select("ts", "contract", "p_up"), on=["ts", "contract"], how="left")
    return rows.drop_nulls([*FEATURES, "ahead"]).sort("ts")


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return built(tmp_path_factory.mktemp("signal"), "signal")


@pytest.fixture(scope="module")
def martingale(tmp_path_factory: pytest.TempPathFactory) -> Market:
    return built(tmp_path_factory.mktemp("martingale"), "martingale")


# ---------------------------------------------------------------- files


def test_files_are_ninjatrader_exports_and_a_cboe_history(signal: Market) -> None:
    assert sorted(path.name for path in signal.written.vix.parent.iterdir()) == [
        "ES 03-23.Last.txt",
        "ES 06-23.Last.txt",
        "ES 09-23.Last.txt",
        "VIX_History.csv",
        "truth",
    ]
    content = signal.written.files["ESM23"].read_bytes()
    assert content.endswith(b"\r\n")
    assert content.count(b"\n") == content.count(b"\r\n") == signal.bars["ESM23"].height
    assert b".50;" not in content
    assert b".0;" not in content
    assert signal.written.vix.read_text(encoding="utf-8").startswith("DATE,OPEN,HIGH,LOW,CLOSE\n")


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    first, other = (write_market(tmp_path / str(seed), contracts=1, seed=seed) for seed in (7, 8))
    assert first.files["ESH23"].read_bytes() != other.files["ESH23"].read_bytes()
    assert first.vix.read_bytes() != other.vix.read_bytes()


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    code = "import sys, pathlib; from vpoc_ml.synthetic.generate import write_market as w;"
    code += "w(pathlib.Path(sys.argv[1]), contracts=1, faults=['nan', 'missing-hour'])"
    environment = os.environ | {"PYTHONHASHSEED": "5", "POLARS_MAX_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], env=environment, check=True)
    write_market(tmp_path / "here", contracts=1, faults=["missing-hour", "nan"])
    names = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.*"))
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_sessions_are_those_of_the_calendar(signal: Market) -> None:
    for code, bars in signal.bars.items():
        first, last = bars["session"].min(), bars["session"].max()
        table = contract_sessions(parse_contract(code), ES, first, last)
        counted = bars.group_by("session").agg(bars=pl.len(), rth_bars=pl.col("rth").sum())
        joined = table.join(counted, on="session", how="full")
        assert last == parse_contract(code).expiry
        assert joined["bars"].null_count() == 0
        assert (joined["bars"] <= joined["minutes"]).all()
        period = signal.front.filter(pl.col("contract") == code).row(0)
        inside = joined.filter(pl.col("session").is_between(max(period[1], date(2022, 12, 14)), period[2]))
        assert (inside["bars"] == inside["minutes"]).all()
        assert (inside["rth_bars"] == inside["rth_minutes"]).all()


def test_prices_are_on_the_grid_and_candles_hold(signal: Market) -> None:
    for bars in signal.bars.values():
        ticks = bars.select("open", "high", "low", "close").to_numpy() / ES.tick_size
        assert np.abs(ticks - np.rint(ticks)).max() < TICK_TOLERANCE
        assert bars["volume"].min() >= 1


def test_front_contracts_overlap_and_cross_over_in_the_roll_week(signal: Market) -> None:
    assert signal.front["contract"].to_list() == ["ESH23", "ESM23", "ESU23"]
    for (_, _, last), (code, first, _) in zip(signal.front.rows(), signal.front.rows()[1:], strict=False):
        earlier = signal.bars[code].filter(pl.col("session") < first)["session"].n_unique()
        assert earlier >= 20
        assert last < first
    monday = parse_contract("ESH23").scheduled_roll
    assert signal.front["last_session"][0] == monday
    shares = []
    for back in (monday - timedelta(days=4), monday - timedelta(days=3), monday):
        volume = [signal.bars[c].filter(pl.col("session") == back)["volume"].sum() for c in ("ESH23", "ESM23")]
        shares.append(volume[1] / sum(volume))
    assert 0.04 < shares[0] < 0.25 < shares[1] + 0.01
    assert shares[1] < 0.5 < shares[2]


def test_contracts_differ_by_a_roll_gap(signal: Market) -> None:
    both = signal.bars["ESH23"].join(signal.bars["ESM23"], on="ts")
    gap = both["close_right"] - both["close"]
    assert gap.median() == 36.0


@pytest.mark.parametrize("contracts", [0, most_contracts() + 1])
def test_number_of_contracts_is_limited_by_the_calendar(tmp_path: Path, contracts: int) -> None:
    with pytest.raises(InvalidValueError, match="contracts"):
        write_market(tmp_path, contracts=contracts)


@pytest.mark.parametrize(
    ("contracts", "lead", "first", "last"),
    [
        (12, 22, "ESH23", "ESZ25"),
        (13, 22, "ESZ22", "ESZ25"),
        (40, 190, "ESH16", "ESZ25"),
        (most_contracts(), 22, "ESZ13", "ESZ32"),
        (most_contracts(250), 250, "ESH15", "ESZ32"),
    ],
)
def test_more_contracts_begin_earlier(contracts: int, lead: int, first: str, last: str) -> None:
    plan = plan_market(contracts, lead)
    assert (plan.chain[1].code, plan.chain[-1].code, len(plan.chain) - 1) == (first, last, contracts)
    assert plan.shares.sum(axis=0) == pytest.approx(1.0)
    assert plan.begins == sorted(plan.begins)
    front = list(plan.front.values())
    assert front == sorted(front)
    assert set(front) >= set(range(1, contracts + 1))


def test_a_longer_lead_fills_the_deferred_months(tmp_path: Path) -> None:
    made = write_market(tmp_path, contracts=1, lead=100)
    rows = built_bars(made, "ESH23")
    daily = rows.group_by("session").agg(bars=pl.len(), volume=pl.col("volume").sum()).sort("session")
    early = daily.head(70)
    assert early["bars"].median() > 1300
    assert early["volume"].median() < 30_000
    assert daily.height > 150


def test_late_close_and_halt_of_earlier_years(tmp_path: Path) -> None:
    table = sessions(ES.calendar, date(2015, 9, 14), date(2015, 9, 22))
    path = next(simulate(table, dict.fromkeys(table["session"], 0), np.random.SeedSequence(1), Planted()))
    counted = path.minutes.group_by("session", maintain_order=True).len()["len"]
    assert counted.to_list() == table["minutes"].to_list()
    inside = path.minutes.filter(pl.col("session") == pl.col("session").shift(-1))
    assert inside["p_up"].is_finite().all()


def test_blocks_of_a_long_market_join_continuously() -> None:
    table = sessions(ES.calendar, date(2022, 1, 3), date(2023, 6, 1))
    offsets = dict.fromkeys(table["session"], 0)
    parts = list(simulate(table, offsets, np.random.SeedSequence(3), Planted()))
    assert len(parts) == 2
    last, first = parts[0].minutes["close"][-1], parts[1].minutes["open"][0]
    assert abs(last - first) < 0.02 * last
    assert (parts[1].minutes["p_up"][:25] != 0.5).any()  # the 30-bar mean reaches back over the seam
    assert abs(np.log(parts[0].vix["close"][-1] / parts[1].vix["close"][0])) < 0.4


def test_daylight_saving_and_half_days_show_in_the_timestamps(signal: Market) -> None:
    bars = signal.bars["ESH23"].filter("rth").group_by("session").agg(pl.col("ts").first(), pl.len()).sort("session")
    opens = dict(zip(bars["session"], bars["ts"].dt.strftime("%H:%M"), strict=True))
    assert (opens[date(2023, 3, 10)], opens[date(2023, 3, 13)]) == ("14:30", "13:30")
    counts = dict(bars.select("session", "len").iter_rows())
    assert (counts[date(2023, 1, 13)], counts[date(2022, 11, 25)], counts[date(2023, 1, 16)]) == (390, 225, 210)


def test_one_contract_and_an_unknown_mode(tmp_path: Path) -> None:
    assert list(write_market(tmp_path, contracts=1).files) == ["ESH23"]
    with pytest.raises(InvalidValueError, match="seed"):
        write_market(tmp_path, contracts=1, seed=-1)
    with pytest.raises(InvalidValueError, match="mode"):
        write_market(tmp_path, mode="random")


def test_vix_is_absent_on_holidays_of_the_stock_market_and_present_before_the_first_bar(martingale: Market) -> None:
    days = set(martingale.vix["date"])
    assert date(2023, 1, 16) not in days
    assert date(2023, 7, 3) in days
    first = min(bars["session"].min() for bars in martingale.bars.values())
    assert sum(day < first for day in days) >= 60


# ---------------------------------------------------------------- what can be learned


def moved(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("ahead") != 0)


def robust_t(x: np.ndarray, y: np.ndarray) -> float:
    """t of the slope with White's errors: volatility clusters, so the plain t is too large."""
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x * y * y).sum()))


@pytest.mark.parametrize("name", FEATURES)
def test_martingale_has_no_linear_signal(martingale: Market, name: str) -> None:
    rows = martingale.rows
    assert abs(robust_t(rows[name].to_numpy(), rows["ahead"].to_numpy())) < 4
    assert abs(robust_t(rows[name].rank().to_numpy(), rows["ahead"].rank().to_numpy())) < 4


def test_martingale_truth_is_one_half(martingale: Market) -> None:
    assert np.allclose(pl.read_parquet(martingale.written.truth)["p_up"].to_numpy(), 0.5)


def test_truth_states_the_attainable_accuracy_of_each_row(signal: Market) -> None:
    truth = pl.read_parquet(signal.written.truth)
    assert truth.columns == ["ts", "contract", "session", "p_up", "attainable"]
    assert truth["ts"].is_sorted()
    assert truth["ts"].is_unique().all()
    assert (truth["attainable"] == pl.Series([max(p, 1 - p) for p in truth["p_up"]])).all()
    assert truth["attainable"].is_between(0.5, 1).all()


def test_truth_is_calibrated_and_attains_54_to_55_percent(signal: Market) -> None:
    rows = moved(signal.rows).drop_nulls("p_up")
    p, up = rows["p_up"].to_numpy(), (rows["ahead"] > 0).to_numpy()
    attainable = np.maximum(p, 1 - p).mean()
    assert 0.54 < attainable < 0.555
    assert abs(((p > 0.5) == up)[p != 0.5].mean() - np.maximum(p, 1 - p)[p != 0.5].mean()) < 0.005
    for low, high in ((0.38, 0.45), (0.45, 0.49), (0.51, 0.55), (0.55, 0.62)):
        inside = (p >= low) & (p < high)
        assert abs(up[inside].mean() - p[inside].mean()) < 4 * 0.5 / np.sqrt(inside.sum())


def test_the_sign_of_the_last_return_does_not_predict_the_signal(signal: Market) -> None:
    rows = moved(signal.rows).filter(pl.col("change") != 0)
    agreed = (rows["change"].sign() == rows["ahead"].sign()).mean()
    assert 0.485 < agreed < 0.515


def split(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return robustly scaled features, centred target ranks, the training mask and the scored test mask."""
    days = rows["session"].unique().sort()
    train = (rows["session"] < days[int(0.7 * len(days))]).to_numpy()
    x = rows.select(FEATURES).to_numpy()
    low, middle, high = np.percentile(x[train], [25, 50, 75], axis=0)
    x = np.clip(np.arcsinh((x - middle) / (high - low)), -6, 6)
    y = rows["ahead"].rank().to_numpy() / rows.height - 0.5
    return x, y, train, ~train & (rows["ahead"] != 0).to_numpy()


def test_ridge_is_near_chance_and_a_small_net_finds_the_signal(signal: Market) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor

    x, y, train, scored = split(signal.rows)
    up = (signal.rows["ahead"] > 0).to_numpy()[scored]
    p = signal.rows["p_up"].fill_null(0.5).to_numpy()[scored]
    ridge = Ridge(1.0).fit(x[train], y[train]).predict(x[scored])
    net = MLPRegressor(
        hidden_layer_sizes=(32, 32), batch_size=1024, learning_rate_init=2e-3, max_iter=8, random_state=0
    )
    with pytest.warns(match="converge"):
        learned = net.fit(x[train], y[train]).predict(x[scored])
    attainable = np.maximum(p, 1 - p).mean() - 0.5
    assert ((ridge > 0) == up).mean() < 0.515
    assert ((learned > 0) == up).mean() - 0.5 > 0.7 * attainable
