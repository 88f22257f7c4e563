"""The list of the optional features. ``registry`` lists the others. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from vpoc_ml.features.registry import REGISTRY, WEEK_SESSIONS, Bounds, Feature

_UNBOUNDED: Bounds = (-inf, inf)
_POSITIVE: Bounds = (0, inf)
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
"""Every feature by name: the registry's, then the optional ones."""


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


def selected_features(extras: Iterable[str], *, vix: bool = True, covariates: Iterable[str] = ()) -> dict[str, Feature]:
    """Return the registry and the features of the named families, in the order of their columns.

    Args:
        extras: optional families.
        vix: whether the run uses the VIX; without it family vix is left out.
        covariates: the columns from which family covariates is computed.
    """
    wanted = set(extras)
    own = {name: feature for name, feature in REGISTRY.items() if vix or feature.family != "vix"}
    return (
        own
        | {name: feature for name, feature in OPTIONAL_FEATURES.items() if feature.family in wanted}
        | (covariate_features(covariates) if COVARIATES in wanted else {})
    )
