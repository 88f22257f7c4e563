"""What a contract's features read of the contracts that were front before it: from the roll table and the lake.

The features' build key names the roll (``roll``) and the content of the bars they read (``predecessor``), so a rebuilt
predecessor or a moved roll makes its successor stale, and a change elsewhere in the predecessor does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date
from itertools import islice
from typing import Any, NamedTuple

import polars as pl

from vpoc_ml.features.history import HISTORY_SESSIONS, Predecessor, required_history
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

    def to_json(self) -> list[str]:
        """Return what identifies the link without reading its bars."""
        return [str(part) for part in self]


class Slice(NamedTuple):
    """The bars of a link that the features read."""

    link: Link
    bars: pl.DataFrame


class History:
    """The past of one contract. Bars are read only when what is known of them cannot be reused."""

    def __init__(self, run: Run, contract: str, stored: Manifest | None) -> None:
        self._run, self._contract = run, contract
        self._needed = required_history(run.config.features.extras)
        self._wanted = max(HISTORY_SESSIONS, self._needed.history)
        self._rolls = _rolls(run)
        self._known: dict[str, Any] = stored.details.get("history", {}) if stored else {}
        if self._known.get("sessions", HISTORY_SESSIONS) != self._wanted:
            self._known = {}
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

    def details(self, predecessor: Predecessor | None) -> dict[str, Any]:
        """Return the details of the features' manifest: sessions of history, predecessors, first session."""
        spliced = predecessor is not None
        return {
            "history_sessions": min(predecessor.session_count, self._wanted) if predecessor else 0,
            "predecessors": [one.link.contract for one in self.slices] if spliced else [],
            "spliced_from": predecessor.first_session.isoformat() if predecessor else None,
            "history": {
                "links": [one.link.to_json() for one in self.slices],
                "complete": self._complete(),
                "sessions": self._wanted,
            },
        }

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

    def _complete(self) -> bool:
        return sum(one.bars["session"].n_unique() for one in self.slices) == self._wanted

    def _content(self) -> str:
        """Return contract and content hash of each slice; the stored answer while all it was made of is the same."""
        known = self._known.get("links")
        if self._stored is not None and known is not None:
            reach = len(known) if self._known["complete"] else None
            if [link.to_json() for link in islice(self._links(), reach)] == known:
                return self._stored
        return ", ".join(_named(one) for one in self.slices) or NONE

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


def _named(one: Slice) -> str:
    text = f"{one.link.ratio!r}/{one.link.successor_from}/{hash_frame(one.bars.drop('contract'))}"
    return f"{one.link.contract} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _rolls(run: Run) -> dict[str, dict[str, Any]]:
    """Return the rows of the roll table by contract; none before the first one was built."""
    key = run.roll_key()
    if run.lake.manifest(key) is None:
        return {}
    return {row["contract"]: row for row in run.lake.read_cached(key).iter_rows(named=True)}
