"""What a gate asks: tallies (what was counted) and checks (how much of it is allowed)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")

ALL = "*"
"""Stands for "the whole file" as a column and for "every contract of the run" as a contract."""

YOUNG = "young"
"""The check that remarks on a contract with too little trading for some of the others."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """How many of ``rows`` rows (or other ``unit``) show one kind of defect.

    ``first`` holds the first failing timestamps (start of bar, UTC) or sessions, ``values`` what stood there.
    """

    contract: str
    column: str
    check: str
    count: int
    rows: int
    first: tuple[datetime | date, ...] = ()
    values: tuple[float, ...] = ()
    note: str = ""
    unit: str = "rows"

    @property
    def share(self) -> float:
        """Share of defective rows; 1 when something is counted in no rows at all."""
        return self.count / self.rows if self.rows else float(self.count > 0)


@dataclass(frozen=True, slots=True)
class Limit:
    """Breached by more than ``count`` defects or by more than ``share`` of the rows; None leaves a side open."""

    count: int | None = None
    share: float | None = None

    def breached(self, count: int, share: float) -> bool:
        """Tell whether the tally exceeds the limit."""
        too_many = self.count is not None and count > self.count
        return too_many or (self.share is not None and not share <= self.share)


NONE = Limit(count=0)
"""Not a single defect."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One severity level of a check: what Great Expectations judges as one expectation."""

    column: str
    check: str
    severity: Severity
    expected: str
    limit: Limit
    whole_run: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A named question about one column, with a limit per severity.

    ``expected`` completes the sentence "expected ..."; it is what reports and Data Docs show. ``whole_run``
    questions are asked once a run, of the tally whose contract is ``*``, instead of once a contract.
    """

    name: str
    column: str
    expected: str
    error_if: Limit | None = NONE
    warn_if: Limit | None = None
    info_if: Limit | None = None
    whole_run: bool = False

    def scope(self, contracts: Sequence[str]) -> tuple[str, ...]:
        """Return whom the question is put to."""
        return (ALL,) if self.whole_run else tuple(contracts)

    def rules(self) -> Iterator[Rule]:
        """Yield one rule per severity that has a limit, worst first."""
        for severity, limit in zip(SEVERITIES, (self.error_if, self.warn_if, self.info_if), strict=True):
            if limit is not None:
                yield Rule(self.column, self.name, severity, self.expected, limit, self.whole_run)
