"""One continuous synthetic market, minute by minute, before it is split into contracts.

It is simulated one year at a time, so that memory does not depend on its length; each year continues from the state at
the end of the year before. Prices are integer ticks. A minute moves by ``floor(x + u)`` with u uniform, which has mean
x: rounding to the grid adds no drift and no bounce, so without a planted signal the closes are a martingale.

Volume and volatility follow the time of day. The half-hour values are measured on ES minute bars of 2021-2023; the
single minutes are the outliers among them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import stdtr

from vpoc_ml.synthetic.planted_rules import SLOPE, THRESHOLD, Planted, Rule

Floats = NDArray[np.float64]

# Half hours from 18:00 New York to 16:30; the maintenance hour is absent.
# fmt: off
_VOLUME_SHARE = (  # percent of the day
    0.30, 0.22, 0.27, 0.27, 0.41, 0.35, 0.32, 0.35, 0.27, 0.24, 0.20, 0.18,  # 18:00-23:30
    0.18, 0.18, 0.24, 0.24, 0.37, 0.37, 0.83, 0.62, 0.66, 0.54, 0.51, 0.50,  # 00:00-05:30
    0.53, 0.55, 0.70, 0.75, 1.04, 1.80, 1.80, 10.8, 8.6, 6.9, 5.85, 5.0,  # 06:00-11:30
    4.2, 3.75, 3.85, 3.65, 4.4, 4.5, 5.1, 7.6, 2.4, 0.48,  # 12:00-16:30
)
_VOLATILITY = (  # median absolute return of a minute, bp
    0.88, 0.66, 0.73, 0.69, 1.11, 0.89, 0.87, 0.87, 0.69, 0.64, 0.62, 0.61,
    0.61, 0.61, 0.73, 0.71, 1.13, 1.05, 1.61, 1.31, 1.34, 1.17, 1.15, 1.12,
    1.15, 1.11, 1.19, 1.17, 1.21, 1.48, 1.39, 3.38, 2.90, 2.41, 2.22, 1.98,
    1.84, 1.71, 1.81, 1.69, 1.89, 1.87, 2.13, 2.55, 1.05, 0.62,
)
# fmt: on
# minute of the New York day: (volume, volatility) as multiples of its half hour
_SPECIAL_MINUTES = {
    9 * 60 + 30: (2.4, 1.35),
    10 * 60: (1.6, 1.6),
    15 * 60 + 50: (2.3, 1.9),
    15 * 60 + 58: (2.4, 1.0),
    15 * 60 + 59: (12.6, 1.7),
    16 * 60: (13.0, 2.8),
    18 * 60: (4.0, 1.0),
}
RELEASE_MINUTE = 8 * 60 + 30
_LATE = slice(17 * 60, 17 * 60 + 15)
# Share of the two contracts' volume in the next one, by sessions from the Monday of the expiry week.
_MIGRATION = {-3: 0.03, -2: 0.08, -1: 0.25, 0: 0.80, 1: 0.88, 2: 0.90, 3: 0.93, 4: 0.985}


def curves() -> tuple[Floats, Floats]:
    """Return (volume, volatility) for each minute 0..1439 of the New York day, 0 in the maintenance hour.

    Volume sums to 1 over a full session; the squares of volatility sum to 1. The minutes from 17:00 to 17:15, in which
    ES traded until September 2015, equal the minute before them and are not in the sums.
    """
    half_hours = (np.arange(46) + 36) % 48  # 18:00 is the 36th half hour of the day
    volume, volatility = np.zeros(48), np.zeros(48)
    volume[half_hours], volatility[half_hours] = _VOLUME_SHARE, _VOLATILITY
    volume, volatility = np.repeat(volume, 30), np.repeat(volatility, 30)
    for minute, (more_volume, more_volatility) in _SPECIAL_MINUTES.items():
        volume[minute] *= more_volume
        volatility[minute] *= more_volatility
    volume, volatility = volume / volume.sum(), volatility / np.sqrt((volatility**2).sum())
    volume[_LATE], volatility[_LATE] = volume[_LATE.start - 1], volatility[_LATE.start - 1]
    return volume, volatility


def next_contract_share(offset: int) -> float:
    """Return the next contract's share of the volume, ``offset`` sessions from Monday of the expiry week."""
    if offset < min(_MIGRATION):
        return 0.002 + 0.013 * math.pow(2.0, (offset - min(_MIGRATION)) / 3)
    return _MIGRATION.get(offset, 1.0)


