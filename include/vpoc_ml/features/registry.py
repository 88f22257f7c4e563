"""The lists of the standard and the optional features: names, formulas, bounds, warm-up. Imports nothing heavy.

Symbols: C, H, L, V are close, high, low and volume of the bar; r is the one-bar log return; s is the bar's session; D
is the profile of s so far; ATR is the mean true range of the 14 sessions before s, at least one tick. "d" counts
sessions, "m" counts bars. Windows span the daily break. While the contract is the front one they also span the roll:
sessions and prices before it are the predecessor's, ratio-adjusted. Volumes are as traded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, pi, sqrt
from re import match
from typing import NamedTuple

from vpoc_ml.artifacts.schemas import FEATURE_KEYS
from vpoc_ml.config import FeaturesConfig
from vpoc_ml.errors import PluginError
from vpoc_ml.plugins import registered
from vpoc_ml.plugins.declared import OwnFeature

Bounds = tuple[float, float]


class PriceLookback(NamedTuple):
    """Prices a feature reads before its bar: ``back`` bars, or its session so far and the ``back`` sessions before."""

    unit: str
    back: int


class Feature(NamedTuple):
    """Name, definition and limits of a feature.

    ``hard`` bounds follow from mathematics or exchange rules: a value outside is an error. ``soft`` bounds are the
    usual range: a value outside is reported. NaN may occur only while fewer than ``warmup_sessions`` sessions, or
    ``warmup_bars`` bars, of the contract or of its predecessors came before. In family levels NaN may also occur where
    a profile that the feature reads holds no volume, as before the first trade of a session. Windows of bars declare
    two sessions, because the data of a contract may begin late in its first one.

    ``variation_sessions``: number of traded sessions with values after which a constant column is an error. A feature
    with one value per session needs several. ``resting_values``: values that a contract may show in every row, such as
    the cap of a distance.

    ``relative``: the feature is a logarithm or a share of prices, so it is missing where it reads a price at or
    below 0.
    """

    name: str
    family: str
    formula: str
    window: str
    unit: str
    hard: Bounds
    soft: Bounds
    warmup_sessions: int
    warmup_bars: int = 0
    variation_sessions: int = 1
    resting_values: tuple[float, ...] = ()
    relative: bool = False

    @property
    def price_lookback(self) -> PriceLookback | None:
        """The prices that must be above 0 for the feature to have a value; None where any price is allowed.

        It covers the prices the feature reads and all between them: a return across 0 is missing as well.
        """
        if not self.relative:
            return None
        if self.warmup_bars or self.window == "1 m":
            return PriceLookback("bars", self.warmup_bars)
        days = match(r"(\d+) d\b", self.window)
        return PriceLookback("sessions", max(int(days[1]) if days else 0, self.warmup_sessions))


WEEK_SESSIONS = 5
"""``variation_sessions`` of a feature with one value per session: two equal VIX closes may occur, five may not."""

_UNBOUNDED: Bounds = (-inf, inf)
_POSITIVE: Bounds = (0, inf)

_FEATURES = (
    Feature("close_change_pct", "price", "100 (C / C[-1] - 1)", "1 m", "%", (-20, 20), (-0.25, 0.25), 1, 1),
    Feature("price_range", "price", "100 (H - L) / C", "1 m", "%", _POSITIVE, (0, 0.35), 0),
    Feature("price_mom_3d", "price", "100 ln(C / close of s-3)", "3 d", "%", (-50, 50), (-6.5, 6.5), 3),
    Feature("price_mom_5d", "price", "100 ln(C / close of s-5)", "5 d", "%", (-50, 50), (-8, 8), 5),
    Feature("price_mom_20d", "price", "100 ln(C / close of s-20)", "20 d", "%", (-60, 60), (-16, 16), 20),
    Feature("mom_15m", "price", "1e4 ln(C / C[-15])", "15 m", "bp", (-2000, 2000), (-90, 90), 2, 15),
    Feature("mom_60m", "price", "1e4 ln(C / C[-60])", "60 m", "bp", (-2000, 2000), (-180, 180), 2, 60),
    Feature("mom_sess", "price", "1e4 ln(C / open of s)", "session", "bp", (-2000, 2000), (-400, 400), 0),
    Feature("close_loc", "price", "(C - L) / (H - L); 1/2 if H = L", "1 m", "-", (0, 1), (0, 1), 0),
    Feature("rsi_14", "price", "Wilder's RSI of 14, run from 390 bars before s; 50 if nothing moved",
            "14 m", "-", (0, 100), (10, 90), 2, 390),
    Feature("macd_hist", "price", "1e4 [E12(C) - E26(C) - E9(E12(C) - E26(C))] / C, run from 390 bars before s",
            "12/26/9 m", "bp", (-2000, 2000), (-8, 8), 2, 390),
    Feature("bb_z_20", "price", "(C - mean C) / sd C, n - 1 in the sd; 0 if nothing moved",
            "20 m", "sd", (-19 / sqrt(20), 19 / sqrt(20)), (-3.6, 3.6), 2, 19),
    Feature("donch_pos_60", "price", "(C - min L) / (max H - min L); 1/2 if equal", "60 m", "-", (0, 1), (0, 1), 2, 59),
    Feature("vol_z_tod", "volume", "(ln(1+V) - mean) / max(sd, 0.25) of the same minute in those of the sessions"
            " s-20..s-1 that span it; 0 if fewer than 5 do", "20 d", "sd", _UNBOUNDED, (-8, 7), 20,
            variation_sessions=WEEK_SESSIONS + 1),
    Feature("vol_ratio_30", "volume", "V / mean V; 0 if none traded", "30 m", "ratio", (0, 30), (0, 12), 2, 29),
    Feature("rvol_sess", "volume", "V of s so far / mean V up to the same minute of those of the sessions s-20..s-1"
            " that span it; 1 if fewer than 5 do or none traded", "20 d", "ratio", _POSITIVE, (0.05, 40), 20,
            variation_sessions=WEEK_SESSIONS + 1),
    Feature("ofi_20", "volume", "sum sign(C - C[-1]) V / sum V; 0 if none traded",
            "20 m", "-", (-1, 1), (-0.9, 0.9), 2, 20),
    Feature("kyle_lambda_60", "volume", "slope of C - C[-1] in ticks on sign(C - C[-1]) V / 1000, clipped to +-1000;"
            " 0 if that does not vary", "60 m", "ticks per 1000", (-1000, 1000), (0, 1000), 2, 60),
    Feature("amihud_60", "volume", "log10 of mean 1e4 |r| / (C V point value / 1e6), at least 1e-4,"
            " over bars with V > 0", "60 m", "log10 bp per $m", (-4, inf), (-3.2, 1.6), 2, 60),
    Feature("vwap", "volume", "1e4 (C / VWAP of s - 1), priced (H+L+C)/3; 0 before the first trade of s",
            "session", "bp", (-2000, 2000), (-200, 200), 0),
    Feature("vwap_z", "volume", "(C - VWAP of s) / max(sd by volume of (H+L+C)/3 in s, 1 tick), clipped to +-10;"
            " 0 before the first trade of s", "session", "sd", (-10, 10), (-5, 5), 0),
    Feature("pv_corr_60", "volume", "corr(|C - C[-1]|, ln(1+V)); 0 if one does not vary",
            "60 m", "-", (-1, 1), (-0.5, 0.9), 2, 60),
    Feature("rv_30", "volatility", "100 sqrt(1380 mean r^2)", "30 m", "%/day", _POSITIVE, (0.05, 6), 2, 30),
    Feature("rv_390", "volatility", "100 sqrt(1380 mean r^2)", "390 m", "%/day", _POSITIVE, (0.1, 4.5), 2, 390),
    Feature("rv_ratio_30_390", "volatility", "rv_30 / rv_390; 1 if nothing moved",
            "390 m", "-", (0, sqrt(13)), (0.1, 3.3), 2, 390),
    Feature("bpv_ratio_390", "volatility", "(pi/2) sum |r r[-1]| / sum r^2; 1 if nothing moved",
            "390 m", "-", (0, pi / 2), (0.05, 1.2), 2, 390),
    Feature("semivar_ratio_390", "volatility", "sum r^2 of r < 0 / sum r^2; 1/2 if nothing moved",
            "390 m", "-", (0, 1), (0.04, 0.96), 2, 390),
    Feature("har_d", "volatility", "ln max(RV of s-1, 1e-4), RV the sum of (100 r)^2 within a session",
            "1 d", "ln %^2", _UNBOUNDED, (-4.5, 3), 1, variation_sessions=WEEK_SESSIONS),
    Feature("har_w", "volatility", "ln max(mean RV of s-5..s-1, 1e-4)", "5 d", "ln %^2", _UNBOUNDED, (-3, 3), 5,
            variation_sessions=WEEK_SESSIONS),
    Feature("har_m", "volatility", "ln max(mean RV of s-22..s-1, 1e-4)", "22 d", "ln %^2", _UNBOUNDED, (-2.5, 2.5), 22,
            variation_sessions=WEEK_SESSIONS),
    Feature("park_60", "volatility", "100 sqrt(1380 mean ln(H/L)^2 / (4 ln 2))",
            "60 m", "%/day", _POSITIVE, (0.05, 5), 2, 59),
    Feature("yz_20d", "volatility", "Yang-Zhang of s-20..s-1, annualised by 252, at least 0.1",
            "20 d", "%/yr", _POSITIVE, (5, 60), 21, variation_sessions=WEEK_SESSIONS),
    Feature("vpoc_dev_dist", "levels", "(C - VPOC of D) / ATR", "session", "ATR", _UNBOUNDED, (-2, 2), 14),
    Feature("vah_dev_dist", "levels", "(VAH of D - C) / ATR", "session", "ATR", _UNBOUNDED, (-1.5, 2.8), 14),
    Feature("val_dev_dist", "levels", "(C - VAL of D) / ATR", "session", "ATR", _UNBOUNDED, (-1.5, 2.8), 14),
    Feature("va_pos_dev", "levels", "(C - VAL) / max(VAH - VAL, 4 ticks) of D, clipped to -5..6",
            "session", "widths", (-5, 6), (-4, 5), 0),
    Feature("va_width_dev", "levels", "(VAH - VAL) of D / ATR", "session", "ATR", _POSITIVE, (0, 3), 14),
    Feature("vpoc_share", "levels", "volume at the VPOC of D / volume of D; 1 before the first trade of s",
            "session", "share", (0, 1), (0.002, 1), 0),
    Feature("profile_cdf", "levels", "volume of D at or below C / volume of D; 0.5 before the first trade of s",
            "session", "share", (0, 1), (0, 1), 0),
    Feature("vpoc_prev_dist", "levels", "(C - VPOC of s-1) / ATR", "1 d", "ATR", _UNBOUNDED, (-3, 3), 14),
    Feature("va_pos_prev", "levels", "(C - VAL) / max(VAH - VAL, 4 ticks) of s-1",
            "1 d", "widths", _UNBOUNDED, (-12, 12), 1),
    Feature("vpoc_migr_5d", "levels", "(VPOC of s-1 - VPOC of s-6) / ATR", "6 d", "ATR", _UNBOUNDED, (-5, 5), 14,
            variation_sessions=WEEK_SESSIONS),
    Feature("naked_up", "levels", "(nearest VPOC above C of s-20..s-1 that no later bar traded - C) / ATR, at most 5; "
            "5 if none", "up to 20 d", "ATR", (0, 5), (0, 5), 20, resting_values=(5,)),
    Feature("naked_dn", "levels", "(C - nearest VPOC below C of s-20..s-1 that no later bar traded) / ATR, at most 5; "
            "5 if none", "up to 20 d", "ATR", (0, 5), (0, 5), 20, resting_values=(5,)),
    Feature("hvn_dist_5d", "levels", "(C - nearest HVN of the profile of s-5..s-1) / ATR, clipped to +-5",
            "5 d", "ATR", (-5, 5), (-4, 4), 14),
    Feature("vix_lag1", "vix", "last VIX close published before the bar", "1 d", "points", (0, 150), (9, 40), 0,
            variation_sessions=WEEK_SESSIONS),
    Feature("vix_chg_5d", "vix", "ln(VIX[-1] / VIX[-6]) of the closes published before the bar",
            "5 d", "ln", (-2, 2), (-0.7, 0.85), 8, variation_sessions=WEEK_SESSIONS),
    Feature("vrp", "vix", "ln(vix_lag1 / yz_20d)", "20 d", "ln", _UNBOUNDED, (-1, 1.5), 21,
            variation_sessions=WEEK_SESSIONS),
    Feature("tod_sin", "calendar", "sin(2 pi m / 1380), m minutes since 17:00 Chicago", "-", "-", (-1, 1), (-1, 1), 0),
    Feature("tod_cos", "calendar", "cos(2 pi m / 1380), m minutes since 17:00 Chicago", "-", "-", (-1, 1), (-1, 1), 0),
    Feature("is_rth", "calendar", "1 in the calendar's regular hours (ES: 08:30 to 15:00 Chicago), else 0",
            "-", "0/1", (0, 1), (0, 1), 0, variation_sessions=WEEK_SESSIONS),
    Feature("dow", "calendar", "weekday of s / 4, Monday 0", "-", "-", (0, 1), (0, 1), 0,
            variation_sessions=WEEK_SESSIONS),
    Feature("days_to_roll", "calendar", "sessions from s up to the scheduled roll; 0 from it on",
            "-", "sessions", (0, 70), (0, 70), 0, variation_sessions=WEEK_SESSIONS, resting_values=(0, 70)),
    Feature("gap_open", "calendar", "(open of s - close of s-1) / ATR", "1 d", "ATR", _UNBOUNDED, (-1.5, 1.5), 14,
            variation_sessions=WEEK_SESSIONS),
)  # fmt: skip

_RELATIVE = {
    "close_change_pct", "price_range", "price_mom_3d", "price_mom_5d", "price_mom_20d", "mom_15m", "mom_60m",
    "mom_sess", "macd_hist", "amihud_60", "vwap", "vrp",
}  # fmt: skip

REGISTRY: dict[str, Feature] = {
    one.name: one._replace(relative=one.name in _RELATIVE or one.family == "volatility") for one in _FEATURES
}
FEATURE_NAMES: tuple[str, ...] = tuple(REGISTRY)


def for_prices_near_zero(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """Return ``features`` without hard bounds on shares of a price, for an instrument whose price may come near 0.

    Bounds of volatility ratios follow from mathematics and stay.
    """
    return {
        name: one._replace(hard=(0.0 if one.hard[0] == 0 else -inf, inf))
        if one.relative and one.family != "volatility"
        else one
        for name, one in features.items()
    }


_SHARE: Bounds = (0, 1)

ALPHA_WINDOWS = (5, 10, 20, 30, 60)

_MODELS = (
    Feature("garch_vol_5m", "garch", "100 sqrt(276 h q), h GARCH(1,1) of 5 m returns of 20 d, q time of day",
            "25 d", "%/day", _POSITIVE, (0.1, 5), 20),
    Feature("garch_ratio_60m", "garch", "ln sqrt(h / mean of the last 12 squared 5 m returns), time of day divided out",
            "25 d", "ln", (-inf, inf), (-1.2, 2), 20),
    Feature("garch_persistence_20d", "garch", "alpha + beta of the session's fit", "25 d", "-", _SHARE, (0.3, 1), 20,
            variation_sessions=WEEK_SESSIONS),
    Feature("har_forecast_1d", "har", "forecast of ln RV of s from RV of 1 d, 5 d, 22 d; fitted on 60 d, at least 30",
            "82 d", "ln %^2", _UNBOUNDED, (-4, 3), 52, variation_sessions=WEEK_SESSIONS),
    Feature("har_surprise_1d", "har", "ln RV of s-1 less its forecast", "83 d", "ln", _UNBOUNDED, (-3, 3), 53,
            variation_sessions=WEEK_SESSIONS),
    Feature("hurst_390m", "hurst", "slope of ln mean square move over ln lag / 2, lags 1..32 m, clipped to 0..1",
            "390 m", "-", _SHARE, (0.2, 0.8), 2, 390),
    *(Feature(f"wavelet_{2**level}m", "wavelet", f"energy of Haar changes over {2**level} m / energy of the returns",
              "454 m", "share", _SHARE, _SHARE, 2, 453) for level in range(1, 7)),
    Feature("coint_z_20d", "cointegration",
            "(ln C - a - b ln C of the pair) / sd, least squares of 20 d with 100 common bars",
            "20 d", "sd", _UNBOUNDED, (-12, 12), 20),
    Feature("coint_hedge_20d", "cointegration",
            "b: ln C on ln C of the pair, least squares of 20 d with 100 common bars",
            "20 d", "-", _UNBOUNDED, (-5, 5), 20, variation_sessions=WEEK_SESSIONS),
    Feature("fracdiff_04", "fracdiff", "1e4 sum w_k ln(C[-k] / C[-281]), w_k of (1 - B)^0.4 down to 1e-4",
            "281 m", "bp", (-3000, 3000), (-150, 150), 2, 281),
)  # fmt: skip


def _bar(name: str, formula: str, unit: str, hard: Bounds, soft: Bounds) -> Feature:
    return Feature(f"alpha_{name}", "alpha158", formula, "1 m", unit, hard, soft, 0)


_BAR_SHAPES = (
    _bar("kmid", "1e4 (C - O) / O", "bp", _UNBOUNDED, (-30, 30)),
    _bar("kup", "1e4 (H - max(O, C)) / O", "bp", _POSITIVE, (0, 20)),
    _bar("klow", "1e4 (min(O, C) - L) / O", "bp", _POSITIVE, (0, 20)),
    _bar("ksft", "1e4 (2 C - H - L) / O", "bp", _UNBOUNDED, (-30, 30)),
    _bar("kmid2", "(C - O) / (H - L); 0 if H = L", "-", (-1, 1), (-1, 1)),
    _bar("kup2", "(H - max(O, C)) / (H - L); 0 if H = L", "-", _SHARE, _SHARE),
    _bar("klow2", "(min(O, C) - L) / (H - L); 0 if H = L", "-", _SHARE, _SHARE),
    _bar("ksft2", "(2 C - H - L) / (H - L); 0 if H = L", "-", (-1, 1), (-1, 1)),
    _bar("klen", "1e4 (H - L) / O", "bp", _POSITIVE, (0, 40)),
    _bar("high0", "1e4 (H / C - 1)", "bp", _POSITIVE, (0, 30)),
    _bar("low0", "1e4 (L / C - 1)", "bp", (-10_000, 0), (-30, 0)),
)

_PRICE_SOFT = {5: 60.0, 10: 80.0, 20: 110.0, 30: 140.0, 60: 200.0}
"""Usual range of a price ratio in basis points, by window."""


def _windows(bars: int) -> Iterable[Feature]:
    """Yield the rolling features of one window."""
    usual = _PRICE_SOFT[bars]
    both, up, down = (-usual, usual), (0.0, usual), (-usual, 0.0)
    limits = (-5000.0, 5000.0)
    rows: tuple[tuple[str, str, str, Bounds, Bounds], ...] = (
        ("roc", "1e4 (C[-n] / C - 1)", "bp", limits, both),
        ("ma", "1e4 (mean C / C - 1)", "bp", limits, both),
        ("max", "1e4 (max H / C - 1)", "bp", _POSITIVE, up),
        ("min", "1e4 (min L / C - 1)", "bp", (-10_000, 0), down),
        ("qtlu", "1e4 (80 % quantile of C / C - 1)", "bp", limits, both),
        ("qtld", "1e4 (20 % quantile of C / C - 1)", "bp", limits, both),
        ("std", "1e4 sd C / C", "bp", _POSITIVE, up),
        ("beta", "1e4 slope of C per bar / C", "bp", limits, both),
        ("resi", "1e4 last residual of the line through C / C", "bp", limits, both),
        ("rsqr", "R squared of the line through C; 0 if flat", "-", _SHARE, _SHARE),
        ("rank", "mid-rank of C among the last n, over n", "-", _SHARE, _SHARE),
        ("rsv", "(C - min L) / (max H - min L); 0.5 if flat", "-", _SHARE, _SHARE),
        ("imax", "place of the highest H, 1 the oldest bar, over n", "-", _SHARE, _SHARE),
        ("imin", "place of the lowest L, 1 the oldest bar, over n", "-", _SHARE, _SHARE),
        ("imxd", "imax - imin", "-", (-1, 1), (-1, 1)),
        ("cntp", "share of bars with C > C[-1]", "-", _SHARE, _SHARE),
        ("cntn", "share of bars with C < C[-1]", "-", _SHARE, _SHARE),
        ("cntd", "cntp - cntn", "-", (-1, 1), (-1, 1)),
        ("sump", "sum of rises of C / sum of moves; 0.5 if flat", "-", _SHARE, _SHARE),
        ("corr", "correlation of C and ln(V + 1); 0 if one is constant", "-", (-1, 1), (-1, 1)),
        ("cord", "correlation of C / C[-1] and ln(V / max(V[-1], 1) + 1); 0 if one is constant",
         "-", (-1, 1), (-1, 1)),
        ("vma", "mean V / max(V, 1)", "-", _POSITIVE, (0, 60)),
        ("vstd", "sd V / max(V, 1)", "-", _POSITIVE, (0, 60)),
        ("wvma", "sd / mean of |C / C[-1] - 1| V; 0 if none", "-", _POSITIVE, (0, 8)),
        ("vsump", "sum of rises of V / sum of moves; 0.5 if constant", "-", _SHARE, _SHARE),
    )  # fmt: skip
    for name, formula, unit, hard, soft in rows:
        if (name, bars) != ("rsv", 60):  # the same values as donch_pos_60
            yield Feature(f"alpha_{name}_{bars}m", "alpha158", formula, f"{bars} m", unit, hard, soft, 2, bars)


_RELATIVE_SHAPES = ("kmid", "kup", "klow", "ksft", "klen", "high0", "low0")
_RELATIVE_WINDOWS = ("roc", "ma", "max", "min", "qtlu", "qtld", "std", "beta", "resi", "cord", "wvma")
_OPTIONAL_RELATIVE = {
    *(feature.name for feature in _MODELS),
    *(f"alpha_{name}" for name in _RELATIVE_SHAPES),
    *(f"alpha_{name}_{bars}m" for name in _RELATIVE_WINDOWS for bars in ALPHA_WINDOWS),
}
OPTIONAL_FEATURES: dict[str, Feature] = {
    feature.name: feature._replace(relative=feature.name in _OPTIONAL_RELATIVE)
    for feature in (*_MODELS, *_BAR_SHAPES, *(one for bars in ALPHA_WINDOWS for one in _windows(bars)))
}
OPTIONAL_FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(feature.family for feature in OPTIONAL_FEATURES.values()))
ALL_FEATURES: dict[str, Feature] = REGISTRY | OPTIONAL_FEATURES
"""Every feature of the product by name: the registry's, then the optional ones. ``known_features`` adds own ones."""


