"""The pages under *Reports* that are computed from the lake on request: what each gets, what each returns.

A page is a function from a ``Site`` and its typed query to HTML or to a download. It reads the lake through its
storage, so a folder and an object store show the same pages. ``pages/table.py`` lists the pages; the web server that
calls them is elsewhere and checks login and permission.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict

from vpoc_ml.artifacts.gate_report import safe_name
from vpoc_ml.errors import InputError
from vpoc_ml.market.nights import CHICAGO
from vpoc_ml.registry.mlflow_store import MODEL
from vpoc_ml.reports.schedule import ApprovalRequest, Schedule, WaitingTraining
from vpoc_ml.reports.templating import render

if TYPE_CHECKING:
    import polars as pl

    from vpoc_ml.lake.store import Lake

LAKE = "lake"
"""Name of the query field that chooses a lake below the first one, such as ``demo``."""
FORMULA = r"^[=+\-@\t\r]"
SCRIPT = "text/javascript"
STATIC = {"site.css": "text/css", "tables.js": SCRIPT, "leave.js": SCRIPT, "reload.js": SCRIPT}
"""Files that pages load from ``/static/``, with their media types; ``reload.js`` only while work is in progress."""


class NoSuchPageError(InputError):
    """The address names a run, a contract or a file that does not exist."""


class Query(BaseModel):
    """Base of the fields in a page's address; every field that the path does not hold needs a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")


@dataclass(frozen=True, slots=True)
class Download:
    """A file that a page returns instead of HTML."""

    name: str
    media_type: str
    content: bytes


Q = TypeVar("Q", bound=Query)


@dataclass(frozen=True, slots=True)
class Page(Generic[Q]):
    """A page.

    Attributes:
        path: path below the mount, such as ``/gates/{run}``; its parts in braces are fields of the query.
        query: the fields of the address.
        render: makes the HTML or the download.
        title: entry in the navigation; "" for a page that other pages link to.
        dags: DAGs whose runs it shows; the reader must be permitted to see them. Every page needs a login.
    """

    path: str
    query: type[Q]
    render: Callable[[Site, Q], str | Download]
    title: str = ""
    dags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """What a page gets beside its query.

    Attributes:
        lake: the lake that it shows.
        now: time of the request, aware.
        base: URL of the mount, without a slash at its end.
        path: path of the page below the mount.
        name: name of a lake below the first one; "" for the first one.
        lakes: names of all lakes.
        navigation: title and path of the pages in the navigation.
        registry: folder of the ledger and the models; None: it is not known.
        gates: names of the gates in the order in which they run.
        schedule: returns what the scheduler knows of the nightly runs; None where there is no scheduler.
        mlflow: URL of MLflow's UI, without a slash at its end; "" where there is none.
        approvals: returns the requests for approval that the scheduler knows, the newest first.
        waiting: returns the trainings that have been waiting to start, of all runs.
    """

    lake: Lake
    now: datetime
    base: str = ""
    path: str = "/"
    name: str = ""
    lakes: tuple[str, ...] = ("",)
    navigation: tuple[tuple[str, str], ...] = ()
    registry: Path | None = None
    gates: tuple[str, ...] = ()
    schedule: Callable[[], Schedule | None] = lambda: None
    mlflow: str = ""
    approvals: Callable[[], tuple[ApprovalRequest, ...]] = tuple
    waiting: Callable[[], tuple[WaitingTraining, ...]] = tuple

    def url(self, path: str, **query: str | int | None) -> str:
        """Return the URL of a page of the same lake; fields that are None or "" are left out.

        Parts of ``path`` that come from data must be quoted before.
        """
        fields = {name: value for name, value in query.items() if value not in (None, "")}
        if self.name:
            fields.setdefault(LAKE, self.name)
        return f"{self.base}{path}" + (f"?{urlencode(fields)}" if fields else "")

    def airflow_url(self, path: str) -> str:
        """Return the URL of a page of Airflow itself; a link to it needs ``target="_top"`` (``leave.js``)."""
        return f"{self.base.rpartition('/')[0]}{path}"

    def file_url(self, key: str) -> str:
        """Return the URL of a stored page of the lake."""
        return f"{self.base}/view/{quote(f'{self.name}/{key}' if self.name else key)}"

    def mlflow_url(self, version: int | None = None) -> str:
        """Return the URL of a version in MLflow, or of the list of models; a link to it needs ``target="_top"``."""
        return f"{self.mlflow}/#/models" + (f"/{MODEL}/versions/{version}" if version is not None else "")

    def static_url(self, name: str) -> str:
        """Return the URL of a file that pages load."""
        return f"{self.base}/static/{name}"

    def local_day(self, at: datetime) -> str:
        """Return the day of an aware time in Chicago, such as ``2026-05-14``."""
        return f"{at.astimezone(CHICAGO):%Y-%m-%d}"

    def render(self, template: str, **context: Any) -> str:
        """Return the page that ``template`` and ``context`` make in the layout ``page.html``."""
        return render(template, site=self, **context)


def static_file(name: str) -> bytes | None:
    """Return the content of a file that pages load; None for any other name."""
    if name not in STATIC:
        return None
    if name == "site.css":
        return render(name).encode()
    return (Path(__file__).parent / "static" / name).read_bytes()


def csv_download(name: str, frame: pl.DataFrame) -> Download:
    """Return ``frame`` as CSV for a spreadsheet; timestamps are ISO 8601 in UTC.

    Text that a spreadsheet would read as a formula (it begins with ``=``, ``+``, ``-``, ``@``, tab or carriage return)
    gets an apostrophe in front, unless it is a number.

    Args:
        name: name of the file without suffix; characters that a file name cannot hold become ``-``.
        frame: rows of plain columns.
    """
    import polars as pl

    text = pl.selectors.by_dtype(pl.String, pl.Categorical) | pl.selectors.enum()
    cells = text.cast(pl.String)
    formula = cells.str.contains(FORMULA) & cells.cast(pl.Float64, strict=False).is_null()
    safe = frame.with_columns(pl.when(formula).then(pl.lit("'") + cells).otherwise(cells).name.keep())
    names = pl.Series(frame.columns, dtype=pl.String)
    titles = dict(zip(frame.columns, (("'" + names).zip_with(names.str.contains(FORMULA), names)), strict=True))
    stream = io.BytesIO()
    safe.rename(titles).write_csv(stream, datetime_format="%Y-%m-%dT%H:%M:%S%.fZ")
    return Download(f"{safe_name(name)}.csv", "text/csv; charset=utf-8", stream.getvalue())


def parquet_download(name: str, frame: pl.DataFrame) -> Download:
    """Return ``frame`` as Parquet; characters of ``name`` that a file name cannot hold become ``-``."""
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return Download(f"{safe_name(name)}.parquet", "application/vnd.apache.parquet", stream.getvalue())