TICK = 0.25
START_PRICE = 4000.0
DAILY_CONTRACTS = 1.55e6
_TAIL = 10.0  # degrees of freedom of a minute's shock at given volatility
_VIX_MEAN, _VIX_KEEP, _VIX_BETA, _VIX_NOISE = math.log(19.0), 0.95, -5.0, 0.042
_SESSION_VOL = 0.75  # realised volatility of a full session, as a share of VIX
_GAP_BP, _WEEKEND_GAP_BP = 8.0, 36.0

_RATIO_BARS = 30
_BLOCK_SESSIONS = 252


@dataclass(frozen=True)
class MarketBlock:
    """A block of sessions: ``minutes`` has one row per minute, ``vix`` one per day (date, close)."""

    minutes: pl.DataFrame
    vix: pl.DataFrame


@dataclass
class _State:
    """State of the market between two blocks; ``closes`` are the last ones in ticks, as many as the rule reads.

    ``on_ask`` says whether the last print was on the ask, ``sessions`` how many sessions came before.
    """

    closes: deque[int]
    on_ask: bool = False
    sessions: int = 0
    reference: int = round(START_PRICE / TICK)
    log_vix: float = _VIX_MEAN
    closed: datetime | None = None
    volumes: Floats = field(default_factory=lambda: np.empty(0))
    persistent: dict[str, float] = field(default_factory=dict)

    def ar1(self, name: str, rng: np.random.Generator, size: int, keep: float) -> Floats:
        """Return the next ``size`` values of the stationary AR(1) of unit variance called ``name``."""
        scale = math.sqrt(1 - keep * keep)
        noise = rng.standard_normal(size) * scale
        noise[0] = noise[0] + keep * self.persistent[name] if name in self.persistent else noise[0] / scale
        values = np.asarray(lfilter([1.0], [1.0, -keep], noise))
        self.persistent[name] = float(values[-1])
        return values


def simulate(
    table: pl.DataFrame, front_offset: dict[date, int], seed: np.random.SeedSequence, planted: Planted
) -> Iterator[MarketBlock]:
    """Yield the market over the sessions of ``table`` (as ``exchange_calendar.sessions`` returns them), year by year.

    ``front_offset`` is the front contract's price minus the path's, in ticks, by session: the planted rule reads
    the front contract's returns. ``minutes`` has ts, session, open, high, low, close (i64 ticks), volume (f64,
    all contracts together), p_up: the probability that the next close is above this one, given that it differs,
    both without bounce.
    """
    state = _State(deque([round(START_PRICE / TICK)], maxlen=planted.closes))
    for part in table.iter_slices(_BLOCK_SESSIONS):
        rng = np.random.default_rng(seed)
        yield _block(part, front_offset, state, rng, planted)
        (seed,) = seed.spawn(1)


def _block(
    table: pl.DataFrame, front_offset: dict[date, int], state: _State, rng: np.random.Generator, planted: Planted
) -> MarketBlock:
    grid = _grid(table)
    clock = grid["clock"].to_numpy()
    days = grid["day"].to_numpy()
    volume, effect = _volumes(clock, days, table.height, state, rng)
    relative = _relative_volatility(clock, days, effect, state, rng)
    if planted.mode == "signal":
        factor = _tilt(volume, state)
    else:
        factor = np.array([planted.sign(state.sessions + day) for day in range(table.height)])[days]
    closes, drift, deviation, vix = _walk(table, grid, relative, factor, front_offset, state, planted.rule, rng)
    state.sessions += table.height
    candles = _candles(closes, grid["first"].to_numpy(), deviation, rng)
    if planted.bounce:
        candles = _bounced(candles, planted.bounce, state, rng)
    minutes = grid.select("ts", "session").with_columns(**candles, volume=volume, p_up=_p_up(drift, deviation))
    return MarketBlock(minutes, vix)


