"""The vocabulary of the gates: measurements, limits, checks, shared checks, and the facts that gate ``bars`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import polars as pl

from vpoc_ml.artifacts.gate_report import ALL, SEVERITIES, Severity

KEPT = 5_000
"""Defective rows of a check and contract that a gate keeps; it counts all of them."""
Quote = Callable[[str, Sequence[datetime]], Sequence[str]]
"""(contract, timestamps) -> file, line and text of those bars."""

RowsOf = Callable[[str, str, str], pl.DataFrame | None]
"""(contract, column, check) -> its first ``KEPT`` defective rows (ts, value); None: it names no rows."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """How many of ``rows`` rows (or other ``unit``) have one kind of defect.

    ``first`` holds the timestamps (start of bar, UTC) or sessions of the first defects, ``values`` their values.
    ``found`` has the first ``KEPT`` defects, columns ts or session, and value; None: no more than ``first`` is known.
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
    found: pl.DataFrame | None = field(default=None, compare=False, repr=False)

    @property
    def share(self) -> float:
        """Share of defective rows; 1 when a defect was counted although there are no rows."""
        return self.count / self.rows if self.rows else float(self.count > 0)

    def reported(self) -> dict[str, object]:
        """Return the fields of a failure (``gate_report.Failure``) that the measurement fills."""
        return {
            "count": self.count,
            "rows": self.rows,
            "share": self.share,
            "first": tuple(when.isoformat() for when in self.first),
            "values": tuple(f"{value:g}" for value in self.values),
            "note": self.note,
            "unit": self.unit,
        }


@dataclass(frozen=True, slots=True)
class Limit:
    """Breached by more than ``count`` defects, or by more than ``share`` of the rows. None: no such limit."""

    count: int | None = None
    share: float | None = None

    def breached(self, count: int, share: float) -> bool:
        """Return whether a measurement exceeds the limit."""
        too_many = self.count is not None and count > self.count
        return too_many or (self.share is not None and not share <= self.share)

    @property
    def text(self) -> str:
        """The limit in parentheses, as Data Docs show it; nothing where no defect is allowed."""
        sides = [f"{self.count:,} rows" if self.count else "", f"{self.share:.2%}" if self.share else ""]
        allowed = " or ".join(filter(None, sides))
        return f" (up to {allowed})" if allowed else ""


NONE = Limit(count=0)
"""No defect is allowed."""
NOT_MEASURED = "not counted"
"""Note of a check that no measurement answers."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One severity level of a check, validated as one expectation of Great Expectations."""

    column: str
    check: str
    severity: Severity
    expected: str
    limit: Limit
    contracts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A named check of one column, with one limit per severity.

    ``expected`` completes the sentence "expected ..."; reports and Data Docs show it. A check with ``whole_run`` is
    made once a run, of the measurement whose contract is ``*``. Other checks are made once per contract.
    """

    name: str
    column: str
    expected: str
    error_if: Limit | None = NONE
    warn_if: Limit | None = None
    info_if: Limit | None = None
    whole_run: bool = False

    def scope(self, contracts: Sequence[str]) -> tuple[str, ...]:
        """Return the contracts of the measurements that the check needs."""
        return (ALL,) if self.whole_run else tuple(contracts)

    def rules(self, contracts: Sequence[str]) -> Iterator[Rule]:
        """Yield one rule per severity that has a limit, worst first."""
        for severity, limit in zip(SEVERITIES, (self.error_if, self.warn_if, self.info_if), strict=True):
            if limit is not None:
                yield Rule(self.column, self.name, severity, self.expected, limit, self.scope(contracts))


@dataclass(frozen=True, slots=True)
class GateInput:
    """What a gate validates, and what it keeps.

    Attributes:
        gate: name.
        contracts: codes.
        checks: checks to make.
        measurements: what was measured.
        profiles: column profiles to keep.
        changed_thresholds: thresholds that the configuration changes.
        bars: file of the bars by contract, whose bars around defective rows are kept.
        rows: returns the defective rows of a failed check that measured none; None: there are no such checks.
        quote: source lines of a contract's bars.
        own_texts: meaning and action of each check of a plugin, by name.
    """

    gate: str
    contracts: tuple[str, ...]
    checks: Sequence[Check]
    measurements: Sequence[Measurement]
    profiles: Sequence[pl.DataFrame] = ()
    changed_thresholds: tuple[str, ...] = ()
    bars: Mapping[str, Path] = field(default_factory=dict)
    rows: RowsOf | None = None
    quote: Quote | None = None
    own_texts: dict[str, tuple[str, str]] | None = None


FILE_CHECKS = (
    Check("readable", ALL, "a Parquet file that can be read"),
    Check("schema", ALL, "exactly the declared columns in their order"),
    Check("rows", ALL, "at least one row"),
)


def schema_check(name: str, dtype: pl.DataType) -> Check:
    """Return the check that a column exists with its dtype."""
    return Check("schema", name, f"a column of type {dtype}")


NEVER = (date.max, date.min)
"""The front period of a contract that never was the front one."""


@dataclass(frozen=True, slots=True)
class ContractFacts:
    """A contract's file of bars and what is known of the contract.

    Args:
        path: Parquet file of the bars.
        calendar: Sessions around the bars, as ``market.exchange_calendar.sessions`` gives them.
        quarantined: Rows of the delivery that went to quarantine.
        front: First and last session as the front contract, whose coverage of the calendar is checked; ``NEVER`` if it
            never was. None: not known, all sessions are checked.
        due: Session that the bars must include. None: they may end anywhere.
    """

    path: Path
    calendar: pl.DataFrame
    quarantined: int = 0
    front: tuple[date, date] | None = None
    due: date | None = None


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """What is known of the market that the contracts belong to.

    Args:
        tick_size: Smallest price step in points.
        price_range: Lowest and highest price in points that the instrument can plausibly have. None: any.
        negative_prices: Whether a price at or below 0 is possible.
        equity_index: Whether the instrument is an equity index, whose neighbouring contracts cost about the same.
        has_vix: Whether the bars have the VIX.
        vix_implied: Whether the VIX measures the instrument's volatility.
        vix_closes: date, close, available_at (UTC) of the VIX file that the bars were joined with. None: not known.
        covariates: Columns of further indices, after the VIX.
    """

    tick_size: float
    price_range: tuple[float, float] | None = None
    negative_prices: bool = False
    equity_index: bool = False
    has_vix: bool = True
    vix_implied: bool = False
    vix_closes: pl.DataFrame | None = None
    covariates: tuple[str, ...] = ()
