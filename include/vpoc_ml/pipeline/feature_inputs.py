"""What a contract's features read besides its own bars: the contracts that were front before it, and a second market.

``History`` follows the roll table back to the predecessors' last front sessions. The features' build key names the
roll (``roll``) and the content of the bars they read (``predecessor``), so a rebuilt predecessor or a moved roll makes
its successor stale, and a change elsewhere in the predecessor does not.

``pair_closes`` are the front closes of the other instrument of family cointegration, out of the same lake (``pair``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import polars as pl

from vpoc_ml.artifacts.manifest_details import FeaturesDetails, FeaturesHistory
from vpoc_ml.errors import ArtifactError
from vpoc_ml.features.extras.cointegration import continuous_closes
from vpoc_ml.features.history import HISTORY_SESSIONS, Predecessor, required_history
from vpoc_ml.features.registry import families_of
from vpoc_ml.lake.hashing import hash_frame
from vpoc_ml.lake.store import Manifest
from vpoc_ml.pipeline.run import Run
from vpoc_ml.profile.sessions import build_sessions

COLUMNS = ("ts", "contract", "session", "rth", "open", "high", "low", "close", "volume")
NONE = "none"


class Link(NamedTuple):
    """One predecessor in the chain of rolls, nearest first: its front period, and the step to its successor."""

    contract: str
    first: date
    last: date
    ratio: float
    successor_from: date
    bars: str

    @property
    def identity(self) -> tuple[str, ...]:
        """What identifies the link without reading its bars."""
        return tuple(str(part) for part in self)


class Slice(NamedTuple):
    """The bars of a link that the features read."""

    link: Link
    bars: pl.DataFrame


class History:
    """The past of one contract. Bars are read only when what is known of them cannot be reused."""

    def __init__(self, run: Run, contract: str, stored: Manifest | None) -> None:
        self._run, self._contract = run, contract
        self._needed = required_history(families_of(run.config.features))
        self._wanted = max(HISTORY_SESSIONS, self._needed.history)
        built = run.lake.manifest(run.roll_key()) is not None
        rows = run.lake.read_cached(run.roll_key()).iter_rows(named=True) if built else ()
        self._rolls: dict[str, dict[str, Any]] = {row["contract"]: row for row in rows}
        details = stored.details_as(FeaturesDetails) if stored else None
        self._known = details.history if details and details.history.sessions == self._wanted else None
        self._stored = stored.inputs.get("predecessor") if stored else None
        self._slices: list[Slice] | None = None

    def inputs(self) -> dict[str, str]:
        """Return the build key's inputs ``roll`` and ``predecessor``."""
        row = self._rolls.get(self._contract)
        if row is None:
            return {"roll": "not front", "predecessor": NONE}
        roll = f"{row['first_session']}/{row['predecessor']}/{row['ratio']!r}"
        return {"roll": roll, "predecessor": self._content()}

    def predecessor(self) -> Predecessor | None:
        """Return the predecessor; None without one, or where it and those before it are shorter than the warm-up."""
        found: Predecessor | None = None
        for one in reversed(self.slices):
            sessions = build_sessions(one.bars, self._run.instrument, self._run.config.profile)
            found = Predecessor(one.bars, sessions, one.link.ratio, one.link.successor_from, found)
        return found if found is not None and found.covers(self._needed) else None

    def details(self, predecessor: Predecessor | None) -> FeaturesDetails:
        """Return the details of the features' manifest."""
        read = sum(one.bars["session"].n_unique() for one in self.slices)
        return FeaturesDetails(
            history_sessions=min(predecessor.session_count, self._wanted) if predecessor else 0,
            predecessors=tuple(one.link.contract for one in self.slices) if predecessor else (),
            spliced_from=predecessor.first_session.isoformat() if predecessor else None,
            history=FeaturesHistory(
                links=tuple(one.link.identity for one in self.slices),
                complete=read == self._wanted,
                sessions=self._wanted,
            ),
        )

    @property
    def slices(self) -> list[Slice]:
        """The last front sessions of the predecessors, nearest first: 30 together, or what the chosen families read."""
        if self._slices is None:
            self._slices = list(self._read())
        return self._slices

    def _read(self) -> Iterator[Slice]:
        """Yield the slices, up to the first that holds a price at or below 0."""
        wanted = self._wanted
        for link in self._links():
            bars = self._run.lake.read_frame(self._run.key("bars", link.contract), COLUMNS)
            bars = bars.filter(pl.col("session").is_between(link.first, link.last))
            recent = bars["session"].unique().sort().tail(wanted)
            if recent.is_empty():
                return
            read = bars.filter(pl.col("session") >= recent[0])
            if (read["low"] <= 0).any():  # a ratio cannot adjust such prices
                return
            yield Slice(link, read)
            wanted -= recent.len()
            if wanted == 0:
                return

    def _content(self) -> str:
        """Return contract and content hash of each slice; the stored answer while all it was made of is the same."""
        known = self._known
        if self._stored is not None and known is not None:
            most = len(known.links) if known.complete else None
            if tuple(link.identity for link in islice(self._links(), most)) == known.links:
                return self._stored
        named = []
        for link, bars in self.slices:
            text = f"{link.ratio!r}/{link.successor_from}/{hash_frame(bars.drop('contract'))}"
            named.append(f"{link.contract} {hashlib.sha256(text.encode()).hexdigest()[:16]}")
        return ", ".join(named) or NONE

    def _links(self) -> Iterator[Link]:
        """Follow the rolls back while they could be measured and the bars are in the lake."""
        row = self._rolls.get(self._contract)
        while row is not None and row["predecessor"] is not None and row["ratio"] is not None:
            before = self._rolls.get(row["predecessor"])
            bars = self._run.lake.manifest(self._run.key("bars", row["predecessor"]))
            if before is None or bars is None:
                return
            period = before["first_session"], before["last_session"]
            yield Link(before["contract"], *period, row["ratio"], row["first_session"], bars.sha256)
            row = before


