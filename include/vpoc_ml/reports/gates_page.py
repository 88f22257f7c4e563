"""The page of a run's gates: verdict per gate and contract, what failed, since when. One file, no network."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from vpoc_ml.artifacts.gate_report import Verdict, from_json, safe_name
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.quality.checks import ALL

DOCS = "../../data_docs"
"""The Data Docs as seen from a run's page."""
EXPIRED = "<small>Data Docs expired; this page has every failure</small>"
GATES = ("bars", "features", "leakage", "training-set")


def verdicts(reports_dir: Path, run: str) -> list[Verdict]:
    """Return the verdicts a run has so far, in the order of the gates."""
    files = sorted((reports_dir / "runs" / safe_name(run)).glob("*.json"), key=lambda file: _rank(file.stem))
    return [from_json(json.loads(file.read_text())) for file in files if file.stem in GATES]


def write(reports_dir: Path, run: str) -> Path:
    """Write ``runs/<run>/gates.html`` from the verdicts stored so far and return its path."""
    path = reports_dir / "runs" / safe_name(run) / "gates.html"
    found = verdicts(reports_dir, run)
    contracts = sorted({code for verdict in found for code in verdict.contracts})
    failing_run = any(failure.contract == ALL for verdict in found for failure in verdict.failures)
    page = (
        _environment()
        .get_template("gates.html")
        .render(
            run=run,
            verdicts=found,
            contracts=[*contracts, *([ALL] if failing_run else [])],
            all=ALL,
            docs=DOCS,
            expired=EXPIRED,
            kept=[v.gate for v in found if (reports_dir / "gx" / v.data_docs).with_suffix(".json").is_file()],
        )
    )
    write_text(path, page)
    return path


def expire(reports_dir: Path, run: str, data_docs: str) -> None:
    """Replace the link of a run's page to a validation that is no longer kept by words; without a page do nothing.

    Args:
        reports_dir: Folder of all reports.
        run: Name of the run's folder.
        data_docs: Path of the validation's page below the Data Docs folder.
    """
    path = reports_dir / "runs" / run / "gates.html"
    if path.is_file():
        page = path.read_text()
        write_text(path, page.replace(f'<a href="{DOCS}/{data_docs}">Data Docs</a>', EXPIRED))


def _rank(gate: str) -> tuple[int, str]:
    return (GATES.index(gate) if gate in GATES else len(GATES)), gate


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("vpoc_ml.quality", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
