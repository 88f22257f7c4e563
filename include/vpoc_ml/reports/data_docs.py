"""Publish the Data Docs: build them once a run from the stored results, keep the newest, work without a network."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vpoc_ml.reports import gates_page

SITE = "data_docs"
VENDOR = Path(__file__).parent / "static" / "vendor"


def publish(reports_dir: Path, *, limit: int = 60) -> Path:
    """Build ``data_docs/`` from the results under ``gx/`` and return its index page.

    Only results without a page are rendered, and only the newest ``limit`` results are kept (JSON and page), so
    publishing costs the same after a year as in the first week. Parallel calls wait for each other.

    Args:
        reports_dir: Folder of all reports.
        limit: Newest validations to keep.
    """
    site = reports_dir / SITE
    site.mkdir(parents=True, exist_ok=True)
    with _alone(reports_dir / ".docs.lock"):
        prune(reports_dir, limit)
        shutil.copytree(VENDOR, site / "static" / "vendor", dirs_exist_ok=True)
        _build(reports_dir, limit)
    return site / "index.html"


def prune(reports_dir: Path, limit: int) -> list[Path]:
    """Delete all but the newest ``limit`` stored results with their pages; return what was deleted.

    The page of a run that links to one of them says that it has expired.
    """
    results, pages = reports_dir / "gx" / "validations", reports_dir / SITE / "validations"
    # <suite>/<run>/<time>/<batch>.json: the time is sortable text
    stored = sorted(results.glob("*/*/*/*.json"), key=lambda file: (file.parent.name, file), reverse=True)
    gone = stored[limit:]
    for file in gone:
        page = (pages / file.relative_to(results)).with_suffix(".html")
        for path, root in ((file, results), (page, pages)):
            path.unlink(missing_ok=True)
            _remove_empty_parents(path, root)
        gates_page.expire(reports_dir, file.parts[-3], page.relative_to(reports_dir / SITE).as_posix())
    return gone


def _remove_empty_parents(path: Path, root: Path) -> None:
    for folder in path.parents:
        if folder == root or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def _build(reports_dir: Path, limit: int) -> None:
    import great_expectations as gx

    from vpoc_ml.quality import validate  # noqa: F401 - registers the expectation the results are about

    context = gx.get_context(mode="ephemeral", project_config=_config(reports_dir, limit))
    context.build_data_docs(resource_identifiers=_without_page(context, reports_dir / SITE))


def _without_page(context: Any, site: Path) -> list[Any]:
    """Return the identifiers to render: every suite, and the results that have no page yet."""
    suites = context.stores[context.expectations_store_name].list_keys()
    results = context.stores[context.validation_results_store_name].list_keys()
    pages = site / "validations"
    return [*suites, *(key for key in results if not pages.joinpath(*key.to_tuple()).with_suffix(".html").exists())]


def _config(reports_dir: Path, limit: int) -> Any:
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    views = {"module_name": "vpoc_ml.reports.data_docs_view"}
    page = {**views, "class_name": "OfflinePageView"}
    defaults = InMemoryStoreBackendDefaults()
    for store, folder in (
        (defaults.expectations_store_name, "expectations"),
        (defaults.validation_results_store_name, "validations"),
    ):
        defaults.stores[store]["store_backend"] = _folder(reports_dir / "gx" / folder, filepath_suffix=".json")
    return DataContextConfig(
        store_backend_defaults=defaults,
        progress_bars=ProgressBarsConfig(globally=False),
        data_docs_sites={
            "gates": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                "store_backend": _folder(reports_dir / SITE),
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


def _folder(path: Path, **options: Any) -> dict[str, Any]:
    path.mkdir(parents=True, exist_ok=True)
    backend = {"class_name": "TupleFilesystemStoreBackend", "suppress_store_backend_id": True}
    return {**backend, "base_directory": str(path.resolve()), **options}


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock; the system frees it when the process ends, however it ends."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
