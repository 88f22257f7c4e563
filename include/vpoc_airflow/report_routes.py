"""The web application under ``/vpoc-reports``: the pages that are computed on request, and the stored ones.

Every route asks for a logged-in user with the permission that its page names. Own pages run one script of this package;
their Content-Security-Policy permits nothing else. Stored pages come from the lake's ``reports`` folder and the runs'
``report.html`` only. They are made from vendor data, so their scripts must not get at the reader's session: the policy
lets them connect to nothing and puts them into a sandbox with an origin of its own, from which neither Airflow's page
around them nor its cookies can be reached. Without the cookie, though, a page could not load its own scripts or follow
its own links. ``/view/FILE`` therefore asks for the login and redirects to ``/page/TOKEN/FILE``, whose signed token
admits to these files, and to nothing else, for ``TOKEN_SECONDS``; relative links keep it.

Imports Airflow's API server: the plugin imports this module when the server needs it.
"""

from __future__ import annotations

import logging
import mimetypes
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag, requires_access_view
from airflow.configuration import conf
from airflow.models.base import ID_LEN
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, RedirectResponse
from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from vpoc_airflow import waiting
from vpoc_airflow.scheduled_runs import approval_requests, nightly_schedule
from vpoc_ml import environment
from vpoc_ml.environment import lake_uri
from vpoc_ml.errors import ConfigError, VpocError
from vpoc_ml.lake.storage import LocalStorage
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.stages import GATES
from vpoc_ml.registry.registry import registry_folder
from vpoc_ml.reports.pages.run import find_run, run_page
from vpoc_ml.reports.pages.table import PAGES, navigation
from vpoc_ml.reports.schedule import ApprovalRequest, Schedule, WaitingTraining
from vpoc_ml.reports.site import LAKE, STATIC, Download, NoSuchPageError, Page, Site, static_file
from vpoc_ml.reports.templating import render

SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
FILE_POLICY = (
    "sandbox allow-scripts; default-src 'self' 'unsafe-inline' 'unsafe-eval' data:; connect-src 'none';"
    " form-action 'none'; frame-ancestors 'self'"
)
OWN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; frame-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
TOKEN_SECONDS = 3600
EXPIRED = "This validation is no longer kept: the Data Docs hold the newest ones, machine.docs_limit of them."
FONTS = (".woff", ".woff2", ".ttf")
# The lake itself or one directly below it (the demos' lakes), then what is public in it.
PUBLIC = re.compile(r"(?:(?P<lake>[\w-][\w.-]*)/)?(?P<key>reports/.+|runs/[^/]+/report\.html)")

log = logging.getLogger(__name__)


@cache
def open_lake(uri: str) -> Lake:
    """Return the lake at ``uri``; a process opens each once."""
    return Lake(uri)


def lakes() -> dict[str, Lake]:
    """Return the lake, named "", and the local lakes directly below it that hold runs, by name."""
    first = open_lake(lake_uri())
    found = {"": first}
    if isinstance(first.storage, LocalStorage):
        for name in first.storage.folders(""):
            if name not in ("reports", "runs") and (first.storage.root / name / "runs").is_dir():
                found[name] = open_lake(str(first.storage.root / name))
    return found


def public_file(path: str) -> bytes | None:
    """Return the content of the file that ``path`` names below the lake; None if it is not public or does not exist."""
    first = open_lake(lake_uri()).storage
    try:
        if isinstance(first, LocalStorage):  # a path may leave the lake by ".." or by a link
            root = first.root.resolve()
            file = (root / path).resolve()
            if not file.is_relative_to(root) or not PUBLIC.fullmatch(file.relative_to(root).as_posix()):
                return None
            return file.read_bytes() if file.is_file() else None
        match = PUBLIC.fullmatch(path)
        inside = match and not match["lake"] and all(part not in ("", ".", "..") for part in path.split("/"))
        return first.read(path) if inside else None
    except (ValueError, OSError, RuntimeError):  # a null byte, too long a name, a loop of links: no file has that name
        return None