COVARIATES = "covariates"
"""The family whose features depend on the indices that ``ingest.covariates`` names."""
EXTRA_HISTORY = {"har": 83}
"""Sessions of history that a family reads, where these are more than 30."""


def covariate_features(covariates: Iterable[str]) -> dict[str, Feature]:
    """Return the features of family covariates for these columns of the bars."""
    return {
        feature.name: feature
        for name in covariates
        for feature in (
            Feature(f"{name}_lag1", "covariates", f"last value of {name} published before the bar", "1 d", "of index",
                    _UNBOUNDED, _UNBOUNDED, 0, variation_sessions=WEEK_SESSIONS),
            Feature(f"{name}_chg_5d", "covariates", "that value less the last one of five dates before", "5 d",
                    "of index", _UNBOUNDED, _UNBOUNDED, 8, variation_sessions=WEEK_SESSIONS),
        )
    }  # fmt: skip


def families_of(config: FeaturesConfig) -> tuple[str, ...]:
    """Return the families that a run adds to the registry: the optional ones, then those of own features."""
    return (*config.extras, *config.own)


def own_digests(families: Iterable[str]) -> dict[str, str]:
    """Return the digests of the own features of these families, as inputs of a build key."""
    wanted = set(families)
    return registered.digests("features", (name for name, own in own_features().items() if own.family in wanted))


