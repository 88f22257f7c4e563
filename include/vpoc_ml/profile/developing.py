"""Developing levels: VPOC and value area after every bar, as a decision at its close may know them.

``ProfileState`` carries them from one chunk of bars to the next. It holds the profile of the open session and nothing
else, because VPOC and value area follow from the profile.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from vpoc_ml.artifacts.schemas import FEATURE_KEYS, LEVELS
from vpoc_ml.config import ProfileConfig
from vpoc_ml.errors import ArtifactError
from vpoc_ml.lake.atomic import write_bytes
from vpoc_ml.market.instruments import Instrument
from vpoc_ml.profile.kernels import Ints, TickBars, extend_levels
from vpoc_ml.profile.tick_bars import Anchor, profile_rule, select_anchor, tick_bars

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class ProfileState:
    """The profile of one session up to and including the bar that starts at ``ts``.

    ``units`` holds the volume in 1/720720 contract on each tick from the session's low to its high; ``low`` is that
    low in ticks. ``spread`` is the setting the profile was built with.
    """

    contract: str
    session: date
    ts: datetime
    spread: str
    low: int
    units: Ints

    def save(self, path: Path) -> None:
        """Write the state to ``path`` as npz, atomically."""
        content = io.BytesIO()
        np.savez(
            content,
            names=np.array([self.contract, self.session.isoformat(), self.spread]),
            numbers=np.array([(self.ts - _EPOCH) // timedelta(microseconds=1), self.low], np.int64),
            units=self.units,
        )
        write_bytes(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> ProfileState:
        """Read a state that ``save`` wrote.

        Raises:
            ArtifactError: the file is missing or is not such a state.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                contract, session, spread = stored["names"].tolist()
                microseconds, low = stored["numbers"].tolist()
                ts = _EPOCH + timedelta(microseconds=microseconds)
                return cls(contract, date.fromisoformat(session), ts, spread, low, stored["units"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ArtifactError(path, "a saved profile state", f"{type(error).__name__}: {error}") from error

    def require_continuation(self, bars: pl.DataFrame, spread: str) -> None:
        """Check that ``bars``, at least one, continue the bars this state was built from.

        Raises:
            ArtifactError: another contract or spread, or a first bar that is not later.
        """
        contract, ts, session = bars.select("contract", "ts", "session").row(0)
        if (contract, spread) != (self.contract, self.spread):
            raise ArtifactError("profile state", f"{contract} with spread {spread}", f"{self.contract}, {self.spread}")
        if ts <= self.ts or session < self.session:
            raise ArtifactError("bars", f"the bars after {self.ts.isoformat()}", f"a first bar at {ts.isoformat()}")


def build_developing(
    bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, anchor: Anchor = "session"
) -> pl.DataFrame:
    """Return VPOC, VAH and VAL of the session so far, including the bar itself, one row per bar.

    Args:
        bars: canonical bars of one contract, sorted by ``ts``.
        instrument: gives the tick size.
        config: share and rule of the value area, and the spread.
        anchor: the bars that count. Levels are null before the first such bar of a session and constant after the
            last.

    Returns:
        ``ts, contract, session, vpoc, vah, val``; levels in points, null until the session has traded volume.
        The last row of a session equals its row of ``build_sessions``.

    Raises:
        ArtifactError: as ``tick_bars``.
    """
    levels, _ = extend_developing(select_anchor(bars, anchor), instrument, config)
    if anchor == "session":
        return levels
    joined = bars.select(*FEATURE_KEYS).join(levels.select("ts", *LEVELS), on="ts", how="left", maintain_order="left")
    return joined.with_columns(pl.col(LEVELS).forward_fill().over("session"))


def extend_developing(
    bars: pl.DataFrame, instrument: Instrument, config: ProfileConfig, state: ProfileState | None = None
) -> tuple[pl.DataFrame, ProfileState | None]:
    """Return the levels at ``bars``, which continue the bars of ``state``, and the state after them.

    The levels are bit-identical to those of one call with all bars, however the bars are split into calls and whether
    or not the state was saved and loaded in between.

    Raises:
        ArtifactError: as ``build_developing`` and ``ProfileState.require_continuation``.
    """
    keys = bars.select(*FEATURE_KEYS)
    if bars.is_empty():
        return keys.with_columns(pl.lit(None, pl.Float64).alias(name) for name in LEVELS), state
    if state is not None:
        state.require_continuation(bars, config.spread)
    same_session = state if state is not None and state.session == bars["session"][0] else None
    levels, low, units = _extend(tick_bars(bars, instrument), config, same_session)
    contract, session, ts = bars.select("contract", "session", "ts").row(-1)
    before = int(same_session is not None and same_session.units.sum() > 0)
    first_session = pl.col("session") == pl.col("session").first()
    traded = pl.col("volume").cum_sum().over("session") + pl.when(first_session).then(before).otherwise(0) > 0
    known = bars.select(traded).to_series()
    frame = keys.with_columns(
        pl.Series(name, levels[:, at] * instrument.tick_size).set(~known, None) for at, name in enumerate(LEVELS)
    )
    return frame, ProfileState(contract, session, ts, config.spread, low, units)


def _extend(ticks: TickBars, config: ProfileConfig, carried: ProfileState | None) -> tuple[Ints, int, Ints]:
    """Return the levels at every bar, and the low and the profile of the last session."""
    low, high = int(ticks.low.min()), int(ticks.high.max())
    begin = int(ticks.starts[-2])
    bottom, top = int(ticks.low[begin:].min()), int(ticks.high[begin:].max())
    first, last = (carried.low, carried.low + carried.units.size - 1) if carried else (low, low - 1)
    if carried and begin == 0:
        bottom, top = min(bottom, first), max(top, last)
    base = min(low, first) - 1  # one empty row at either end
    profile = np.zeros(max(high, last) - base + 2, np.int64)
    if carried:
        profile[first - base : last - base + 1] = carried.units
    levels = extend_levels(ticks, profile_rule(config), base, profile, first - base, last - base)
    return levels, bottom, profile[bottom - base : top - base + 1].copy()
