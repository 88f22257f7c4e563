"""The verdict of a gate: what failed, how badly, and since when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vpoc_ml.quality.checks import ALL, YOUNG, Measurement, Severity

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """One check that failed in one contract, at the worst severity that failed.

    ``first`` holds ISO timestamps; ``values`` what stood there, as text (NaN and Inf are not JSON).
    """

    contract: str
    column: str
    check: str
    severity: Severity
    count: int
    rows: int
    share: float
    first: tuple[str, ...]
    values: tuple[str, ...]
    expected: str
    note: str = ""
    unit: str = "rows"

    def line(self) -> str:
        """Return the failure as one line of a message."""
        where = " ".join(name for name in (self.contract, self.column) if name != ALL) or "whole run"
        note = f" ({self.note})" if self.note else ""
        since = f", first {', '.join(self.first)}" if self.first else ""
        found = describe(self.count, self.rows, self.unit)
        return f"{where}: [{self.severity.upper()}] {self.expected} - {found}{note}{since}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one gate; only critical failures make it fail.

    ``checks`` counts the questions answered, over all contracts; ``data_docs`` is the page's path below the
    Data Docs folder.
    """

    gate: str
    run: str
    contracts: tuple[str, ...]
    checks: int
    failures: tuple[Failure, ...]
    report: str
    data_docs: str = ""

    @property
    def passed(self) -> bool:
        """True unless something critical failed; a gate that asked nothing has not passed."""
        return self.checks > 0 and not self.count("critical")

    def count(self, severity: Severity, contract: str | None = None) -> int:
        """Return the number of failures of a severity, of one contract or of all."""
        return sum(f.severity == severity and contract in (None, f.contract) for f in self.failures)

    def is_young(self, contract: str) -> bool:
        """Return whether a contract has traded too little for some of the checks."""
        return any(f.check == YOUNG and f.contract == contract for f in self.failures)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as strict JSON values."""
        return {
            "gate": self.gate,
            "run": self.run,
            "passed": self.passed,
            "critical": self.count("critical"),
            "warning": self.count("warning"),
            "info": self.count("info"),
            "checks": self.checks,
            "contracts": list(self.contracts),
            "failures": [asdict(f) | {"first": list(f.first), "values": list(f.values)} for f in self.failures],
            "report": self.report,
            "data_docs": self.data_docs,
        }

    def message(self) -> str:
        """Return what a person needs: gate, counts, the worst failures with first timestamps, the report."""
        outcome = "passed" if self.passed else "FAILED"
        head = (
            f"Gate {self.gate} {outcome} for {_listed(self.contracts)}: {self.count('critical')} critical,"
            f" {self.count('warning')} warning of {self.checks} checks"
        )
        shown = [f for f in self.failures if f.severity != "info"]
        lines = [f"  {f.line()}" for f in shown[:SHOWN]]
        if len(shown) > SHOWN:
            lines.append(f"  and {len(shown) - SHOWN} more")
        return "\n".join([head, *lines, f"Report: {self.report}"])


def from_json(value: dict[str, Any]) -> Verdict:
    """Return the verdict that ``Verdict.to_json`` gave."""
    failures = tuple(
        Failure(**{**f, "first": tuple(f["first"]), "values": tuple(f["values"])}) for f in value["failures"]
    )
    names = ("gate", "run", "checks", "report", "data_docs")
    return Verdict(**{name: value[name] for name in names}, contracts=tuple(value["contracts"]), failures=failures)


def safe_name(run: str) -> str:
    """Return ``run`` as a name for folders and Data Docs.

    Colons break paths and links, and the default site filter drops runs whose name says "profiling".
    """
    return re.sub(r"[^A-Za-z0-9._+=-]", "-", run).replace("profiling", "profil-ing")


def describe(count: int, rows: int, unit: str = "rows") -> str:
    """Return ``3 of 95,000 rows (0.0032%)``."""
    share = count / rows if rows else float(count > 0)
    return f"{count:,} of {rows:,} {unit} ({share:.4%})"


def first_text(measurement: Measurement) -> str:
    """Return the first failing timestamps with their values, or nothing."""
    if not measurement.first:
        return ""
    values = [*(f" = {value:g}" for value in measurement.values if value == value), *([""] * len(measurement.first))]
    return "first " + ", ".join(
        f"{stamp.isoformat()}{value}" for stamp, value in zip(measurement.first, values, strict=False)
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