def own_features() -> dict[str, OwnFeature]:
    """Return the own features of the active plugins by name, in the order in which they were found.

    Raises:
        PluginError: a name or a family is one of the product's.
    """
    found = {}
    for plugin in registered.of_kind("features"):
        own: OwnFeature = plugin.value
        families = {each.family for each in ALL_FEATURES.values()} | {COVARIATES}
        if own.name in ALL_FEATURES or own.name in FEATURE_KEYS:
            raise PluginError(plugin.origin, "a name that the product does not use", own.name, "Rename the feature.")
        if own.family in families:
            expected = "a family that the product does not use"
            raise PluginError(plugin.origin, expected, f"{own.family} of {own.name}", "Rename the family.")
        found[own.name] = own
    return found


def known_features() -> dict[str, Feature]:
    """Return every feature by name: the registry's, the optional ones, and own ones."""
    return ALL_FEATURES | {name: _declared(own) for name, own in own_features().items()}


def _declared(own: OwnFeature) -> Feature:
    return Feature(
        own.name,
        own.family,
        own.formula,
        own.window,
        own.unit,
        own.hard,
        own.soft,
        own.warmup_sessions,
        own.warmup_bars,
        own.variation_sessions,
        relative=own.relative,
    )


def selected_features(extras: Iterable[str], *, vix: bool = True, covariates: Iterable[str] = ()) -> dict[str, Feature]:
    """Return the registry and the features of the named families, in the order of their columns: own ones last.

    Args:
        extras: optional families and families of own features.
        vix: whether the run uses the VIX; without it family vix is left out.
        covariates: the columns from which family covariates is computed.
    """
    wanted = set(extras)
    own = {name: feature for name, feature in REGISTRY.items() if vix or feature.family != "vix"}
    return (
        own
        | {name: feature for name, feature in OPTIONAL_FEATURES.items() if feature.family in wanted}
        | (covariate_features(covariates) if COVARIATES in wanted else {})
        | {name: _declared(own) for name, own in own_features().items() if own.family in wanted}
    )
