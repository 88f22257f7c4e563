"""The pages of the gates: one for each run, and the Data Docs of the newest runs.

A run's page has the verdict of each gate and contract, the failures, and their first timestamps. Data Docs are built
once a run from the stored results, and only the newest are kept. Their pages need no network: scripts, styles and
images come from the site's own folder. The templates of Great Expectations load them from seven remote hosts. Its
index draws the list of runs with one of those scripts, so without a network the list would be empty.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.gate_report import ALL, Verdict, safe_name
from vpoc_ml.lake.atomic import write_text
from vpoc_ml.reports.templating import render

SITE = "data_docs"
DATA_DOCS = f"../../{SITE}"
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


VENDOR = Path(__file__).parent / "static" / "vendor"


def publish_data_docs(reports_dir: Path, *, limit: int = 60) -> Path:
    """Build ``data_docs/`` from the results under ``gx/`` and return its index page.

    Only results without a page are rendered, and only the newest ``limit`` results are kept (JSON and page).
    Publishing therefore costs the same after a year as in the first week. Parallel calls wait for each other: the lock
    is released when its process ends, however it ends.

    Args:
        reports_dir: Folder of all reports.
        limit: Newest validations to keep.
    """
    import great_expectations as gx

    from vpoc_ml.quality import validate  # noqa: F401 - registers the expectation of the results

    site = reports_dir / SITE
    site.mkdir(parents=True, exist_ok=True)
    with (reports_dir / ".docs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prune(reports_dir, limit)
        shutil.copytree(VENDOR, site / "static" / "vendor", dirs_exist_ok=True)
        context = gx.get_context(mode="ephemeral", project_config=_site_config(reports_dir, limit))
        suites = context.stores[context.expectations_store_name].list_keys()
        results = context.stores[context.validation_results_store_name].list_keys()
        pages = site / "validations"
        new = [key for key in results if not pages.joinpath(*key.to_tuple()).with_suffix(".html").exists()]
        context.build_data_docs(resource_identifiers=[*suites, *new])
    return site / "index.html"


def prune(reports_dir: Path, limit: int) -> list[Path]:
    """Delete all but the newest ``limit`` stored results with their pages; return the deleted results.

    The gates page of a run that links to a deleted page says that it has expired.
    """
    results, pages = reports_dir / "gx" / "validations", reports_dir / SITE / "validations"
    # <suite>/<run>/<time>/<batch>.json: the time is sortable text
    stored = sorted(results.glob("*/*/*/*.json"), key=lambda file: (file.parent.name, file), reverse=True)
    expired = stored[limit:]
    for file in expired:
        page = (pages / file.relative_to(results)).with_suffix(".html")
        for path, root in ((file, results), (page, pages)):
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == root or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()
        expire_data_docs(reports_dir, file.parts[-3], page.relative_to(reports_dir / SITE).as_posix())
    return expired


def _site_config(reports_dir: Path, limit: int) -> Any:
    """Return the configuration of Great Expectations: stores under ``gx/``, one site with pages of its own views."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    def folder(path: Path, **options: Any) -> dict[str, Any]:
        path.mkdir(parents=True, exist_ok=True)
        backend = {"class_name": "TupleFilesystemStoreBackend", "suppress_store_backend_id": True}
        return {**backend, "base_directory": str(path.resolve()), **options}

    views = {"module_name": "vpoc_ml.reports.gate_pages"}
    page = {**views, "class_name": "OfflinePageView"}
    defaults = InMemoryStoreBackendDefaults()
    for store, name in (
        (defaults.expectations_store_name, "expectations"),
        (defaults.validation_results_store_name, "validations"),
    ):
        defaults.stores[store]["store_backend"] = folder(reports_dir / "gx" / name, filepath_suffix=".json")
    return DataContextConfig(
        store_backend_defaults=defaults,
        progress_bars=ProgressBarsConfig(globally=False),
        data_docs_sites={
            "gates": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": folder(reports_dir / SITE),
                "site_index_builder": {
                    "class_name": "DefaultSiteIndexBuilder",
                    "validation_results_limit": limit,
                    "view": {**views, "class_name": "OfflineIndexPageView"},
                },
                "site_section_builders": {
                    "expectations": {"view": page},
                    "validations": {"view": page, "validation_results_limit": limit},
                    "profiling": "None",
                },
            }
        },
    )