BEFORE = timedelta(days=60)
"""Covers the 30 sessions of history before a contract's first bar."""
LATE = timedelta(days=1)


class Segment(NamedTuple):
    """A front period of the other instrument, the ratio of the roll into it (None in the first), its bars' hash."""

    contract: str
    first: date
    last: date
    ratio: float | None
    bars: str


def pair_inputs(run: Run, bars: Manifest) -> dict[str, str]:
    """Return the build key's input ``pair``, which identifies the other closes; nothing if no family reads them.

    Raises:
        ArtifactError: the lake lacks the other instrument's bars or rolls for the time of ``bars``.
    """
    if "cointegration" not in run.config.features.extras:
        return {}
    content = json.dumps([[str(part) for part in one] for one in _segments(run, bars)])
    return {"pair": f"{run.config.features.pair} {hashlib.sha256(content.encode()).hexdigest()[:16]}"}


def pair_closes(run: Run, bars: Manifest) -> pl.DataFrame | None:
    """Return ``ts, close`` of the other instrument around the time of ``bars``; None where no family reads it.

    Raises:
        ArtifactError: as ``pair_inputs``, or the other bars begin more than a day after these, or end as much before.
    """
    if "cointegration" not in run.config.features.extras:
        return None
    parts = []
    for one in _segments(run, bars):
        key = run.key("bars", one.contract, run.config.features.pair)
        front = run.lake.read_frame(key, ("ts", "session", "close"))
        front = front.filter(pl.col("session").is_between(one.first, one.last))
        parts.append((front.select("ts", "close"), one.ratio or 1.0))
    closes = continuous_closes(parts)
    first, last = (datetime.fromisoformat(str(timestamp)) for timestamp in (bars.first_ts, bars.last_ts))
    oldest, newest = closes["ts"].min(), closes["ts"].max()
    if not isinstance(oldest, datetime) or oldest > first + LATE:
        raise _missing(run, f"bars from {first.isoformat()} on", str(oldest))
    if not isinstance(newest, datetime) or newest < last - LATE:
        raise _missing(run, f"bars up to {last.isoformat()}", str(newest))
    return closes


def _segments(run: Run, bars: Manifest) -> list[Segment]:
    start, end = (datetime.fromisoformat(str(timestamp)).date() for timestamp in (bars.first_ts, bars.last_ts))
    start, end = start - BEFORE, end + LATE
    roll_key = run.roll_key(run.config.features.pair)
    if run.lake.manifest(roll_key) is None:
        raise _missing(run, "a roll table", "none")
    found: list[Segment] = []
    for row in run.lake.read_cached(roll_key).sort("first_session").iter_rows(named=True):
        if row["last_session"] < start or row["first_session"] > end:
            continue
        manifest = run.lake.manifest(run.key("bars", row["contract"], run.config.features.pair))
        if manifest is None or (found and row["ratio"] is None):
            raise _missing(run, "bars of every front contract and a measured ratio at every roll", row["contract"])
        ratio = row["ratio"] if found else None
        found.append(Segment(row["contract"], row["first_session"], row["last_session"], ratio, manifest.sha256))
    if not found:
        raise _missing(run, f"front contracts from {start} to {end}", "none")
    return found


def _missing(run: Run, expected: str, found: str) -> ArtifactError:
    symbol = run.config.features.pair
    return ArtifactError(f"{symbol}, the pair of family cointegration", f"{expected}: run {symbol} first", found)
