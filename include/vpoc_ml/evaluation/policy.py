"""A position policy with costs: when a forecast is traded, how long a position is held, and what remains.

A decision falls at the close of bar t and is executed at the open of the next bar, ``entry_price``. The position is -1,
0 or +1 contract. It is held over missing minutes, because nobody can close where nothing trades. It is closed at the
last entry price of each session of each contract.

The expected move of a row is a slope times (score - zero rank). A position is opened where it exceeds a no-trade band.
Slope, band and holding rule come from earlier rows only. The choice needs a slope and a mean net result above two
standard errors; otherwise the policy does not trade. All prices and moves here are in ticks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from vpoc_ml.artifacts.metrics import (
    CostResult,
    HoldingRule,
    Interval,
    Policy,
    PolicyMetrics,
    PolicyVerdict,
    RegimeResult,
    SessionResult,
)
from vpoc_ml.evaluation.backtest import max_drawdown, sharpe
from vpoc_ml.evaluation.bootstrap import Resamples
from vpoc_ml.evaluation.forecasts import Floats, Forecast, Ints
from vpoc_ml.evaluation.metrics import ratio
from vpoc_ml.market import exchange_calendar
from vpoc_ml.market.instruments import Instrument

Bools = npt.NDArray[np.bool_]

COST_MULTIPLES = (1.0, 2.0, 3.0)
BAND_COSTS = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Bands that are tried, as multiples of the cost of a round turn."""
BAND_QUANTILES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
"""Bands that are tried, as quantiles of the absolute expected move; at quantile 0 the band is 0."""
RULES: tuple[tuple[HoldingRule, float], ...] = (("horizon", 0.0), ("reversal", 0.0), ("decay", 0.0), ("decay", 0.5))
"""Holding rules that are tried, with the share of the band below which ``decay`` leaves."""
EVIDENCE = 2.0
"""Standard errors by which the slope and the net result of the choice must exceed 0; a lower one trades more noise."""
MIN_TRADED_SESSIONS = 5
"""A band and rule that traded in fewer sessions are not chosen: their result is a few trades' luck."""
EXCHANGE_ZONE = "America/Chicago"
DECISION_COLUMNS = ("ts", "contract", "session", "label_end", "entry_price", "exit_price")
"""Columns that a decision needs."""
VOLATILITY = ("low", "middle", "high")
EVENTS_OF_A_BAND = 8
"""Events that are kept: at most six of a band, two of which all bands share."""
LatestEvent = Callable[[int, float], Ints]
"""(side, threshold) -> latest row of the session with side * expected move > threshold, (n,); -1: none. Side: 1, -1."""


@dataclass(frozen=True)
class DecisionRows:
    """The rows at which a policy decides, sorted by session, contract and time. All arrays are (n,).

    Attributes:
        frame: ts, contract and session of each row.
        block: number of the session, 0 to ``sessions`` - 1.
        sessions: sessions of the rows, those without a usable price included.
        minute: start of the decision bar, minutes since the epoch.
        entry: open of the next bar, in ticks.
        move: ticks from ``entry`` to the label's exit; only the slope is fitted on it.
        signal: score minus zero rank.
        hold: horizon of the label in minutes, the median over the rows.
    """

    frame: pl.DataFrame
    block: Ints
    sessions: int
    minute: Ints
    entry: Floats
    move: Floats
    signal: Floats
    hold: int

    @classmethod
    def of(cls, rows: pl.DataFrame, forecast: Forecast, tick_size: float) -> Self:
        """Read ``DECISION_COLUMNS`` of the rows of ``forecast``, prices in points.

        Rows without a finite entry price or score are left out: nothing can be decided or executed there.
        """
        table = rows.select(
            "ts",
            "contract",
            "session",
            block=pl.col("session").rank("dense").cast(pl.Int64) - 1,
            hold=(pl.col("label_end") - pl.col("ts")).dt.total_minutes(),
            entry=pl.col("entry_price") / tick_size,
            move=(pl.col("exit_price") - pl.col("entry_price")) / tick_size,
            signal=pl.Series(forecast.rank - forecast.zero_rank),
        )
        table = table.filter(pl.col("entry").is_finite(), pl.col("signal").is_finite()).sort(
            "session", "contract", "ts"
        )
        median = table["hold"].median()
        return cls(
            frame=table.select("ts", "contract", "session"),
            block=table["block"].to_numpy(),
            sessions=rows["session"].n_unique(),
            minute=table["ts"].dt.epoch("s").to_numpy() // 60,
            entry=table["entry"].to_numpy(),
            move=table["move"].to_numpy(),
            signal=table["signal"].to_numpy(),
            hold=max(int(median), 1) if isinstance(median, int | float) else 1,
        )

    @cached_property
    def first(self) -> Bools:
        """Whether a row is the first one of a session of a contract."""
        same = [pl.col(name).ne_missing(pl.col(name).shift(1)) for name in ("contract", "session")]
        return self.frame.select(first=pl.any_horizontal(*same))["first"].to_numpy()

    @cached_property
    def last(self) -> Bools:
        """Whether a row is the last one of a session of a contract: the position is closed there."""
        return np.append(self.first[1:], True)[: len(self.first)]

    @cached_property
    def start(self) -> Ints:
        """Index of the first row of the session of the contract."""
        return np.maximum.accumulate(np.where(self.first, np.arange(len(self.first)), 0))

    @cached_property
    def step(self) -> Floats:
        """Ticks from this row's entry to the next one's; 0 at the last row of a session."""
        return np.where(self.last, 0.0, np.append(self.entry[1:], 0.0)[: len(self.entry)] - self.entry)

    def per_session(self, values: Floats) -> Floats:
        """Return the sum of ``values`` (n,) by session, (sessions,)."""
        return np.bincount(self.block, values, self.sessions).astype(np.float64)


