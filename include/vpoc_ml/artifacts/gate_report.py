"""The verdict of a gate: which checks failed, how badly, and where first. Stored as ``<gate>.json`` of a run."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import computed_field

from vpoc_ml.artifacts.json_artifact import JsonArtifact

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")

ALL = "*"
"""As a column: the file as a whole. As a contract: the run as a whole."""

YOUNG = "young"
"""Name of the check that remarks on a contract with too little trading for some of the other checks."""

SHOWN, CAUSES = 10, 3
"""Failures and causes that a message lists."""


class Failure(JsonArtifact):
    """One check that failed in one contract, at the worst severity that failed.

    ``count`` of ``rows`` rows (or other ``unit``) are defective. ``first`` holds the ISO timestamps (start of bar,
    UTC) or sessions of the first ones, ``values`` their values as text, because NaN and Inf are not JSON.
    """

    contract: str
    column: str
    check: str
    severity: Severity
    count: int = 0
    rows: int = 0
    share: float
    first: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
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


class Cause(JsonArtifact):
    """A bar that explains failed checks of a contract.

    Attributes:
        contract: code.
        ts: start of the bar, ISO, UTC.
        critical, warning: number of failed checks that it explains.
        checks: (column, check) of each.
        source: file, line and text of the bar in the delivered files; empty where they were not read.
    """

    contract: str
    ts: str
    critical: int
    warning: int
    checks: tuple[tuple[str, str], ...]
    source: tuple[str, ...] = ()

    @property
    def explained(self) -> str:
        """How many failures the bar explains."""
        parts = [
            f"{self.critical} critical" if self.critical else "",
            f"{self.warning} warning" if self.warning else "",
        ]
        return f"{' and '.join(filter(None, parts))} failure{'s' if self.critical + self.warning > 1 else ''}"

    def line(self) -> str:
        """Return the cause as one line of a message."""
        source = f" ({'; '.join(self.source)})" if self.source else ""
        return f"the bar {self.ts} of {self.contract} explains {self.explained}{source}"


class Verdict(JsonArtifact):
    """The result of one gate. Only critical failures make a gate fail.

    ``checks`` counts the checks made, over all contracts. ``report`` is the path or URI of the run's gates page,
    ``data_docs`` the path of the gate's page below the Data Docs folder. ``changed_thresholds`` are those that the
    configuration changes, each with its usual value. ``causes`` are bars that explain failures, the worst first.
    ``own_texts`` has meaning and action of each check of a plugin, by name.
    """

    gate: str
    run: str
    contracts: tuple[str, ...]
    checks: int
    failures: tuple[Failure, ...]
    report: str
    data_docs: str = ""
    changed_thresholds: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    own_texts: dict[str, tuple[str, str]] | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether nothing critical failed; a gate without any check has not passed."""
        return self.checks > 0 and not self.critical

    @computed_field  # type: ignore[prop-decorator]
    @property
    def critical(self) -> int:
        """Number of critical failures."""
        return self.count("critical")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def warning(self) -> int:
        """Number of warnings."""
        return self.count("warning")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def info(self) -> int:
        """Number of remarks."""
        return self.count("info")

    def count(self, severity: Severity, contract: str | None = None) -> int:
        """Return the number of failures of a severity, of one contract or of all."""
        return sum(f.severity == severity and contract in (None, f.contract) for f in self.failures)

    def is_young(self, contract: str) -> bool:
        """Return whether a contract has traded too little for some of the checks."""
        return any(f.check == YOUNG and f.contract == contract for f in self.failures)

    def message(self) -> str:
        """Return the text for a person: gate, counts, the worst failures with their first timestamps, the report."""
        result = "passed" if self.passed else "FAILED"
        names = ", ".join(self.contracts[:4])
        names += f" and {len(self.contracts) - 4} more" if len(self.contracts) > 4 else ""
        head = (
            f"Gate {self.gate} {result} for {names}: {self.critical} critical, {self.warning} warning"
            f" of {self.checks} checks"
        )
        causes = [f"  Root cause: {cause.line()}" for cause in self.causes[:CAUSES]]
        shown = [f for f in self.failures if f.severity != "info"]
        lines = [f"  {f.line()}" for f in shown[:SHOWN]]
        if len(shown) > SHOWN:
            lines.append(f"  and {len(shown) - SHOWN} more")
        changed = [f"Changed thresholds: {', '.join(self.changed_thresholds)}"] if self.changed_thresholds else []
        return "\n".join([head, *causes, *lines, *changed, f"Report: {self.report}"])


def safe_name(run: str) -> str:
    """Return ``run`` as a name for folders and Data Docs.

    Colons break paths and links, and Great Expectations' default site filter drops runs whose name contains
    "profiling".
    """
    return re.sub(r"[^A-Za-z0-9._+=-]", "-", run).replace("profiling", "profil-ing")


def describe(count: int, rows: int, unit: str = "rows") -> str:
    """Return ``3 of 95,000 rows (0.0032%)``."""
    share = count / rows if rows else float(count > 0)
    return f"{count:,} of {rows:,} {unit} ({share:.4%})"
