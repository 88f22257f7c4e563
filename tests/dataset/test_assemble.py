"""The whole assembly: nothing of the future in what is fitted, front rows only, explicit embargo dates."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from vpoc_ml.config import resolve
from vpoc_ml.dataset.assemble import LEADING, assemble
from vpoc_ml.errors import ArtifactError, ContractCodeError, InsufficientSessionsError, InvalidValueError
from vpoc_ml.market.instruments import instrument

ES = instrument("ES")


@pytest.fixture
def market(make):
    """Two contracts of 14 overlapping sessions; ESH25 is front for the first 8, ESM25 for the other 6."""
    days = make.weekdays(date(2025, 3, 3), 14)
    bars = {code: make.bars(code, days, seed=seed) for seed, code in enumerate(("ESH25", "ESM25"))}
    features = {code: make.features(frame, warmup_rows=40) for code, frame in bars.items()}
    front = pl.DataFrame(
        {"contract": ["ESH25", "ESM25"], "first_session": [days[0], days[8]], "last_session": [days[7], days[13]]}
    )
    return bars, features, front, days


def part(training_set, name):
    return training_set.frame.filter(pl.col("split") == name)


def test_assemble_takes_front_rows_after_warmup_with_expected_dates(market):
    bars, features, front, days = market
    made = assemble(bars, features, front, ES, resolve("nightly"))
    frame = made.frame
    assert tuple(frame.columns) == (*LEADING, "f0", "f1", "f2")
    assert frame["ts"].is_sorted()
    assert frame["ts"].is_unique().all()
    # 40 rows of warm-up are session one and ten bars of session two; 13 usable sessions, 11 without embargoes
    assert frame["ts"][0] == bars["ESH25"]["ts"][40]
    expected = {"train": days[1:8], "validation": days[9:11], "test": days[12:14]}
    for name, sessions in expected.items():
        assert part(made, name)["session"].unique().sort().to_list() == sessions
    assert set(frame.filter(pl.col("contract") == "ESH25")["session"]) == set(days[1:8])
    assert set(frame.filter(pl.col("contract") == "ESM25")["session"]) == {*days[9:11], *days[12:14]}
    assert made.statistics.splits["validation"].sessions == 2
    assert made.statistics.rows["test"] == 60
    assert frame.schema["y"] == frame.schema["weight"] == pl.Float32


def test_rows_lost_to_warm_ups_are_counted_by_contract(market):
    bars, features, front, _ = market
    made = assemble(bars, features, front, ES, resolve("nightly"))
    assert made.front_rows == {"ESH25": 8 * 30, "ESM25": 6 * 30}
    assert made.lost_rows == {"ESH25": 40, "ESM25": 0}, "the 40 rows of ESM25 lie before its front period"
    later = front.with_columns(first_session=pl.Series([front["first_session"][0], bars["ESM25"]["session"][0]]))
    assert assemble(bars, features, later.tail(1), ES, resolve("nightly")).lost_rows == {"ESM25": 40}


def test_last_rows_of_a_session_stay_without_label_and_weight(market):
    bars, features, front, _ = market
    frame = assemble(bars, features, front, ES, resolve("nightly", {"dataset.horizon": "5m"})).frame
    unlabelled = frame.filter(pl.col("weight") == 0)
    assert unlabelled["ret"].is_nan().all()
    assert unlabelled["y"].is_nan().all()
    counts = unlabelled.group_by("session").len()["len"]
    assert set(counts) == {5}, "the last five bars of every session, also at the roll"


def test_overlapping_labels_are_worth_fewer_rows(market):
    bars, features, front, _ = market
    rows = {
        text: assemble(bars, features, front, ES, resolve("nightly", {"dataset.horizon": text})).statistics
        for text in ("1m", "5m", "close")
    }
    assert rows["1m"].effective_rows == rows["1m"].labelled_rows
    # of 30 bars a session 25 have a label of 5 minutes: 5 bars of overlap, less at both ends
    share = rows["5m"].effective_rows["train"] / rows["5m"].labelled_rows["train"]
    assert 1 / 5 < share < 1 / 4

    def worth(size: int) -> float:
        """Bar b of a session has b labels alive, from bar 0 on; the label of row i lives on bars i + 1 to the last."""
        return sum(sum(1 / bar for bar in range(row + 1, size)) / (size - 1 - row) for row in range(size - 1))

    assert rows["close"].effective_rows["train"] == pytest.approx(worth(20) + 6 * worth(30)), "warm-up ends at bar 10"


def test_labels_over_sessions_end_in_a_later_session_and_are_purged(market):
    bars, features, front, days = market
    ratio = front.with_columns(ratio=pl.Series([None, 1.0]))
    made = assemble(bars, features, ratio, ES, resolve("nightly", {"dataset.horizon": "2s"}))
    frame = made.frame.filter(pl.col("weight") == 1)
    ends = pl.concat(bars.values()).select("contract", label_end="ts", ends="session").unique(["label_end", "contract"])
    joined = frame.join(ends.drop("contract").unique("label_end"), on="label_end", how="left")
    order = {day: number for number, day in enumerate(days)}
    assert {order[e] - order[s] for s, e in joined.select("session", "ends").iter_rows()} == {2}
    assert part(made, "train")["label_end"].max() < part(made, "validation")["ts"].min()
    without = assemble(bars, features, front, ES, resolve("nightly", {"dataset.horizon": "2s"})).frame
    lost = frame.join(without.filter(pl.col("weight") == 1), on=["ts", "contract"], how="anti")
    assert lost.is_empty() or set(lost["contract"]) == {"ESH25"}, "labels across the roll need its ratio"


def test_future_rows_change_nothing_that_is_fitted(market):
    bars, features, front, _ = market
    config = resolve("nightly")
    before = assemble(bars, features, front, ES, config)
    first = part(before, "validation")["ts"].min()
    later = pl.col("ts") >= first
    for code in bars:
        shock = pl.when(later).then(pl.col("close") * 1.3).otherwise(pl.col("close"))
        bars[code] = bars[code].with_columns(close=shock)
        features[code] = features[code].with_columns(
            pl.when(later).then(pl.lit(1e20, pl.Float32)).otherwise(pl.col(f"f{index}")).alias(f"f{index}")
            for index in range(3)
        )
    after = assemble(bars, features, front, ES, config)
    assert part(after, "train").equals(part(before, "train"), null_equal=True)
    for key in ("median", "scale", "scale_source", "nonfinite_share", "zero_rank", "target_quantiles"):
        assert getattr(after.statistics, key) == getattr(before.statistics, key)
    assert not part(after, "test").equals(part(before, "test"))


def test_rows_evaluated_do_not_depend_on_the_labels(market):
    bars, features, front, _ = market
    before = assemble(bars, features, front, ES, resolve("nightly")).frame
    scaled = {
        code: frame.with_columns(pl.col("close") * np.exp(1e-3 * frame["volume"].cum_sum() % 7))
        for code, frame in bars.items()
    }
    after = assemble(scaled, features, front, ES, resolve("nightly")).frame
    assert not after["ret"].equals(before["ret"])
    assert after.select("ts", "contract", "split", "weight").equals(before.select("ts", "contract", "split", "weight"))


def test_nonfinite_cells_after_the_warmup_stay_and_are_counted(market):
    bars, features, front, _ = market
    holes = np.zeros(bars["ESH25"].height, dtype=bool)
    holes[100:110] = True
    cells = pl.when(pl.Series(holes)).then(float("inf")).otherwise(pl.col("f1")).cast(pl.Float32)
    features["ESH25"] = features["ESH25"].with_columns(f1=cells)
    made = assemble(bars, features, front, ES, resolve("nightly"))
    rows = made.statistics.rows["train"]
    assert made.statistics.nonfinite_share == pytest.approx([0, 10 / rows, 0])
    assert made.statistics.nonfinite_row_share["train"] == pytest.approx(10 / rows)


def test_features_are_chosen_and_ordered_by_name(market):
    bars, features, front, _ = market
    made = assemble(bars, features, front, ES, resolve("nightly", {"features.names": "f2, f0"}))
    assert made.features == ["f2", "f0"]
    assert made.frame.columns[-2:] == ["f2", "f0"]
    with pytest.raises(InvalidValueError, match="gamma"):
        assemble(bars, features, front, ES, resolve("nightly", {"features.names": "f0, gamma"}))


def test_unusable_inputs_are_named(market):
    bars, features, front, days = market
    config = resolve("nightly")
    with pytest.raises(ArtifactError, match="ESM25"):
        assemble({"ESH25": bars["ESH25"]}, features, front, ES, config)
    with pytest.raises(ArtifactError, match="stamps"):
        assemble(bars, {**features, "ESM25": features["ESM25"][1:]}, front, ES, config)
    with pytest.raises(ArtifactError, match="front period"):
        assemble(bars, features, front.clear(), ES, config)
    with pytest.raises(ContractCodeError, match="NQ"):
        assemble(bars, features, front, instrument("ES").__class__("NQ", 0.25, 20.0, "CME", ("H",)), config)
    with pytest.raises(InsufficientSessionsError) as caught:
        assemble(bars, features, front.with_columns(last_session=pl.lit(days[4])), ES, config)
    assert caught.value.needed == 10


def test_incomplete_rows_inside_the_declared_warmup_are_dropped(market):
    bars, features, front, _ = market
    name = "price_mom_3d"  # declares three sessions of warm-up: 90 rows here
    holes = np.isin(np.arange(bars["ESH25"].height), [60, 70, 100])
    cells = pl.when(pl.Series(holes)).then(float("nan")).otherwise(pl.col("f1")).cast(pl.Float32)
    features["ESH25"] = features["ESH25"].select("ts", "contract", "session", "f0", cells.alias(name))
    features["ESM25"] = features["ESM25"].rename({"f1": name}).drop("f2")
    timestamps = assemble(bars, features, front, ES, resolve("nightly")).frame["ts"].to_list()
    present = [bars["ESH25"]["ts"][row] in timestamps for row in (60, 61, 70, 100)]
    assert present == [False, True, False, True]
