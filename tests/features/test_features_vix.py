"""Features of a VIX with several values a day."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from vpoc_ml.ingest.vix.vix_closes import join_vix


def test_change_of_values_within_the_day_covers_five_dates_and_uses_no_later_value(rough, compute):
    within = [
        rough.vix.with_columns(pl.col("close") + step, pl.col("available_at") - timedelta(hours=hours))
        for step, hours in ((0.5, 5), (-0.25, 2), (0.0, 0))
    ]
    vix = pl.concat(within).sort("available_at")
    found = compute(join_vix(rough.bars.drop("vix"), vix), vix).select("ts", "vix_lag1", "vix_chg_5d")
    rows = found.gather_every(97).rows()
    assert len(rows) > 20
    for ts, level, change in rows:
        known = vix.filter(pl.col("available_at") < ts)
        dates = known["date"].unique().sort()
        assert level == np.float32(known["close"][-1])
        if dates.len() < 6:
            assert np.isnan(change)
        else:
            old = known.filter(pl.col("date") == dates[-6])["close"][-1]
            assert np.isclose(change, np.log(known["close"][-1] / old), atol=1e-6)
