"""Columns without information."""

from __future__ import annotations

import pandas as pd
import polars as pl

from vpoc_ml.leakage.comparison import KEYS
from vpoc_ml.leakage.degenerate import check_degenerate

from .planted_builders import caught


def test_known_leak_15_vix_is_the_constant_20_because_its_column_was_renamed(steady):
    data = steady.bars.rename({"vix": "VIX"}).rename({"VIX": "vix"})
    value = pl.col("VIX").shift(1) if "VIX" in data.columns else pl.lit(20.0)
    violations = check_degenerate(data.select(*KEYS, vix_lagged=value), steady.bars["close"])
    assert caught(violations, "vix_lagged", "degenerate")
    assert "20 in every row" in violations[0].found
    assert check_degenerate(steady.bars.select(*KEYS, vix_lagged="vix"), steady.bars["close"]) == []


def test_known_leak_16_atr_ratio_is_all_zero_because_its_index_is_another(steady):
    frame = steady.bars.select("ts", "high", "low", "close").to_pandas().set_index("ts")
    spread = pd.Series((frame["high"] - frame["low"]).to_numpy())
    frame["atr_ratio"] = spread.rolling(14).mean() / spread.rolling(50).mean()
    assert frame["atr_ratio"].isna().all()
    unfilled = steady.bars.select(*KEYS, atr_ratio=pl.Series(frame["atr_ratio"].to_numpy()))
    filled = unfilled.with_columns(pl.col("atr_ratio").fill_nan(0))
    for dead, found in ((unfilled, "none that is finite"), (filled, "0 in every row")):
        violations = check_degenerate(dead, steady.bars["close"])
        assert caught(violations, "atr_ratio", "degenerate")
        assert found in violations[0].found
    right = (spread.rolling(14).mean() / spread.rolling(50).mean()).to_numpy()
    assert check_degenerate(steady.bars.select(*KEYS, atr_ratio=pl.Series(right)), steady.bars["close"]) == []


def test_a_column_that_is_another_one_in_other_units_is_found(steady):
    change = steady.bars["close"].diff()
    frame = steady.bars.select(KEYS).with_columns(one=change, other=-1e4 * change + 1, third=change.abs())
    violations = check_degenerate(frame, steady.bars["close"])
    assert [one.feature for one in violations] == ["other"]
    assert "with one" in violations[0].found
