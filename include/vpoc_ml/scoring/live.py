"""Score one bar as soon as it has ended, with the bits that the nightly batch computes for it later.

The features of a bar read a bounded past: ``Past`` holds the complete sessions, ``OpenSession`` the open one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import BARS, FEATURE_KEYS
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.features.history import empty_past, extend_past, past_of, required_history
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.market.exchange_calendar import clip_to_reviewed, contract_sessions
from vpoc_ml.market.instruments import TICK_TOLERANCE
from vpoc_ml.profile.sessions import build_sessions
from vpoc_ml.registry.model_key import ModelKey
from vpoc_ml.scoring.batch import BAR, ScoringModel, ScoringRules, score_rows
from vpoc_ml.scoring.open_session import Bar, LiveMarket, OpenSession
from vpoc_ml.scoring.predictions import Prediction

BAR_SCHEMA = {name: dtype for name, dtype in BARS.items() if name != "vix"}
LISTED = timedelta(days=731)
"""How long before its expiry a contract may have bars."""


@dataclass(frozen=True)
class LiveModel:
    """A model with its rules, its key and its version, which every prediction states."""

    model: ScoringModel
    rules: ScoringRules
    key: ModelKey
    version: int


class Scorer:
    """Scores the bars of one contract in their order. At a roll a scorer of the next contract begins."""

    def __init__(self, live: LiveModel, market: LiveMarket) -> None:
        """Read the past once.

        Raises:
            ArtifactError, InsufficientSessionsError: as ``build_features``.
        """
        self._live, self._market = live, market
        self._required = required_history(market.extras)
        contract, calendar = parse_contract(market.contract), market.instrument.calendar
        first, last = (clip_to_reviewed(calendar, each) for each in (contract.expiry - LISTED, contract.expiry))
        self._hours = contract_sessions(contract, market.instrument, first, last).rows(named=True)
        self._opens = [row["open"] for row in self._hours]
        self._in_front, self._past = False, empty_past()
        self._open: OpenSession | None = None
        self._prepared: OpenSession | None = None
        self._features: dict[str, np.float32] = {}
        own = market.bars.select(*BAR_SCHEMA)
        opened = int(own["session"].search_sorted(own["session"][-1])) if own.height else 0
        self._add_sessions(own[:opened])
        for row in own[opened:].iter_rows(named=True):
            self._append(Bar(*(row[name] for name in Bar._fields)), row["session"], rth=row["rth"])
        if self._open is not None:
            self._features = self._open.last_features()

    @property
    def features(self) -> pl.DataFrame:
        """Keys and features of the last bar, as ``build_features`` returns them; no row before the first bar."""
        if self._open is None:
            return pl.DataFrame(schema=FEATURE_KEYS)
        keys = {"ts": self._open.rows[-1][0].ts, "contract": self._market.contract, "session": self._open.session}
        columns = [pl.Series(name, [keys[name]], dtype) for name, dtype in FEATURE_KEYS.items()]
        return pl.DataFrame(columns + [pl.Series(name, [value], pl.Float32) for name, value in self._features.items()])

    def end_session(self) -> None:
        """Add the open session to the past and prepare the next one, which the first bar of a session else waits for.

        Call it in the daily break, when the session's last bar has been given. Its later bars are refused. Without an
        open session, and if called again, it does nothing.
        """
        if self._open is None or self._prepared is not None:
            return
        following = (hours["session"] for hours in self._hours if hours["session"] > self._open.session)
        session = next(following, None)
        if session is not None:
            self._add_sessions(pl.DataFrame(list(self._canonical(self._open)), schema=BAR_SCHEMA, orient="row"))
            self._prepared = self._begun(session)

    def update(self, bar: Bar) -> Prediction | None:
        """Add a finished bar and return its prediction; None where a feature of the model has no value.

        Raises:
            InvalidValueError: the bar does not follow the last one, lies outside the contract's hours, is off the tick
                grid, or contradicts itself. The scorer is then as before.
        """
        session, rth = self._checked(bar)
        if self._open is not None and session != self._open.session:
            self.end_session()
            prepared, self._prepared = self._prepared, None
            self._open = prepared if prepared is not None and prepared.session == session else None
        opened = self._append(bar, session, rth=rth)
        self._features = opened.last_features()
        live = self._live
        raw = np.array([[self._features[name] for name in live.model.features]], np.float32)
        if not np.isfinite(raw).all():
            return None
        scores = score_rows(live.model, raw, np.array([bar.close]), live.rules)
        values: dict[str, Any] = {}
        for name, column in scores.items():
            value = column[0].item()
            values[name] = None if value != value else value  # a bound that is NaN does not exist
        return Prediction(
            ts=bar.ts,
            contract=self._market.contract,
            session=session,
            known_at=bar.ts + BAR,
            **values,
            model_version=live.version,
            instrument=live.key.instrument,
            horizon=live.key.horizon,
            target=live.key.target,
        )

    def _checked(self, bar: Bar) -> tuple[date, bool]:
        """Return the session of a valid bar, and whether it lies in regular hours."""
        newest = self._open.rows[-1][0].ts if self._open else None
        if newest is not None and bar.ts <= newest:
            raise InvalidValueError("the bar's ts", bar.ts.isoformat(), f"later than {newest.isoformat()}")
        at = bisect_right(self._opens, bar.ts) - 1
        hours: dict[str, Any] = self._hours[max(at, 0)]
        if self._open is not None and self._prepared is not None and hours["session"] <= self._open.session:
            raise InvalidValueError("the bar's session", str(hours["session"]), "a later one: this one has been ended")
        halted = hours["halt_start"] is not None and hours["halt_start"] <= bar.ts < hours["halt_end"]
        if at < 0 or bar.ts >= hours["close"] or halted:
            raise InvalidValueError("the bar's ts", bar.ts.isoformat(), "within the trading hours of the contract")
        ticks = np.array(bar[1:5]) / self._market.instrument.tick_size
        if not (np.abs(ticks - np.rint(ticks)) <= TICK_TOLERANCE).all():
            raise InvalidValueError("the bar's prices", bar[1:5], "on the tick grid")
        if not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high or bar.volume < 0:
            raise InvalidValueError("the bar", tuple(bar[1:]), "low <= open, close <= high and volume >= 0")
        return hours["session"], hours["rth_open"] is not None and hours["rth_open"] <= bar.ts < hours["rth_close"]

    def _append(self, bar: Bar, session: date, *, rth: bool) -> OpenSession:
        if self._open is None:
            self._open = self._begun(session)
        self._open.append(bar, rth=rth)
        return self._open

    def _begun(self, session: date) -> OpenSession:
        """Return ``session`` without bars, behind the complete ones."""
        before = self._market.predecessor
        if before is not None and not self._in_front and session >= before.first_session:
            self._enter_front()
        return OpenSession(self._market, self._past, session)

    def _canonical(self, opened: OpenSession) -> Iterator[tuple[object, ...]]:
        """Yield the bars of a session as rows of ``BAR_SCHEMA``."""
        for bar, rth in opened.rows:
            values = {**bar._asdict(), "contract": self._market.contract, "session": opened.session, "rth": rth}
            yield tuple(values[name] for name in BAR_SCHEMA)

    def _add_sessions(self, bars: pl.DataFrame) -> None:
        """Add complete sessions to the past; from the first front session on it is the predecessor's."""
        market, before = self._market, self._market.predecessor
        if before is not None and not self._in_front:
            front = bars.filter(pl.col("session") >= before.first_session)
            if not front.is_empty():
                self._enter_front()
                bars = front
        if not bars.is_empty():
            sessions = build_sessions(bars, market.instrument, market.profile)
            keep = self._required.history
            self._past = extend_past(self._past, bars, sessions, market.instrument, keep=keep)

    def _enter_front(self) -> None:
        market = self._market
        assert market.predecessor is not None
        self._past = past_of(market.predecessor, market.contract, market.instrument, self._required)
        self._in_front = True