@dataclass(frozen=True)
class PolicyTrades:
    """What a policy did on the rows of a ``DecisionRows``. All arrays are (n,).

    ``position`` holds from this row's entry to the next one's, ``gross`` is its result in ticks before costs, ``sides``
    counts the contracts bought or sold at this row's entry.
    """

    position: Floats
    gross: Floats
    sides: Floats

    @classmethod
    def of(cls, position: Floats, rows: DecisionRows) -> Self:
        """Return the trades that lead to ``position`` (n,)."""
        before = np.append(0.0, position)[:-1]  # 0 at the first row of a session: the one before ends with 0
        return cls(position, position * rows.step, np.abs(position - before))


def joined_trades(parts: Sequence[PolicyTrades]) -> PolicyTrades:
    """Return the trades on consecutive rows as one."""
    names = ("position", "gross", "sides")
    return PolicyTrades(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def choose_policy(earlier: DecisionRows, cost: float) -> Policy:
    """Return slope, band and holding rule with the best mean net result a session minus two standard errors.

    Not trading is a candidate with a result of 0. Noise therefore rarely ends in trades.

    Args:
        earlier: rows before all rows that the policy will be measured on.
        cost: of a round turn, in ticks.
    """
    slope, error = fit_slope(earlier)
    best = Policy(slope=slope, slope_error=error, band=None, rule="none", sessions=earlier.sessions)
    if slope == 0.0 or earlier.sessions < MIN_TRADED_SESSIONS:
        return best
    expected = slope * earlier.signal
    latest = _latest_events(expected, earlier)
    for band in _bands(expected, cost):
        for rule, keep in RULES:
            trades = PolicyTrades.of(_positions(latest, expected, earlier, band, rule, keep, earlier.hold), earlier)
            sides = earlier.per_session(trades.sides)
            net = earlier.per_session(trades.gross) - 0.5 * cost * sides
            score = float(net.mean() - EVIDENCE * net.std(ddof=1) / math.sqrt(earlier.sessions))
            if score > best.score and int((sides > 0).sum()) >= MIN_TRADED_SESSIONS:
                found = {"band": band, "rule": rule, "keep": keep, "hold_minutes": earlier.hold, "score": score}
                best = best.model_copy(update=found)
    return best


def fit_slope(rows: DecisionRows) -> tuple[float, float]:
    """Return ticks of move per unit of signal, at least 0, and its standard error over sessions.

    Least squares through the origin, so that a drift of the prices is no forecast. The slope b with the sandwich error
    s over sessions is shrunk by (1 - (s / b)^2)+, the positive part of James and Stein's estimator.
    Up to ``EVIDENCE`` errors it is 0.
    """
    known = np.isfinite(rows.move)
    x, y = np.where(known, rows.signal, 0.0), np.where(known, rows.move, 0.0)
    spread = float(x @ x)
    if spread == 0.0:
        return 0.0, 0.0
    slope = float(x @ y) / spread
    error = math.sqrt(float((rows.per_session(x * (y - slope * x)) ** 2).sum())) / spread
    return (slope * (1.0 - (error / slope) ** 2), error) if slope > EVIDENCE * error else (0.0, error)


def apply_policy(policy: Policy, rows: DecisionRows) -> PolicyTrades:
    """Return the positions of ``policy`` on ``rows``. A position depends on scores up to its own row only."""
    if policy.band is None or policy.rule == "none":
        position = np.zeros(len(rows.entry))
    else:
        expected = policy.slope * rows.signal
        latest = _latest_events(expected, rows)
        position = _positions(latest, expected, rows, policy.band, policy.rule, policy.keep, policy.hold_minutes)
    return PolicyTrades.of(position, rows)


def evaluate_policy(
    policy: Policy,
    earlier: DecisionRows,
    later: DecisionRows,
    resamples: Resamples,
    *,
    rank_ic: Interval | None,
    instrument: Instrument,
    round_turn_cost: float,
    trades: PolicyTrades | None = None,
) -> PolicyMetrics:
    """Measure a policy on rows that it was not chosen on.

    Args:
        policy: chosen on ``earlier``.
        earlier: rows of the choice; they also give the cut points of the volatility regimes.
        later: rows after them.
        resamples: of the sessions of ``later``.
        rank_ic: of the candidate on ``later``, for the verdict.
        instrument: tick value and calendar.
        round_turn_cost: dollars a contract.
        trades: what was done on ``later`` where the policy was chosen anew several times, ``policy`` being the last
            one; None: what ``policy`` does.
    """
    if trades is None:
        trades = apply_policy(policy, later)
    tick = instrument.tick_value
    gross, sides = later.per_session(trades.gross) * tick, later.per_session(trades.sides)
    costs = [_at_cost(gross, sides, multiple, round_turn_cost, resamples) for multiple in COST_MULTIPLES]
    gross_per_session = _mean(gross, resamples)
    held_minutes = np.where(later.last, 0, np.append(later.minute[1:], 0)[: len(later.minute)] - later.minute)
    break_even = resamples.interval(np.stack([gross, sides / 2.0], axis=1), ratio)
    net: Floats = gross - 0.5 * round_turn_cost * sides
    days = later.frame["session"].unique().sort()
    present = np.unique(later.block)
    return PolicyMetrics(
        policy=policy,
        verdict=verdict(rank_ic, gross_per_session, costs[0].net_per_session, costs[1].net),
        round_turns=round(sides.sum() / 2.0),
        gross=float(gross.sum()),
        gross_per_session=gross_per_session,
        costs=tuple(costs),
        break_even_cost=break_even,
        break_even_ticks=None if break_even is None else break_even.value / tick,
        turnover=float(sides.sum() / 2.0 / later.sessions),
        exposure=float(held_minutes[trades.position != 0].sum() / max(held_minutes.sum(), 1)),
        regimes=tuple(_regimes(trades, earlier, later, resamples, instrument, round_turn_cost)),
        daily=tuple(
            SessionResult(session=day.isoformat(), gross=float(g), net=float(n), trades=round(s / 2.0))
            for day, g, n, s in zip(days, gross[present], net[present], sides[present], strict=True)
        ),
    )


def verdict(
    rank_ic: Interval | None, gross: Interval | None, net: Interval | None, net_at_double_cost: float
) -> PolicyVerdict:
    """Return what the intervals allow to say.

    Args:
        rank_ic: of the candidate.
        gross: result of the policy a session before costs.
        net: result after costs.
        net_at_double_cost: result at twice the costs.
    """
    if net is not None and net.low > 0 and net_at_double_cost > 0:
        return "tradeable"
    predictive = any(interval is not None and interval.low > 0 for interval in (rank_ic, gross))
    return "predictive, not tradeable" if predictive else "no evidence"


def _bands(expected: Floats, cost: float) -> list[float]:
    """Return the bands to try, in ticks, ascending and distinct."""
    size = np.abs(expected)
    quantiles = [0.0 if share == 0 else float(np.quantile(size, share)) for share in BAND_QUANTILES]
    return sorted({*quantiles, *(multiple * cost for multiple in BAND_COSTS)})


def _latest_events(expected: Floats, rows: DecisionRows) -> LatestEvent:
    """Return a function that finds the latest events of rows; the rules share those of a band."""
    index = np.arange(len(expected))

    @lru_cache(maxsize=EVENTS_OF_A_BAND)
    def latest(side: int, threshold: float) -> Ints:
        event = expected > threshold if side > 0 else expected < -threshold
        row = np.maximum.accumulate(np.where(event, index, -1))
        return np.where(row >= rows.start, row, -1)

    return latest


def _positions(
    latest: LatestEvent,
    expected: Floats,
    rows: DecisionRows,
    band: float,
    rule: HoldingRule,
    keep: float,
    hold_minutes: int,
) -> Floats:
    """Return the position of each row, (n,). Beyond the band every rule takes the side of the expected move."""
    rise, fall = latest(1, band), latest(-1, band)
    if rule == "horizon":
        order = np.maximum(rise, fall)
        open_ = (order >= 0) & (rows.minute - rows.minute[order] < hold_minutes)
        position = np.where(open_, np.sign(expected[order]), 0.0)
    elif rule == "reversal":
        position = (rise > fall).astype(np.float64) - (fall > rise)
    else:
        position = (rise > latest(-1, -keep * band)).astype(np.float64) - (fall > latest(1, -keep * band))
    position[rows.last] = 0.0
    return position


def _at_cost(gross: Floats, sides: Floats, multiple: float, round_turn_cost: float, resamples: Resamples) -> CostResult:
    net: Floats = gross - 0.5 * multiple * round_turn_cost * sides
    return CostResult(
        multiple=multiple,
        round_turn_cost=multiple * round_turn_cost,
        net=float(net.sum()),
        net_per_session=_mean(net, resamples),
        sharpe=resamples.interval(np.stack([np.ones_like(net), net, net**2], axis=1), sharpe),
        max_drawdown=max_drawdown(net),
    )


def _mean(daily: Floats, resamples: Resamples) -> Interval | None:
    return resamples.interval(np.stack([daily, np.ones_like(daily)], axis=1), ratio)


def _regimes(
    trades: PolicyTrades,
    earlier: DecisionRows,
    later: DecisionRows,
    resamples: Resamples,
    instrument: Instrument,
    round_turn_cost: float,
) -> Iterator[RegimeResult]:
    """Yield the result of every regime. A result belongs to the regime of the row that holds the position."""
    tick = instrument.tick_value
    net = tick * trades.gross - 0.5 * round_turn_cost * trades.sides
    calendar = instrument.calendar
    days = later.frame["session"].sort()
    span = [exchange_calendar.clip_to_reviewed(calendar, day) for day in (days[0], days[-1])]
    hours = exchange_calendar.sessions(calendar, span[0], span[1]).select("session", "rth_open", "rth_close")
    decided = pl.col("ts") + pl.duration(minutes=1)
    in_rth = (decided >= pl.col("rth_open")) & (decided < pl.col("rth_close"))
    table = later.frame.join(hours, on="session", how="left", maintain_order="left").select(
        pl.Series("volatility", np.array(VOLATILITY)[_volatility_terciles(earlier, later)[later.block]]),
        pl.when(in_rth.fill_null(False)).then(pl.lit("RTH")).otherwise(pl.lit("overnight")).alias("hours"),
        decided.dt.convert_time_zone(EXCHANGE_ZONE).dt.strftime("%H:00").alias("hour, Chicago"),
        "contract",
    )
    for kind in table.columns:
        numbers = table[kind].rank("dense").to_numpy()  # text takes ten times as long to compare
        for number, name in enumerate(table[kind].unique().sort().to_list(), start=1):
            here = numbers == number
            yield RegimeResult(
                kind=kind,
                name=name,
                rows=int(here.sum()),
                round_turns=float(trades.sides[here].sum() / 2.0),
                gross=float(tick * trades.gross[here].sum()),
                net=float(net[here].sum()),
                net_per_session=_mean(later.per_session(np.where(here, net, 0.0)), resamples),
            )


def _volatility_terciles(earlier: DecisionRows, later: DecisionRows) -> Ints:
    """Return 0, 1 or 2 for each later session: the tercile, among earlier sessions, of the session before it."""
    known, new = _volatility(earlier), _volatility(later)
    before = np.append(known[-1:], new)[: later.sessions]
    cuts = np.quantile(known, (1 / 3, 2 / 3))
    return np.searchsorted(cuts, before, side="right").astype(np.int64)


def _volatility(rows: DecisionRows) -> Floats:
    """Return the root mean square of the relative steps of each session, (sessions,)."""
    squared = (rows.step / np.maximum(np.abs(rows.entry), 1.0)) ** 2  # a price below a tick counts as a tick
    return np.sqrt(rows.per_session(squared) / np.maximum(rows.per_session((~rows.last).astype(np.float64)), 1.0))
