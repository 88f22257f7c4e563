"""The pages need no network: they reference nothing remote, and a browser requests nothing remote."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import polars as pl
import pytest

from vpoc_ml.reports.gate_pages import VENDOR, VENDORED, offline, publish_data_docs, write_gates_page

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
ARGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
REFERENCE = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"'](?P<url>[^\"']+)", re.I)


@pytest.fixture
def site(world, validated):
    """Return the reports of a run in which the bars have three NaN."""
    rows = pl.int_range(pl.len()).is_in([7, 400, 900])
    broken = world.bars.with_columns(close=pl.when(rows).then(float("nan")).otherwise("close"))
    validated("bars", broken, name="manual__2026-11-20T02:00:00+00:00")
    validated("features", world.features, name="manual__2026-11-20T02:00:00+00:00")
    write_gates_page(world.reports, "manual__2026-11-20T02:00:00+00:00", ["bars", "features"])
    publish_data_docs(world.reports)
    return world.reports


def test_no_page_refers_to_anything_remote_and_every_local_reference_exists(site):
    pages = [page for page in site.rglob("*.html") if "static" not in page.relative_to(site).parts]
    assert len(pages) == 6
    for page in pages:
        text = page.read_text()
        for found in REFERENCE.finditer(text):
            url = found["url"].partition("?")[0]
            assert not re.match(r"(https?:)?//", url), f"{page.name}: {found[0]}"
            assert (page.parent / url).is_file(), f"{page}: {url}"
        assert not re.search(r"url\([\"']?(https?:)?//", text)
        assert not re.search(r"\b(integrity|crossorigin)=", text)
        assert "Content-Security-Policy" in text


def test_link_from_the_gates_page_to_the_data_docs_resolves(site):
    (page,) = site.glob("runs/*/gates.html")
    links = re.findall(r'href="(\.\./[^"]+)"', page.read_text())
    assert len(links) == 2
    assert all((page.parent / link).resolve().is_file() for link in links)


def test_gates_page_shows_count_share_and_first_timestamps(site):
    (page,) = site.glob("runs/*/gates.html")
    text = page.read_text()
    for part in ("failed", "3 of 1,440 rows", "0.2083%", "2025-01-06T15:07:00+00:00 = nan", "ESH25"):
        assert part in text


@pytest.mark.parametrize("name", ["expect_measurement_within_limit", "expect_tally_within_limit"])
def test_results_of_earlier_releases_get_their_pages(world, validated, name):
    """They have one expectation per column and severity, and the details of a result are the contracts."""
    validated("bars", world.bars, name="old")
    for stored in (world.reports / "gx").rglob("*.json"):
        content = json.loads(stored.read_text())
        configs = content.get("expectations") or [each["expectation_config"] for each in content["results"]]
        for config in configs:
            config["kwargs"] |= {"column": "close", "contracts": ["ESH25"], "max_count": 0}
            config["type"] = name
        for each in content.get("results", ()):
            each["result"]["details"] = {"contracts": []}
        stored.write_text(json.dumps(content))
    publish_data_docs(world.reports)
    (page,) = (world.reports / "data_docs" / "validations").rglob("*.html")
    assert "no row in quarantine" in page.read_text()
    assert "no row in quarantine" in (world.reports / "data_docs" / "expectations" / "bars.html").read_text()


def test_unknown_remote_script_and_style_are_removed():
    html = (
        '<head><script src="https://x.test/new.js"></script><link href="//x.test/new.css" rel="stylesheet">'
        '<img src="https://x.test/a/logo-long.png?id=1"></head>'
    )
    result = offline(html, "../")
    assert "x.test" not in result
    assert '<img src="../static/images/logo-long.png"' in result


def test_vendored_files_exist_with_their_licences_and_nothing_else():
    files = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert files == {*VENDORED.values(), "LICENSES.txt", "webfonts/fa-solid-900.woff2", "webfonts/fa-regular-400.woff2"}


@pytest.mark.browser
def test_browser_shows_the_list_of_runs_without_any_remote_request(site):
    if not CHROMIUM.exists():
        message = f"chromium not found at {CHROMIUM}; install it to see the pages"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    remote, problems = [], []

    def local_only(route):
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            remote.append(route.request.url)
            route.abort()

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        page = browser.new_page()
        page.route("**/*", local_only)
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto((site / "data_docs" / "index.html").as_uri())
        page.wait_for_selector("table tbody tr td")
        rows = page.locator("table tbody tr").all_inner_texts()
        assert sum("manual__2026-11-20T02-00-00+00-00" in row for row in rows) == 2
        for other in [*site.glob("data_docs/validations/**/*.html"), *site.glob("runs/*/gates.html")]:
            page.goto(other.as_uri())
        assert "[CRITICAL] nan: no NaN" in (site / "data_docs" / "expectations" / "bars.html").read_text()
        browser.close()
    assert remote == []
    assert problems == []