# file name in the remote address -> file in static/vendor
VENDORED = {
    "bootstrap.min.css": "bootstrap.min.css",
    "bootstrap.min.js": "bootstrap.min.js",
    "bootstrap-table.min.css": "bootstrap-table.min.css",
    "bootstrap-table.min.js": "bootstrap-table.min.js",
    "bootstrap-table-filter-control.css": "bootstrap-table-filter-control.min.css",
    "bootstrap-table-filter-control.min.css": "bootstrap-table-filter-control.min.css",
    "bootstrap-table-filter-control.min.js": "bootstrap-table-filter-control.min.js",
    "bootstrap-datepicker.min.css": "bootstrap-datepicker.min.css",
    "bootstrap-datepicker.min.js": "bootstrap-datepicker.min.js",
    "bootstrap-prefers-dark.css": "bootstrap-prefers-dark.min.css",
    "jquery-3.7.1.min.js": "jquery.min.js",
    "popper.min.js": "popper.min.js",
    "all.min.css": "css/all.min.css",
}
POLICY = (
    "default-src 'none'; script-src 'self' file: 'unsafe-inline'; style-src 'self' file: 'unsafe-inline';"
    " img-src 'self' file: data:; font-src 'self' file: data:"
)

_SCRIPT = re.compile(r"<script\b[^>]*\bsrc=[\"'](?P<url>(?:https?:)?//[^\"']+)[\"'][^>]*>\s*</script>", re.IGNORECASE)
_LINK = re.compile(r"<link\b[^>]*\bhref=[\"'](?P<url>(?:https?:)?//[^\"']+)[\"'][^>]*>", re.IGNORECASE)
_IMAGE = re.compile(r"(?P<head><img\b[^>]*\bsrc=[\"'])(?:https?:)?//[^\"']*/(?P<name>[^\"'/?]+)[^\"']*", re.IGNORECASE)
_STYLE_URL = re.compile(r"url\([\"']?(?:https?:)?//[^)]*/(?P<name>[^)\"'/]+)[\"']?\)", re.IGNORECASE)
_ICON = re.compile(r"(<link rel=\"shortcut icon\" href=\")[^\"]*")
_FOOTER = re.compile(r"<footer\b.*?</footer>", re.IGNORECASE | re.DOTALL)


def offline(html: str, root: str) -> str:
    """Return the page with every remote script, style and image replaced by the site's own, or removed.

    Args:
        html: A page of Data Docs.
        root: Relative path from the page to the site's folder: "" or "../" times its depth.
    """
    vendor, images = f"{root}static/vendor", f"{root}static/images"

    def vendored(tag: str) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            name = VENDORED.get(match["url"].partition("?")[0].rsplit("/", 1)[-1])
            return tag.format(f"{vendor}/{name}") if name else ""

        return replace

    html = _SCRIPT.sub(vendored('<script src="{}"></script>'), html)
    html = _LINK.sub(vendored('<link rel="stylesheet" href="{}">'), html)
    html = _IMAGE.sub(lambda match: f"{match['head']}{images}/{match['name']}", html)
    html = _STYLE_URL.sub(f"url({images}/logo-long.png)", html)
    html = _ICON.sub(rf"\1{images}/favicon.ico", _FOOTER.sub("", html))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return html.replace("<head>", f"<head>\n    {policy}", 1)


class OfflinePageView(DefaultJinjaPageView):  # type: ignore[misc]
    """Page of a suite (``expectations/<suite>.html``) or a result (``validations/<suite>/<run>/<time>/...``)."""

    def render(self, document: Any, template: Any = None, **kwargs: Any) -> str:
        """Return the page's HTML."""
        depth = 4 if document.renderer_type == "ValidationResultsPageRenderer" else 1
        return offline(super().render(document, template, **kwargs), "../" * depth)


class OfflineIndexPageView(DefaultJinjaIndexPageView):  # type: ignore[misc]
    """The index page, at the top of the site."""

    def render(self, document: Any, template: Any = None, **kwargs: Any) -> str:
        """Return the page's HTML."""
        return offline(super().render(document, template, **kwargs), "")