def _grid(table: pl.DataFrame) -> pl.DataFrame:
    """Return one row per tradeable minute: ts, session, day (index of the session), clock (New York), first."""
    spans = table.with_row_index("day").select(
        "day", "session", "halt_start", "halt_end", ts=pl.datetime_ranges("open", "close", "1m", closed="left")
    )
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    halted = pl.col("ts").is_between("halt_start", "halt_end", closed="left").fill_null(False)
    rows = spans.explode("ts").filter(~halted).drop("halt_start", "halt_end")
    return rows.with_columns(
        clock=local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute(),
        first=pl.col("day") != pl.col("day").shift(fill_value=2**32 - 1),
    )


def _volumes(
    clock: np.ndarray, days: np.ndarray, sessions: int, state: _State, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return contracts per minute, and the log deviation from the time-of-day curve, which volatility shares."""
    share, _ = curves()
    within = 0.34 * state.ar1("within", rng, len(clock), 0.93) + 0.26 * rng.standard_normal(len(clock))
    daily = 0.25 * state.ar1("daily", rng, sessions, 0.6)
    level = np.exp(daily[days] + within - within.var() / 2)
    return np.maximum(np.rint(DAILY_CONTRACTS * share[clock] * level), 1.0), within


def _relative_volatility(
    clock: np.ndarray, days: np.ndarray, effect: Floats, state: _State, rng: np.random.Generator
) -> Floats:
    """Return a minute's standard deviation as a share of its session's."""
    _, shape = curves()
    release = rng.random(int(days[-1]) + 1) < 0.3
    jump = np.where((clock == RELEASE_MINUTE) & release[days], 8.0, 1.0)
    log_ratio = 0.6 * effect + 0.22 * state.ar1("volatility", rng, len(clock), 0.985)
    return np.asarray(shape[clock] * jump * np.exp(log_ratio - log_ratio.var()))


def _tilt(volume: Floats, state: _State) -> Floats:
    """Return the signal's factor of volume, in (-1, 1); 0 while the 30-bar mean is incomplete."""
    known = np.concatenate([state.volumes, volume])
    total = np.concatenate([[0.0], np.cumsum(known)])
    mean = np.full(len(known), np.nan)
    mean[_RATIO_BARS - 1 :] = (total[_RATIO_BARS:] - total[:-_RATIO_BARS]) / _RATIO_BARS
    tilt: Floats = np.nan_to_num(np.tanh(SLOPE * (np.log(known / mean) - THRESHOLD)))
    tilt = tilt[len(state.volumes) :]
    state.volumes = known[-_RATIO_BARS + 1 :]
    return tilt


def _walk(
    table: pl.DataFrame,
    grid: pl.DataFrame,
    relative: Floats,
    factor: Floats,
    front_offset: dict[date, int],
    state: _State,
    rule: Rule,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Floats, Floats, pl.DataFrame]:
    """Simulate session by session: the VIX sets a session's volatility and depends on its return."""
    size = len(relative)
    shock = rng.standard_t(_TAIL, size) / math.sqrt(_TAIL / (_TAIL - 2))
    uniform = rng.random(size)
    extra = np.exp(0.36 * state.ar1("session", rng, table.height, 0.85))
    closes, drift, deviation = np.empty(size, np.int64), np.empty(size), np.empty(size)
    # the last bar of a session that has ended at 16:15 New York, when the VIX is published
    before = (pl.col("clock") < 16 * 60 + 15) | (pl.col("clock") >= 18 * 60)
    fixing = grid.with_row_index("row").filter(before).group_by("day", maintain_order=True).last()["row"].to_list()
    edges = np.append(np.flatnonzero(grid["first"].to_numpy()), size)
    vix: list[float] = []
    for day, (session, opened, closed) in enumerate(table.select("session", "open", "close").iter_rows()):
        rows = slice(edges[day], edges[day + 1])
        sd = math.exp(state.log_vix) / 100 / math.sqrt(252) * _SESSION_VOL * extra[day] * state.closes[-1]
        long_break = state.closed is not None and (opened - state.closed).total_seconds() > 6 * 3600
        gap_bp = _WEEKEND_GAP_BP if long_break else _GAP_BP
        gap = state.closes[-1] * gap_bp / 1e4 * rng.standard_normal()
        deviation[rows] = sd * relative[rows]
        moves = deviation[rows] * shock[rows] + uniform[rows]
        offset = front_offset[session]
        closes[rows], drift[rows] = _steps(state.closes, gap, moves, deviation[rows], factor[rows], offset, rule)
        fixed = int(closes[fixing[day]])
        news = _VIX_BETA * math.log(fixed / state.reference) + _VIX_NOISE * rng.standard_normal()
        log_vix = _VIX_MEAN + _VIX_KEEP * (state.log_vix - _VIX_MEAN) + news
        state.log_vix = min(max(log_vix, math.log(9.0)), math.log(80.0))
        state.reference, state.closed = fixed, closed
        vix.append(round(math.exp(state.log_vix), 2))
    return closes, drift, deviation, pl.DataFrame({"date": table["session"], "close": vix})


def _steps(
    last: deque[int], gap: float, moves: Floats, deviation: Floats, factors: Floats, offset: int, rule: Rule
) -> tuple[list[int], list[float]]:
    """Return closes in ticks and, for each, the drift of the next minute in its standard deviations.

    ``last`` holds the closes before and is moved on to the newest.
    """
    path, drifts = [], []
    drift, jump = 0.0, gap
    for move, sd, factor in zip(moves.tolist(), deviation.tolist(), factors.tolist(), strict=True):
        last.append(last[-1] + math.floor(move + sd * drift + jump))
        drift, jump = rule(last, offset, factor), 0.0
        path.append(last[-1])
        drifts.append(drift)
    return path, drifts


def _candles(
    closes: np.ndarray, first: np.ndarray, deviation: Floats, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return open, high, low, close in ticks: extremes of a Brownian bridge from open to close."""
    size = len(closes)
    before = np.concatenate([closes[:1], closes[:-1]])
    step = rng.choice(np.array([-2, -1, 0, 1, 2]), size, p=[0.005, 0.22, 0.55, 0.22, 0.005])
    opens = np.where(first, closes, before) + step
    spread = 2.0 * deviation**2
    middle, move = (opens + closes) / 2, (closes - opens) ** 2
    reach = [np.sqrt(move - spread * np.log(rng.random(size) + 1e-300)) / 2 for _ in range(2)]
    high = np.maximum(np.rint(middle + reach[0]).astype(np.int64), np.maximum(opens, closes))
    low = np.minimum(np.rint(middle - reach[1]).astype(np.int64), np.minimum(opens, closes))
    return {"open": opens, "high": high, "low": low, "close": closes}


def _bounced(
    candles: dict[str, np.ndarray], change: float, state: _State, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the candles with each open and close on the bid or on the ask, a tick above it."""
    size = len(candles["close"])
    on_ask = np.logical_xor.accumulate(np.append(state.on_ask, rng.random(2 * size) < change))[1:].astype(np.int64)
    state.on_ask = bool(on_ask[-1])
    opens, closes = candles["open"] + on_ask[::2], candles["close"] + on_ask[1::2]
    high = np.maximum(candles["high"], np.maximum(opens, closes))
    return {"open": opens, "high": high, "low": candles["low"], "close": closes}


def _p_up(drift: Floats, deviation: Floats) -> Floats:
    """Return the probability that the next close is higher, given that it differs; NaN on the last row.

    The move is floor(x + u), so P(up) is the mean over u in (0, 1) of P(x >= u); the mean is a 4-point
    Gauss-Legendre sum.
    """
    nodes, weights = np.polynomial.legendre.leggauss(4)
    scale = math.sqrt(_TAIL / (_TAIL - 2))
    sd = np.append(deviation[1:], np.nan)
    up, down = np.zeros(len(drift)), np.zeros(len(drift))
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        up += weight * stdtr(_TAIL, scale * (drift - node / sd))
        down += weight * stdtr(_TAIL, scale * (-drift - node / sd))
    return np.asarray(up / (up + down))
