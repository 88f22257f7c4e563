"""The reports pages: who may see them, which files they give out, what their pages may do."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = "<h1>the report</h1><script>document.title = 'x'</script>"


@pytest.fixture
def plugin(airflow_home):
    spec = importlib.util.spec_from_file_location("vpoc_reports", ROOT / "plugins" / "vpoc_reports.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["vpoc_reports"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """A lake with one run, Data Docs, a demo's lake below it and things that are nobody's business."""
    root = tmp_path / "data"
    files = {
        "runs/night-1/report.html": REPORT,
        "runs/night-1/config.json": "{}",
        "reports/runs/night-1/gates.html": "gates",
        "reports/data_docs/index.html": "docs",
        "reports/data_docs/static/docs.css": "body{}",
        "ledger.jsonl": "secret",
        "demo/runs/night-2/report.html": "second",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "outside.html").write_text("outside")
    (root / "reports" / "link.html").symlink_to(tmp_path / "outside.html")
    monkeypatch.setenv("VPOC_ML_LAKE", str(root))
    return root


@pytest.fixture
def anonymous(plugin, lake):
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    create_app()  # installs the auth manager that the dependencies ask
    return TestClient(plugin.make_app())


@pytest.fixture
def client(anonymous):
    """A client whose user may see the site and the runs."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    anonymous.app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="viewer", role="viewer")
    return anonymous


@pytest.mark.parametrize("path", ["/", "/view/runs/night-1/report.html", "/run/vpoc_nightly/night-1", "/view/nothing"])
def test_anonymous_is_refused_everywhere(anonymous, path):
    assert anonymous.get(path).status_code == 401


def test_report_is_served_and_its_scripts_can_reach_nothing(client):
    answer = client.get("/view/runs/night-1/report.html")
    assert answer.status_code == 200
    assert answer.text == REPORT
    assert "connect-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["reports/data_docs/static/docs.css", "demo/runs/night-2/report.html"])
def test_what_pages_need_is_served(client, path):
    assert client.get(f"/view/{path}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "ledger.jsonl",
        "runs/night-1/config.json",
        "reports",
        "reports/../ledger.jsonl",
        "reports/%2e%2e/ledger.jsonl",
        "reports/..%2f..%2foutside.html",
        "%2e%2e/outside.html",
        "/etc/passwd",
        "reports/link.html",
        "reports/absent.html",
    ],
)
def test_everything_else_is_not_found(client, path):
    assert client.get(f"/view/{path}").status_code == 404


def test_index_lists_runs_of_all_lakes_with_links_that_work(client, plugin):
    page = client.get("/").text
    for file in ("runs/night-1/report.html", "reports/runs/night-1/gates.html", "reports/data_docs/index.html"):
        assert f'href="{plugin.PREFIX}/view/{file}"' in page
        assert client.get(f"/view/{file}").status_code == 200
    assert "demo/runs/night-2/report.html" in page
    assert "<h2>reports</h2>" not in page


def test_index_escapes_names(client, lake):
    (lake / "runs" / "<script>alert(1)").mkdir()
    assert "<script>alert" not in client.get("/").text


def test_index_of_an_empty_lake_says_so(client, monkeypatch, tmp_path):
    monkeypatch.setenv("VPOC_ML_LAKE", str(tmp_path / "none"))
    assert "No run has left anything" in client.get("/").text


def test_page_of_a_run_is_found_by_airflow_s_run_id(client, lake):
    (lake / "runs" / "manual__2026-01-01T00-00-00-00-00").mkdir()
    (lake / "runs" / "manual__2026-01-01T00-00-00-00-00" / "report.html").write_text("mine")
    page = client.get("/run/vpoc_nightly/manual__2026-01-01T00:00:00%2B00:00").text
    assert "manual__2026-01-01T00-00-00-00-00/report.html" in page
    assert "None yet" in client.get("/run/vpoc_nightly/other").text


def test_plugin_imports_no_web_framework_until_the_server_asks(plugin):
    views = {view["destination"] for view in plugin.VpocReports.external_views}
    assert views == {"nav", "dag_run"}
    assert "fastapi_apps" not in vars(plugin.VpocReports())
    assert plugin.VpocReports().fastapi_apps[0]["url_prefix"] == plugin.PREFIX
