"""The features as polars expressions of the same inputs: vectorised, without a Python loop over rows.

``ABSENT`` lists the features for which polars has no expression. RSI and MACD run from a contract's first bar and never
restart; the difference is below float32 resolution. Windows are float sums.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi, sqrt

import polars as pl

ABSENT = {
    "days_to_roll": "the exchange's calendar, the same for both",
    "vpoc_share": "units of a running profile",
    "profile_cdf": "units of a running profile",
    "naked_up": "levels until a later bar trades them",
    "naked_dn": "levels until a later bar trades them",
    "hvn_dist_5d": "nodes of a smoothed profile of five sessions",
}
Over = Callable[[pl.Expr], pl.Expr]
C, H, L, V = (pl.col(name) for name in ("close", "high", "low", "volume"))
CHANGE, R, SQUARE = pl.col("change"), pl.col("r"), pl.col("square")


def daily_columns(one: Over) -> list[list[pl.Expr]]:
    """Columns of the session table, in steps: every ``one`` expression stays within a contract."""
    o, h, low, c, rv = (pl.col(name) for name in ("open", "high", "low", "close", "rv"))
    before, n = one(c.shift(1)), 20
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    return [
        [
            (pl.max_horizontal(h, before) - pl.min_horizontal(low, before)).alias("range"),
            (o / before).log().alias("overnight"),
            (c / o).log().alias("inside"),
            ((h / o).log() * (h / c).log() + (low / o).log() * (low / c).log()).alias("rogers"),
        ],
        [
            one(pl.col("range").shift(1).rolling_mean(14)).clip(0.25).alias("atr"),
            *(one(c.shift(ago)).alias(f"close_{ago}") for ago in (1, 3, 5, 20)),
            *(one(pl.col(name).shift(1)).alias(f"{name}_1") for name in ("vpoc", "vah", "val")),
            one(pl.col("vpoc").shift(6)).alias("vpoc_6"),
            *(
                one(rv.shift(1).rolling_mean(days)).clip(1e-4).log().alias(name)
                for name, days in (("har_d", 1), ("har_w", 5), ("har_m", 22))
            ),
            (100 * (252 * one(
                (pl.col("overnight").rolling_var(n) + k * pl.col("inside").rolling_var(n)
                 + (1 - k) * pl.col("rogers").rolling_mean(n)).shift(1)
            )).sqrt()).clip(0.1).alias("yz_20d"),
        ],
    ]  # fmt: skip


def bar_columns(one: Over) -> list[list[pl.Expr]]:
    """Columns of the bars, in steps."""
    first = one(C.shift(1))
    price = (H + L + C) / 3
    return [
        [(C - first).alias("change"), (C / first).log().alias("r"), price.alias("price"), (price * V).alias("value")],
        [
            (R * R).alias("square"),
            (CHANGE.sign() * V).alias("flow"),
            (1 + V).log().alias("logv"),
            V.cum_sum().over("contract", "session").alias("so_far"),
            pl.col("value").cum_sum().over("contract", "session").alias("value_so_far"),
            (pl.col("price") * pl.col("value")).cum_sum().over("contract", "session").alias("square_so_far"),
            (one(C.ewm_mean(span=12, adjust=False)) - one(C.ewm_mean(span=26, adjust=False))).alias("macd"),
        ],
    ]


def features(one: Over) -> list[pl.Expr]:
    """The features, of bars joined with the session table."""
    return [*_price(one), *_volume(one), *_volatility(one), *_levels(), *_others()]


def _price(one: Over) -> list[pl.Expr]:
    smooth = [one(side.ewm_mean(alpha=1 / 14, adjust=False, ignore_nulls=True))
              for side in (CHANGE.fill_null(0).clip(0), -CHANGE.fill_null(0).clip(None, 0))]  # fmt: skip
    moved, spread = smooth[0] + smooth[1], one(C.rolling_std(20))
    high, low = one(H.rolling_max(60)), one(L.rolling_min(60))
    return [
        (100 * CHANGE / (C - CHANGE)).alias("close_change_pct"),
        (100 * (H - L) / C).alias("price_range"),
        *((100 * (C / pl.col(f"close_{ago}")).log()).alias(f"price_mom_{ago}d") for ago in (3, 5, 20)),
        *((1e4 * (C / one(C.shift(bars))).log()).alias(f"mom_{bars}m") for bars in (15, 60)),
        (1e4 * (C / pl.col("open_s")).log()).alias("mom_sess"),
        pl.when(H > L).then((C - L) / (H - L)).otherwise(0.5).alias("close_loc"),
        pl.when(moved > 0).then(100 * smooth[0] / moved).otherwise(50).alias("rsi_14"),
        (1e4 * (pl.col("macd") - one(pl.col("macd").ewm_mean(span=9, adjust=False))) / C).alias("macd_hist"),
        pl.when(spread > 0).then((C - one(C.rolling_mean(20))) / spread).otherwise(0).alias("bb_z_20"),
        pl.when(high > low).then((C - low) / (high - low)).otherwise(0.5).alias("donch_pos_60"),
    ]


def _volume(one: Over) -> list[pl.Expr]:
    def same_minute(expression: pl.Expr) -> pl.Expr:
        return expression.over("contract", "minute")

    logv, flow, so_far = pl.col("logv"), pl.col("flow") / 1000, pl.col("so_far")
    deviation = same_minute(logv.shift(1).rolling_std(20)).clip(0.25)
    mean = pl.col("value_so_far") / so_far
    spread = (pl.col("square_so_far") / so_far - mean * mean).clip(0.0625).sqrt()
    illiquidity = 1e4 * R.abs() / (C * V * 50 / 1e6)
    return [
        ((logv - same_minute(logv.shift(1).rolling_mean(20))) / deviation).alias("vol_z_tod"),
        (V / one(V.rolling_mean(30))).alias("vol_ratio_30"),
        (so_far / same_minute(so_far.shift(1).rolling_mean(20))).alias("rvol_sess"),
        (one(pl.col("flow").rolling_sum(20)) / one(V.rolling_sum(20))).alias("ofi_20"),
        (one(pl.rolling_cov(4 * CHANGE, flow, window_size=60)) / one(flow.rolling_var(60)))
        .clip(-1000, 1000).alias("kyle_lambda_60"),
        one(illiquidity.rolling_mean(60)).clip(1e-4).log10().alias("amihud_60"),
        (1e4 * (C / mean - 1)).alias("vwap"),
        ((C - mean) / spread).clip(-10, 10).alias("vwap_z"),
        one(pl.rolling_corr(CHANGE.abs(), logv, window_size=60)).alias("pv_corr_60"),
    ]  # fmt: skip


def _volatility(one: Over) -> list[pl.Expr]:
    realised = {bars: 100 * (1380 * one(SQUARE.rolling_mean(bars))).sqrt() for bars in (30, 390)}
    total = one(SQUARE.rolling_sum(390))
    falling = pl.when(R < 0).then(SQUARE).otherwise(0)
    ranges = (H / L).log()
    return [
        *(volatility.alias(f"rv_{bars}") for bars, volatility in realised.items()),
        (realised[30] / realised[390]).alias("rv_ratio_30_390"),
        (pi / 2 * one((R * one(R.shift(1))).abs().rolling_sum(389)) / total).alias("bpv_ratio_390"),
        (one(falling.rolling_sum(390)) / total).alias("semivar_ratio_390"),
        *(pl.col(name) for name in ("har_d", "har_w", "har_m", "yz_20d")),
        (100 / sqrt(4 * log(2)) * (1380 * one((ranges * ranges).rolling_mean(60))).sqrt()).alias("park_60"),
    ]


def _levels() -> list[pl.Expr]:
    atr, width = pl.col("atr"), pl.col("vah") - pl.col("val")
    return [
        ((C - pl.col("vpoc")) / atr).alias("vpoc_dev_dist"),
        ((pl.col("vah") - C) / atr).alias("vah_dev_dist"),
        ((C - pl.col("val")) / atr).alias("val_dev_dist"),
        ((C - pl.col("val")) / width.clip(1.0)).clip(-5, 6).alias("va_pos_dev"),
        (width / atr).alias("va_width_dev"),
        ((C - pl.col("vpoc_1")) / atr).alias("vpoc_prev_dist"),
        ((C - pl.col("val_1")) / (pl.col("vah_1") - pl.col("val_1")).clip(1.0)).alias("va_pos_prev"),
        ((pl.col("vpoc_1") - pl.col("vpoc_6")) / atr).alias("vpoc_migr_5d"),
    ]


def _others() -> list[pl.Expr]:
    angle = 2 * pi * pl.col("minute") / 1380
    return [
        pl.col("vix").alias("vix_lag1"),
        pl.col("vix_change").alias("vix_chg_5d"),
        (pl.col("vix") / pl.col("yz_20d")).log().alias("vrp"),
        angle.sin().alias("tod_sin"),
        angle.cos().alias("tod_cos"),
        pl.col("rth").alias("is_rth"),
        ((pl.col("session").dt.weekday() - 1) / 4).alias("dow"),
        ((pl.col("open_s") - pl.col("close_1")) / pl.col("atr")).alias("gap_open"),
    ]


def compute(bars: pl.DataFrame, daily: pl.DataFrame, vix: pl.DataFrame, *, over: bool) -> pl.DataFrame:
    """Return the features as Float32, row by row of ``bars``.

    Args:
        bars: canonical bars with the developing ``vpoc, vah, val``, sorted by contract and ``ts``.
        daily: one row a contract and session: open, high, low, close, vpoc, vah, val.
        vix: ``contract, close, available_at``, sorted by both.
        over: windows are confined to a contract by ``.over``; False for bars of one contract.
    """

    def one(expression: pl.Expr) -> pl.Expr:
        return expression.over("contract") if over else expression

    changes = vix.select(
        "contract", pl.col("available_at").alias("ts"), one((C / C.shift(5)).log()).alias("vix_change")
    )
    known = changes.lazy() if over else changes.lazy().drop("contract")
    local = pl.col("ts").dt.convert_time_zone("America/Chicago").dt
    minute = (local.hour().cast(pl.Int32) * 60 + local.minute() - 1020) % 1440
    by = {"by": "contract", "check_sortedness": False} if over else {}
    step = bars.lazy().with_columns(minute.alias("minute")).join_asof(known, on="ts", allow_exact_matches=False, **by)
    for columns in bar_columns(one):
        step = step.with_columns(columns)
    before = pl.coalesce(C.shift(1), pl.col("open").first())
    squares = step.group_by("contract", "session").agg((1e4 * (C / before).log() ** 2).sum().alias("rv"))
    table = daily.lazy().join(squares, on=["contract", "session"], maintain_order="left")
    for columns in daily_columns(one):
        table = table.with_columns(columns)
    table = table.rename({"open": "open_s"}).drop("high", "low", "close", "vpoc", "vah", "val")
    whole = step.join(table, on=["contract", "session"], how="left", maintain_order="left")
    return whole.select(expression.cast(pl.Float32) for expression in features(one)).collect()