def make_app() -> FastAPI:
    """Return the application; only the API server builds it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.exception_handler(HTTPException)(refusal)
    reader = [Depends(requires_access_view(AccessView.WEBSITE))]
    app.get("/static/{name}", dependencies=reader, response_model=None)(static)
    app.get("/view/{path:path}", dependencies=reader, response_model=None)(view)
    app.get("/page/{token}/{path:path}", response_model=None)(stored_page)
    see_run = [Depends(requires_access_dag("GET", DagAccessEntity.RUN))]
    app.get("/run/{dag_id}/{run_id:path}", dependencies=see_run, response_model=None)(run_of_airflow)
    for page in PAGES:
        permitted = [Depends(requires_access_dag("GET", DagAccessEntity.RUN, dag)) for dag in page.dags]
        app.get(page.path, dependencies=reader + permitted, response_model=None)(_route(page))
    return app


async def refusal(request: Request, error: HTTPException) -> Response:
    """Return why a request was refused: to a browser as a page, or the login; to a program as JSON."""
    if "text/html" not in request.headers.get("accept", ""):
        return await http_exception_handler(request, error)
    if error.status_code == 401:
        return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)), headers=SAFE)
    title = HTTPStatus(error.status_code).phrase
    shown = render("error.html", title=title, message=error.detail, base=request.scope.get("root_path", ""))
    return HTMLResponse(shown, error.status_code, SAFE | {"Content-Security-Policy": OWN_POLICY})


def static(name: str) -> Response:
    """Return the style sheet or the script of all pages."""
    content = static_file(name)
    if content is None:
        raise HTTPException(404, "No such file.")
    return Response(content, media_type=STATIC[name], headers=SAFE)


def view(path: str) -> Response:
    """Redirect a logged-in reader to a stored page."""
    if public_file(path) is None:
        raise HTTPException(404, "No such report.")
    up = "../" * (path.count("/") + 1)  # relative, as the server may be mounted anywhere
    return RedirectResponse(f"{up}page/{_tokens().dumps('reports')}/{quote(path)}", status_code=303, headers=SAFE)


def stored_page(token: str, path: str) -> Response:
    """Return a stored page, or a file that one loads, to the holder of a token."""
    try:
        _tokens().loads(token, max_age=TOKEN_SECONDS)
    except BadSignature as error:  # an expired one too
        raise HTTPException(403, "This address has expired. Open the page from Reports again.") from error
    content = public_file(path)
    if content is None:
        raise HTTPException(404, EXPIRED if "/data_docs/validations/" in f"/{path}" else "No such report.")
    anywhere = {"Access-Control-Allow-Origin": "*"} if path.endswith(FONTS) else {}  # a sandbox has no origin
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return Response(content, media_type=kind, headers=SAFE | {"Content-Security-Policy": FILE_POLICY} | anywhere)


def run_of_airflow(request: Request, dag_id: str, run_id: str) -> Response:
    """Return the page of the run that Airflow calls ``run_id`` in the DAG ``dag_id``."""
    if "\0" in dag_id + run_id or max(len(dag_id), len(run_id)) > ID_LEN:
        raise HTTPException(404, "No such run.")
    with create_session() as session:
        if session.get(DagModel, dag_id) is None:
            raise HTTPException(404, "No such DAG.")
    found = ((name, find_run(lake, dag_id, run_id)) for name, lake in lakes().items())
    name, run = next(((name, run) for name, run in found if run), ("", None))
    return _html(run_page(_site(request, name), run))


def _route(page: Page[Any]) -> Callable[[Request], Response]:
    """Return the handler of a page: it reads the query, renders, and turns errors into statuses."""

    def handler(request: Request) -> Response:
        try:
            query = page.query.model_validate({**request.query_params, **request.path_params})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise HTTPException(400, f"Expected another value of {field} in the address: {first['msg']}.") from error
        try:
            answer = page.render(_site(request, request.query_params.get(LAKE, ""), page.path), query)
        except NoSuchPageError as error:
            raise HTTPException(404, str(error)) from error
        except (VpocError, OSError) as error:
            log.exception("%s cannot be shown", request.url.path)
            raise HTTPException(503, f"{error} The log of the API server has the traceback.") from error
        if isinstance(answer, Download):
            name = {"Content-Disposition": f'attachment; filename="{answer.name}"'}
            return Response(answer.content, media_type=answer.media_type, headers=SAFE | name)
        return _html(answer)

    return handler


def _site(request: Request, name: str, path: str = "") -> Site:
    """Return what a page gets; ``name`` chooses the lake.

    Raises:
        HTTPException: 404, there is no such lake.
    """
    found = lakes()
    if name not in found:
        raise HTTPException(404, "No such lake.")
    return Site(
        lake=found[name],
        now=datetime.now(UTC),
        base=request.scope.get("root_path", ""),
        path=path,
        name=name,
        lakes=tuple(found),
        navigation=navigation(),
        registry=_registry(found[name]),
        gates=GATES,
        schedule=_schedule if not name else lambda: None,
        mlflow=(environment.read(environment.MLFLOW_URL) or "").rstrip("/") if not name else "",
        approvals=_approvals if not name else tuple,
        waiting=_waiting if not name else tuple,
    )


def _registry(lake: Lake) -> Path | None:
    """Return the folder of a lake's registry; None where nobody has named one."""
    try:
        return registry_folder(lake)
    except ConfigError:
        return None


def _schedule() -> Schedule:
    with create_session() as session:
        return nightly_schedule(session)


def _approvals() -> tuple[ApprovalRequest, ...]:
    with create_session() as session:
        return approval_requests(session)


def _waiting() -> tuple[WaitingTraining, ...]:
    with create_session() as session:
        return waiting.waiting_trainings(session, datetime.now(UTC), waiting.living_queues)


def _html(page: str) -> Response:
    return HTMLResponse(page, headers=SAFE | {"Content-Security-Policy": OWN_POLICY})


def _tokens() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt="vpoc-reports")
