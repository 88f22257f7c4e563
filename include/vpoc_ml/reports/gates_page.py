"""The page of a run's gates: the verdict of each gate and contract, the failures, and their first timestamps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import ALL, Verdict, safe_name
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.reports.templating import render

DATA_DOCS = "../../data_docs"
"""Relative path from a run's page to the Data Docs."""
EXPIRED = "<small>Data Docs expired; this page has every failure</small>"


def read_verdicts(reports_dir: Path, run: str, gates: Sequence[str]) -> list[Verdict]:
    """Return the verdicts that a run has so far, in the order of ``gates``."""
    folder = reports_dir / "runs" / safe_name(run)
    files = [folder / f"{gate}.json" for gate in gates]
    what = {"what": "the verdict of a gate", "remedy": "Run the gate again."}
    return [Verdict.read(file, **what) for file in files if file.is_file()]


def write_gates_page(reports_dir: Path, run: str, gates: Sequence[str]) -> Path:
    """Write ``runs/<run>/gates.html`` from the verdicts stored so far and return its path.

    Args:
        reports_dir: Folder of all reports.
        run: Name of the run.
        gates: Names of the gates in the order of the page.
    """
    path = reports_dir / "runs" / safe_name(run) / layout.GATES_PAGE
    verdicts = read_verdicts(reports_dir, run, gates)
    contracts = sorted({code for verdict in verdicts for code in verdict.contracts})
    failing_run = any(failure.contract == ALL for verdict in verdicts for failure in verdict.failures)
    page = render(
        "gates.html",
        run=run,
        verdicts=verdicts,
        contracts=[*contracts, *([ALL] if failing_run else [])],
        all=ALL,
        data_docs=DATA_DOCS,
        expired=EXPIRED,
        kept=[v.gate for v in verdicts if (reports_dir / "gx" / v.data_docs).with_suffix(".json").is_file()],
    )
    write_text(path, page)
    return path


def expire_data_docs(reports_dir: Path, run: str, data_docs: str) -> None:
    """Replace the link of a run's page to a deleted page of the Data Docs by a note; without a page do nothing.

    Args:
        reports_dir: Folder of all reports.
        run: Name of the run's folder.
        data_docs: Path of the deleted page below the Data Docs folder.
    """
    path = reports_dir / "runs" / run / layout.GATES_PAGE
    if path.is_file():
        page = path.read_text()
        write_text(path, page.replace(f'<a href="{DATA_DOCS}/{data_docs}">Data Docs</a>', EXPIRED))
