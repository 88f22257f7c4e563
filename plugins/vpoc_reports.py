"""Reports pages under Airflow's UI: an index of runs, their reports, the gates' pages and Data Docs.

Every route asks for a logged-in user. Files come from the lake's ``reports`` folder and the runs' ``report.html`` only.
They are made from vendor data, so their scripts must not get at the reader's session: the Content-Security-Policy lets
them connect to nothing and puts them into a sandbox with an origin of its own, from which neither Airflow's page around
them nor its cookies can be reached. Without the cookie, though, a page could not load its own scripts or follow its own
links. ``/view/FILE`` therefore asks for the login and redirects to ``/page/TOKEN/FILE``, whose signed token admits to
these files, and to nothing else, for ``TOKEN_SECONDS``; relative links keep it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin

from vpoc_ml.environment import lake_root

PREFIX = "/vpoc-reports"
SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
FILE_POLICY = (
    "sandbox allow-scripts; default-src 'self' 'unsafe-inline' 'unsafe-eval' data:; connect-src 'none';"
    " form-action 'none'; frame-ancestors 'self'"
)
OWN_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'none'; frame-ancestors 'self'"
)
TOKEN_SECONDS = 3600
EXPIRED = "This validation is no longer kept: the Data Docs hold the newest ones, machine.docs_limit of them."
FONTS = (".woff", ".woff2", ".ttf")
# The lake itself or one directly below it (the demos' lakes), then what is public in it.
PUBLIC = re.compile(r"([\w-][\w.-]*/)?(reports/.+|runs/[^/]+/report\.html)")


def find(path: str) -> Path | None:
    """Return the file that ``path`` names below the lake, or None when it is not public or does not exist."""
    root = lake_root().resolve()
    try:
        file = (root / path).resolve()
        found = file.is_relative_to(root) and PUBLIC.fullmatch(file.relative_to(root).as_posix()) and file.is_file()
    except (ValueError, OSError, RuntimeError):  # a null byte, too long a name, a loop of links: no file has that name
        return None
    return file if found else None


def lakes() -> list[Path]:
    """Return the lake and the lakes directly below it that hold runs."""
    root = lake_root().resolve()
    below = sorted(root.iterdir()) if root.is_dir() else []
    return [lake for lake in (root, *below) if lake.name != "reports" and (lake / "runs").is_dir()]


def links(lake: Path, run: str) -> list[tuple[str, Path]]:
    """Return name and file of every page that belongs to a run."""
    folder = lake / "reports" / "runs" / run
    pages = [("report", lake / "runs" / run / "report.html")]
    pages += [(page.stem, page) for page in sorted(folder.glob("*.html"))]
    pages += [(page.parent.name.replace("_", " "), page) for page in sorted(folder.glob("*/index.html"))]
    return [(name, page) for name, page in pages if page.is_file()]


def shared_links(lake: Path) -> list[tuple[str, Path]]:
    """Return name and file of the pages that cover all runs of a lake, such as Data Docs."""
    pages = [(page.stem, page) for page in sorted((lake / "reports").glob("*.html"))]
    indexes = sorted((lake / "reports").glob("*/index.html"))
    return pages + [(page.parent.name.replace("_", " "), page) for page in indexes]


def index_page() -> str:
    """Return the index: one table a lake, newest run first."""
    from vpoc_airflow.run_page import failures
    from vpoc_ml.reports.templating import render

    found = []
    for lake in lakes():
        folders = [folder for folder in (lake / "runs").iterdir() if folder.is_dir()]
        folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        runs = [{"name": f.name, "failures": failures(f), "links": _urls(links(lake, f.name))} for f in folders]
        found.append({"name": lake.name, "shared": _urls(shared_links(lake)), "runs": runs})
    return render("runs_index.html", lakes=found)


def run_page(dag_id: str, run_id: str, now: datetime) -> str:
    """Return the page of one run at ``now`` (aware): why it failed, its training while it runs, links, the report."""
    from vpoc_airflow.run_page import REFRESH_SECONDS, failures, running_training
    from vpoc_ml.artifacts.layout import dag_run_name, run_name
    from vpoc_ml.reports.templating import render

    names = dag_run_name(dag_id, run_id), run_name(run_id)  # the second: folders of an earlier version, without the DAG
    places = ((lake, name) for name in names for lake in lakes())
    place = next(((lake, name) for lake, name in places if (lake / "runs" / name).is_dir() or links(lake, name)), None)
    page: dict[str, Any] = dict.fromkeys(("failures", "training", "links", "gates_url"))
    running = True
    if place is not None:
        lake, name = place
        folder, found = lake / "runs" / name, links(lake, name)
        page["failures"] = failures(folder)
        page["training"] = None if page["failures"] else running_training(folder, now)
        page["links"] = _urls(found + shared_links(lake)) if found else []
        page["gates_url"] = next((_url(file) for title, file in found if title == "gates"), None)
        running = not page["failures"] and not (folder / "report.html").is_file()
    refresh = REFRESH_SECONDS if running or page["training"] else None
    return render("run_status.html", exists=place is not None, refresh_seconds=refresh, **page)


def _urls(pages: list[tuple[str, Path]]) -> list[tuple[str, str]]:
    return [(name, _url(file)) for name, file in pages]


def _url(file: Path) -> str:
    return f"{PREFIX}/view/{_name(file)}"


def _name(file: Path) -> str:
    return quote(file.relative_to(lake_root().resolve()).as_posix())


def make_app() -> Any:
    """Return the FastAPI application; only the API server builds it."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag, requires_access_view
    from airflow.configuration import conf
    from airflow.models.base import ID_LEN
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
    from itsdangerous import BadSignature, URLSafeTimedSerializer

    tokens = URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt="vpoc-reports")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def view(path: str) -> RedirectResponse:
        if (file := find(path)) is None:
            raise HTTPException(404, "No such report.")
        up = "../" * (path.count("/") + 1)  # relative, as the server may be mounted anywhere
        return RedirectResponse(f"{up}page/{tokens.dumps('reports')}/{_name(file)}", status_code=303, headers=SAFE)

    def page(token: str, path: str) -> FileResponse:
        try:
            tokens.loads(token, max_age=TOKEN_SECONDS)
        except BadSignature as error:  # an expired one too
            raise HTTPException(403, "This address has expired. Open the page from Reports again.") from error
        if (file := find(path)) is None:
            raise HTTPException(404, EXPIRED if "/data_docs/validations/" in f"/{path}" else "No such report.")
        anywhere = {"Access-Control-Allow-Origin": "*"} if file.suffix in FONTS else {}  # a sandbox has no origin
        return FileResponse(file, headers=SAFE | {"Content-Security-Policy": FILE_POLICY} | anywhere)

    def index() -> HTMLResponse:
        return HTMLResponse(index_page(), headers=SAFE | {"Content-Security-Policy": OWN_POLICY})

    def run(dag_id: str, run_id: str) -> HTMLResponse:
        if "\0" in dag_id + run_id or max(len(dag_id), len(run_id)) > ID_LEN:
            raise HTTPException(404, "No such run.")
        with create_session() as session:
            if session.get(DagModel, dag_id) is None:
                raise HTTPException(404, "No such DAG.")
        shown = run_page(dag_id, run_id, datetime.now(UTC))
        return HTMLResponse(shown, headers=SAFE | {"Content-Security-Policy": OWN_POLICY})

    reader = [Depends(requires_access_view(AccessView.WEBSITE))]
    see_run = [Depends(requires_access_dag("GET", DagAccessEntity.RUN))]
    app.get("/view/{path:path}", dependencies=reader, response_model=None)(view)
    app.get("/page/{token}/{path:path}", response_model=None)(page)
    app.get("/run/{dag_id}/{run_id:path}", dependencies=see_run, response_model=None)(run)
    app.get("/", dependencies=reader, response_model=None)(index)
    return app


class VpocReports(AirflowPlugin):
    """Adds *Reports* to the navigation and to every run."""

    name = "vpoc_reports"
    external_views = [  # noqa: RUF012 - Airflow reads a plain class attribute
        {
            "name": "Reports",
            "href": f"{PREFIX}/",
            "destination": "nav",
            "url_route": "vpoc-reports-index",
            "nav_top_level": True,
        },
        {
            "name": "Reports",
            "href": f"{PREFIX}/run/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "vpoc-reports-run",
        },
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """Return the application's mount point."""
        return [{"app": make_app(), "url_prefix": PREFIX, "name": "vpoc_reports"}]
