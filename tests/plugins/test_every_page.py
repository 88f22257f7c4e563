"""Every page under Reports in a real browser, found by following links from the first one.

A lake with a night that failed at a gate, one that passed, and a search. Each page must load without an error or a
remote request, be accessible (axe-core: no serious problem), and fit a phone. ``VPOC_SCREENSHOTS`` names a folder for
screenshots.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from vpoc_ml import pipeline
from vpoc_ml.errors import GateFailedError
from vpoc_ml.reports.pages.table import PAGES
from vpoc_ml.synthetic.generate import write_market

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = Path("/usr/bin/chromium")
ARGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
NOW = datetime(2023, 3, 17, 22, 30, tzinfo=UTC)
FRAME = """<!doctype html><title>frame</title><iframe title="Reports" src="/vpoc-reports/contracts"
 sandbox="allow-scripts allow-same-origin allow-forms allow-downloads"></iframe>"""
"""What Airflow shows a page in."""
ADDRESSES = "found => found.map(each => new URL(each.getAttribute('href'), each.baseURI).href)"
"""Complete addresses of links; those of pictures too, whose ``href`` is no text."""
MOST, MOST_CHECKS = 3, 8
"""Addresses of one page that are visited, and of a check's page: only some checks link the distribution of a column."""
SIZES = {"laptop": (1280, 900, "light"), "phone": (360, 740, "dark")}


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pages")
    raw, place = root / "raw", root / "lake"
    write_market(raw, contracts=1, seed=7, mode="signal")
    (prices,) = raw.glob("ES*.txt")
    clean = prices.read_text()
    lines = clean.splitlines(keepends=True)
    for at in range(len(lines) // 2, len(lines) // 2 + 3):  # one alone is a bad print, which ingestion quarantines
        time_of_bar, *values, volume = lines[at].rstrip("\n").split(";")
        tenfold = (f"{10 * float(value):g}" for value in values)
        lines[at] = ";".join([time_of_bar, *tenfold, volume]) + "\n"
    for name, text, fails in (("night-1", "".join(lines), True), ("night-2", clean, False)):
        prices.write_text(text)
        pipeline.start_run(str(place), name, "smoke", {"machine.device": "cpu"}, str(raw), None, NOW)
        try:
            pipeline.run_until(str(place), name, "score", NOW)
            assert not fails, "prices ten times as high must not pass"
        except GateFailedError:
            assert fails
        pipeline.publish_reports(str(place), name, NOW)
    pipeline.search(str(place), "night-2", 2, ("training.learning_rate=1e-4..1e-2 log",))
    return place


@pytest.fixture(scope="module")
def address(airflow_home, lake) -> Iterator[str]:
    """URL of the pages, served to a reader who is logged in."""
    import uvicorn
    from airflow.api_fastapi.app import create_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse

    from vpoc_airflow.report_routes import make_app

    create_app()
    before = os.environ.get("VPOC_LAKE")
    os.environ["VPOC_LAKE"] = str(lake)
    pages = make_app()
    pages.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="viewer", role="viewer")
    site = FastAPI()
    site.mount("/vpoc-reports", pages)
    site.get("/plugin")(lambda: HTMLResponse(FRAME))
    site.get("/dags/{dag}")(lambda dag: HTMLResponse(f"<title>{dag}</title>"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(site, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended while it started"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/vpoc-reports"
    server.should_exit = True
    thread.join()
    os.environ.pop("VPOC_LAKE") if before is None else os.environ.update(VPOC_LAKE=before)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if not CHROMIUM.exists():
        message = f"chromium not found at {CHROMIUM}; install it to see the pages"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGS))
        yield started
        started.close()


def kind_of(path: str) -> str | None:
    """Return the row of the table of pages that an address belongs to; None for stored files."""
    for page in sorted(PAGES, key=lambda each: each.path.count("{")):
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(page.path)), path):
            return page.path
    return None


def test_a_link_to_airflow_leaves_the_frame(address, browser, lake):
    key = lake / "bars" / "ES" / "ESH22.parquet"  # a contract whose successor is missing: the page links the backfill
    key.write_bytes(b"")
    tab = browser.new_page()
    tab.goto(address.removesuffix("/vpoc-reports") + "/plugin")
    tab.frame_locator("iframe").get_by_role("link", name="the DAG vpoc_contracts").click()
    tab.wait_for_url("**/dags/vpoc_contracts")
    assert tab.title() == "vpoc_contracts"
    tab.close()
    key.unlink()


def watch(tab, address: str, problems: list[str]) -> None:
    """Note errors of the console, which include refusals by the policy of a page, and requests to other addresses."""
    tab.on("console", lambda said: said.type == "error" and problems.append(f"{tab.url}: {said.text}"))
    tab.on("pageerror", lambda error: problems.append(f"{tab.url}: {error}"))
    tab.on("request", lambda request: request.url.startswith(address) or problems.append(f"requests {request.url}"))


def test_every_page_loads_is_accessible_and_fits_a_phone(address, browser):
    from axe_playwright_python.sync_playwright import Axe

    shots = os.environ.get("VPOC_SCREENSHOTS")
    problems: list[str] = []
    seen: dict[str, int] = {}
    for size, (width, height, scheme) in SIZES.items():
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        tab = context.new_page()
        watch(tab, address, problems)
        due, visited, counts = ["/"], {"/"}, dict[str, int]()
        while due:
            now = due.pop(0)
            kind = kind_of(urlsplit(now).path)
            counts[kind] = counts.get(kind, 0) + 1
            answer = tab.goto(address + now)
            if answer.status != 200:
                problems.append(f"{now}: status {answer.status}")
                continue
            for each in Axe().run(tab).response["violations"]:
                if each["impact"] in ("serious", "critical"):
                    places = [node["html"][:150] for node in each["nodes"][:3]]
                    problems.append(f"{now} ({size}): {each['id']}: {each['help']} {places}")
            too_wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            if too_wide > 0:
                problems.append(f"{now} ({size}): {too_wide} pixels wider than the screen")
            name = re.sub(r"\W+", "-", kind).strip("-") or "tonight"
            if shots:
                tab.screenshot(path=Path(shots) / f"{name}-{counts[kind]}-{size}.png", full_page=True)
            for link in tab.eval_on_selector_all("a[href]", ADDRESSES):
                target = link.split("#")[0].removeprefix(address)
                row = kind_of(urlsplit(target).path) if link.startswith(address) else None
                download = row is not None and row.endswith(("/rows", "/bars", "/ranges"))
                most = MOST_CHECKS if row is not None and row.endswith("/check") else MOST
                known = sum(kind_of(urlsplit(each).path) == row for each in visited)
                if row is not None and not download and target not in visited and known < most:
                    visited.add(target)
                    due.append(target)
        context.close()
        seen = counts
    assert problems == []
    downloads = {page.path for page in PAGES if page.path.endswith(("/rows", "/bars", "/ranges"))}
    assert {page.path for page in PAGES} - downloads <= set(seen), "every page can be reached by links"
