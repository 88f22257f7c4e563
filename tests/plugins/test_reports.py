"""The reports pages: who may see them, which files they give out, what their pages may do."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

pytestmark = pytest.mark.slow

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
    """A lake with one run, Data Docs, a demo's lake below it and files that are not public."""
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
    monkeypatch.setenv("VPOC_LAKE", str(root))
    return root


@pytest.fixture(scope="session")
def auth_manager(airflow_home):
    """Airflow's server, which installs the auth manager of the routes."""
    from airflow.api_fastapi.app import create_app

    return create_app()


@pytest.fixture
def anonymous(plugin, lake, auth_manager):
    from fastapi.testclient import TestClient

    from vpoc_airflow.report_routes import make_app

    return TestClient(make_app(), root_path=plugin.PREFIX)


@pytest.fixture(scope="session")
def stored_dags(airflow_home):
    """The DAGs in Airflow's database."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        for dag in ("vpoc_nightly", "vpoc_contracts"):
            session.merge(DagModel(dag_id=dag, bundle_name="dags-folder"))


@pytest.fixture
def client(anonymous, stored_dags, no_dag_runs):
    """A client whose user may see the site and the runs."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    anonymous.app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="viewer", role="viewer")
    return anonymous


@pytest.mark.parametrize(
    "path",
    ["/view/runs/night-1/report.html", "/run/vpoc_nightly/night-1", "/run/unknown/night-1", "/view/nothing"],
)
def test_stored_pages_reject_anonymous_requests(anonymous, path):
    assert anonymous.get(path).status_code == 401


def test_every_route_but_that_of_a_token_rejects_anonymous_requests(anonymous):
    paths = [route.path for route in anonymous.app.routes]
    assert {"/", "/static/{name}", "/runs", "/runs/{run}"} <= set(paths)
    for path in paths:
        if not path.startswith("/page/"):
            assert anonymous.get(re.sub(r"{[^}]+}", "x", path)).status_code == 401, path


def test_a_browser_is_sent_to_the_login_or_shown_the_reason(anonymous, client):
    from airflow.api_fastapi.core_api.security import get_user

    html = {"accept": "text/html,*/*"}
    user = anonymous.app.dependency_overrides.pop(get_user)
    answer = anonymous.get("/runs?lake=demo", headers=html, follow_redirects=False)
    assert answer.status_code == 307
    assert "/login" in answer.headers["location"]
    assert "%2Fruns%3Flake%3Ddemo" in answer.headers["location"]
    anonymous.app.dependency_overrides[get_user] = user
    for path, status, text in (("/runs/x<script>", 404, "x&lt;script&gt;"), ("/page/x.y.z/a", 403, "has expired")):
        answer = client.get(path, headers=html)
        assert answer.status_code == status
        assert text in answer.text
        assert "<script" not in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_pages_need_the_permission_that_their_row_names(anonymous, stored_dags, lake):
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    anonymous.app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="nobody", role=None)
    for path in ("/", "/static/site.css", "/runs/night-1", "/run/vpoc_nightly/night-1", "/view/reports/x"):
        assert anonymous.get(path).status_code == 403, path


def test_style_sheet_and_scripts_are_the_only_static_files(client):
    for name, kind in (("site.css", "text/css"), ("tables.js", "text/javascript"), ("leave.js", "text/javascript")):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "http" not in answer.text
    for name in ("page.html", "..%2ftemplates%2fpage.html", "%2e%2e%2fsite.py", "vendor", "%00", "SITE.CSS"):
        assert client.get(f"/static/{name}").status_code == 404, name


def test_pages_load_nothing_but_the_style_sheet_and_the_script(client):
    for path in ("/", "/runs", "/runs/night-1"):
        page = client.get(path).text
        loaded = re.findall(r'<(?:link|script|img)[^>]*(?:href|src)="([^"]+)"', page)
        assert loaded == [f"/vpoc-reports/static/{name}" for name in ("site.css", "tables.js", "leave.js")]
        assert "<style" not in page
        assert not re.search(r"\son\w+=|style=", page)


def test_page_of_a_run_by_its_folder_is_found_in_the_lake_that_the_address_names(client):
    assert "runs/night-1/report.html" in client.get("/runs/night-1").text
    assert client.get("/runs/night-2").status_code == 404
    assert "demo/runs/night-2/report.html" in client.get("/runs/night-2?lake=demo").text
    assert client.get("/?lake=other").status_code == 404
    for run in ("%2e%2e%2fruns", "absent", "a%00b", 300 * "a"):
        assert client.get(f"/runs/{run}").status_code == 404, run


def test_report_is_served_and_its_scripts_can_reach_nothing(client):
    answer = client.get("/view/runs/night-1/report.html")
    assert answer.status_code == 200
    assert answer.text == REPORT
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert "connect-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["reports/data_docs/static/docs.css", "demo/runs/night-2/report.html"])
def test_files_that_pages_load_are_served(client, path):
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
        "%00",
        "reports/%00.html",
        "reports/absent%00/%2e%2e/data_docs/index.html",
        "reports/%ff%fe.html",
        "reports/%c0%ae%c0%ae/ledger.jsonl",
        "reports/%252e%252e/ledger.jsonl",
        "reports/..%5c..%5cledger.jsonl",
        "reports/" + 300 * "a",
        "reports/" + 2000 * "a/",
        "reports/circle/index.html",
        "%0d%0aSet-Cookie:x=1",
    ],
)
def test_files_that_are_not_public_are_not_found(client, lake, path):
    (lake / "reports" / "circle").symlink_to(lake / "reports" / "circle")
    token = client.get("/view/runs/night-1/report.html").request.url.path.split("/")[2]
    assert client.get(f"/view/{path}").status_code == 404
    assert client.get(f"/page/{token}/{path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "unknown/night-1",
        "%00/night-1",
        "vpoc_nightly/%00",
        "vpoc_nightly/" + 300 * "a",
        300 * "a" + "/night-1",
        "%ff/night-1",
        "..%2fvpoc_nightly/night-1",
    ],
)
def test_run_that_airflow_cannot_know_is_not_found(client, path):
    assert client.get(f"/run/{path}").status_code == 404


@pytest.mark.parametrize("run", ["%ff%fe", "..%2f..%2fetc", 250 * "a", "%0d%0a", "%F0%9F%92%A9", "a%20b"])
def test_odd_run_id_is_a_run_without_pages(client, run):
    answer = client.get(f"/run/vpoc_nightly/{run}")
    assert answer.status_code == 200
    assert "None yet" in answer.text


def test_random_paths_get_an_ordinary_status(client):
    seed = 20261128
    print(f"seed {seed}")
    draw = random.Random(seed)
    parts = [
        "reports",
        "runs",
        "data_docs",
        "night-1",
        "..",
        ".",
        "%00",
        "%2f",
        "%2e%2e",
        "%ff",
        "%u0000",
        "~",
        " ",
        "%25",
    ]
    for _ in range(150):
        path = "/".join(draw.choice(parts) + draw.choice(["", *parts]) for _ in range(draw.randint(1, 6)))
        route = draw.choice(["view", "page", "page/x.y.z", "run", "run/vpoc_nightly"])
        assert client.get(f"/{route}/{path}").status_code in (200, 403, 404), path


def test_files_need_a_token_that_was_given_out_and_is_fresh(client, monkeypatch):
    address = client.get("/view/runs/night-1/report.html").request.url.path
    assert client.get(address).status_code == 200
    assert client.get(address.replace("/runs/night-1/report.html", "x/runs/night-1/report.html")).status_code == 403
    assert client.get("/page/reports/runs/night-1/report.html").status_code == 403
    monkeypatch.setattr("vpoc_airflow.report_routes.TOKEN_SECONDS", -1)
    expired = client.get(address)
    assert expired.status_code == 403
    assert "Open the page from Reports again" in expired.text


def test_a_deleted_validation_is_reported_with_the_setting_that_limits_them(client):
    address = client.get("/view/reports/data_docs/index.html").request.url.path
    gone = client.get(address.replace("index.html", "validations/bars/night-0/20260101T000000/tallies-bars.html"))
    assert gone.status_code == 404
    assert "no longer kept" in gone.text
    assert "machine.docs_limit" in gone.text


def test_own_pages_run_the_script_of_the_package_and_no_other(client):
    for path in ("/", "/run/vpoc_nightly/night-1"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy


def test_index_lists_runs_of_all_lakes_with_links_that_work(client, plugin):
    page = client.get("/runs").text
    for file in ("runs/night-1/report.html", "reports/runs/night-1/gates.html", "reports/data_docs/index.html"):
        assert f'href="{plugin.PREFIX}/view/{file}"' in page
        assert client.get(f"/view/{file}").status_code == 200
    assert 'href="/vpoc-reports/?lake=demo"' in page
    assert "?lake=reports" not in page
    assert "demo/runs/night-2/report.html" in client.get("/runs?lake=demo").text


def test_index_escapes_names(client, lake):
    (lake / "runs" / "<script>alert(1)").mkdir()
    assert "<script>alert" not in client.get("/runs").text


def test_the_index_of_an_empty_lake_has_a_message(client, monkeypatch, tmp_path):
    monkeypatch.setenv("VPOC_LAKE", str(tmp_path / "none"))
    assert "No run has left anything" in client.get("/").text


def test_the_page_of_a_run_is_found_by_its_run_id_in_airflow(client, lake):
    (lake / "runs" / "manual__2026-01-01T00-00-00-00-00").mkdir()
    (lake / "runs" / "manual__2026-01-01T00-00-00-00-00" / "report.html").write_text("mine")
    page = client.get("/run/vpoc_nightly/manual__2026-01-01T00:00:00%2B00:00").text
    assert "manual__2026-01-01T00-00-00-00-00/report.html" in page
    assert "None yet" in client.get("/run/vpoc_nightly/other").text


def test_tonight_shows_what_airflow_knows_of_runs_that_left_nothing(client, airflow_home):
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.hitl import HITLDetail
    from airflow.models.hitl_history import HITLDetailHistory
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from airflow.utils.session import create_session
    from sqlalchemy import delete, insert

    from vpoc_airflow.scheduled_runs import approval_requests

    def run(run_id, day, state):
        at = datetime(2026, 5, day, 22, 30, tzinfo=UTC)
        return {"dag_id": "vpoc_nightly", "run_id": run_id, "state": state, "run_after": at, "run_type": "scheduled"}

    runs = [
        run("lost", 12, "failed"),
        run("holiday", 13, "success"),
        run("open", 14, "running"),
        run("new", 15, "queued"),
    ]
    states = [
        ("lost", "train", "failed"),
        ("holiday", "resolve_config", "skipped"),
        ("open", "approve", "awaiting_input"),
    ]
    with create_session() as session:
        session.add_all(DagRun(**fields) for fields in runs)
        session.flush()
        version = uuid4()
        # Others may have stored versions of this DAG in the same database; their numbers are small.
        fields = {"id": version, "dag_id": "vpoc_nightly", "version_number": 1_000_000}
        session.execute(insert(DagVersion.__table__), [fields])
        tasks = [
            {
                "id": uuid4(),
                "dag_id": "vpoc_nightly",
                "run_id": of,
                "task_id": task,
                "state": state,
                "map_index": -1,
                "pool": "default_pool",
                "dag_version_id": version,
            }
            for of, task, state in states
        ]
        session.execute(insert(TaskInstance.__table__), tasks)
        at = datetime(2026, 5, 14, 23, 30, tzinfo=UTC)
        request = {"subject": "?", "options": ["Approve", "Reject"], "params": {}, "created_at": at}
        answered = {"responded_at": at + timedelta(hours=1), "responded_by": {"id": "1", "name": "anna"}}
        answered |= {"chosen_options": ["Approve"], "params_input": {"note": "covered"}}
        session.execute(insert(HITLDetail.__table__), [{"ti_id": tasks[-1]["id"], "params_input": {}, **request}])
        before = {"task_instance_id": uuid4(), "try_number": 1, "map_index": -1, "pool_slots": 1}
        before |= {name: tasks[-1][name] for name in ("dag_id", "run_id", "task_id", "pool")}
        session.execute(insert(TaskInstanceHistory.__table__), [before])
        cleared = {"ti_history_id": before["task_instance_id"], **request, **answered}
        session.execute(insert(HITLDetailHistory.__table__), [cleared])
        dag = session.get(DagModel, "vpoc_nightly")
        dag.is_paused, dag.next_dagrun_create_after = False, datetime(2026, 5, 18, 22, 30, tzinfo=UTC)
    try:
        page = client.get("/").text
        with create_session() as session:
            waiting, cleared = sorted(approval_requests(session), key=lambda each: each.answer)
    finally:
        with create_session() as session:
            for table in (HITLDetail, HITLDetailHistory, TaskInstanceHistory):
                session.execute(delete(table))
            session.execute(delete(TaskInstance))
            session.execute(delete(DagRun))
            session.execute(delete(DagVersion).where(DagVersion.id == version))
    assert "failed on the machine: train" in page
    assert "skipped: no session on this day" in page
    assert 'href="/vpoc-reports/run/vpoc_nightly/lost"' in page
    assert "waiting for approval" in page
    assert "queued" in page
    assert "Mon 2026-05-18 17:30 CDT" in page
    assert "Answer the request for approval of run vpoc_nightly--open" in page
    assert waiting.path == "/dags/vpoc_nightly/runs/open/tasks/approve/required_actions"
    assert (waiting.run.partition("--")[0], waiting.requested, waiting.answered) == ("vpoc_nightly", at, None)
    assert (cleared.answer, cleared.user, cleared.note) == ("Approve", "anna", "covered")
    assert cleared.answered == at + timedelta(hours=1)


def record_failure(lake, run, name, **record):
    known = {"stage": name, "label": "", "error": "ConfigError", "message": "m", "exit_code": 2}
    (lake / "runs" / run / "failures").mkdir(parents=True, exist_ok=True)
    (lake / "runs" / run / "failures" / f"{name}.json").write_text(json.dumps(known | record))


def test_failed_run_shows_stage_contract_error_message_remedy_time_and_gates_page(client, lake):
    message = "bars: 1 critical check failed <script>alert(1)</script>"
    record_failure(lake, "night-1", "gate_bars", label="ESH25", error="GateFailedError", message=message, exit_code=3)
    page = client.get("/run/vpoc_nightly/night-1").text
    row = page[page.index("<tbody") : page.index("</table>")]
    for shown in (
        "gate_bars",
        "ESH25",
        "GateFailedError",
        "1 critical check failed &lt;script&gt;",
        "Open the gates page",
    ):
        assert shown in row
    assert re.search(r'title="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC">[\d-]+ \d\d:\d\d C[DS]T</time></td>', row)
    assert 'href="/vpoc-reports/gates?night=night-1">gates page</a>' in row
    assert "<script>alert" not in page
    assert 'data-reload="10"' not in page, "a failed run does not reload"


def test_a_run_that_never_started_shows_its_error(client, lake):
    message = "Expected training.epochs to be at least 1; was 0."
    record_failure(lake, "night-3", "resolve_config", error="InvalidValueError", message=message)
    page = client.get("/run/vpoc_nightly/night-3").text
    assert message in page
    assert "Correct the setting in the trigger form" in page
    assert "when the run ends" not in page


def test_index_marks_failed_runs_with_their_reason(client, lake):
    record_failure(lake, "night-1", "train", error="TrainingUnstableError", message="unstable", exit_code=4)
    page = client.get("/runs").text
    assert page.count('class="failed">failed: ') == 1
    assert "failed: train</summary>" in page
    assert "TrainingUnstableError: unstable" in page


def test_failed_stage_of_the_command_line_is_shown_once(client, lake):
    stages = lake / "runs" / "night-1" / "stages"
    stages.mkdir()
    failed = {"stage": "features", "contract": "ESM25", "error": "short", "error_type": "InputError", "exit_code": 5}
    (stages / "features.ESM25.json").write_text(json.dumps(failed))
    (stages / "ingest.ESM25.json").write_text('{"stage": "ingest", "contract": "ESM25"}')
    assert client.get("/run/vpoc_nightly/night-1").text.count("<td>InputError</td>") == 1
    record_failure(
        lake, "night-1", "features_contract", label="ESM25", error="InputError", message="short", exit_code=5
    )
    assert client.get("/run/vpoc_nightly/night-1").text.count("<td>InputError</td>") == 1


def test_damaged_failure_record_is_still_a_failure(client, lake):
    record_failure(lake, "night-1", "train")
    (lake / "runs" / "night-1" / "failures" / "train.json").write_text("")
    assert "Expected the record of a failure" in client.get("/run/vpoc_nightly/night-1").text


def test_page_of_a_running_training_shows_its_curves_and_reloads(client, lake):
    folder = lake / "runs" / "night-4"
    folder.mkdir()
    window = {"kind": "window", "step": 50, "steps_total": 300, "epoch": 1, "loss": 0.03}
    epoch = {"kind": "epoch", "epoch": 1, "epochs_total": 3, "step": 100, "train_loss": 0.021, "best": True}
    epoch |= {"validation_loss": 0.0201, "validation_constant": 0.0203, "lr": 0.004, "rows": 1000, "seconds": 2.0}
    lines = [window, epoch, epoch | {"epoch": 2, "step": 200, "train_loss": None}]
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "win')
    page = client.get("/run/vpoc_nightly/night-4").text
    assert 'data-reload="10"' in page
    assert "epoch 2 of 3: training loss not finite, validation loss 0.020100" in page
    assert re.search(r'<polyline class="validation"[^>]* points="[\d.]+,[\d.]+ [\d.]+,[\d.]+"', page)
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("src=") == 3, "the scripts of the tables, of the links to Airflow and of the reload"
    (folder / "training_result.json").write_text("{}")
    (folder / "report.html").write_text("done")
    after = client.get("/run/vpoc_nightly/night-4").text
    assert "<polyline" not in after
    assert 'data-reload="10"' not in after


def test_a_training_without_recent_records_is_not_shown_as_running(client, lake):
    folder = lake / "runs" / "night-4"
    folder.mkdir()
    (folder / "progress.jsonl").write_text('{"kind": "window", "step": 5, "steps_total": 9, "epoch": 1, "loss": 1.0}\n')
    assert "step 5 of 9" in client.get("/run/vpoc_nightly/night-4").text
    os.utime(folder / "progress.jsonl", (0, 0))
    assert "step 5 of 9" not in client.get("/run/vpoc_nightly/night-4").text


def test_runs_of_two_dags_with_one_id_have_a_page_each(client, lake):
    from vpoc_ml.artifacts.layout import dag_run_name

    for dag in ("vpoc_nightly", "vpoc_contracts"):
        folder = lake / "runs" / dag_run_name(dag, "may:1")
        folder.mkdir()
        (folder / "report.html").write_text(dag)
        page = client.get(f"/run/{dag}/may%3A1").text
        assert f"runs/{folder.name}/report.html" in page
        assert page.count("report.html") == 2, "the link and the frame of its own report"


def test_a_run_without_reports_does_not_show_those_of_an_earlier_versions_folder(client, lake):
    (lake / "runs" / "vpoc_contracts--night-1").mkdir()
    assert "No report yet" in client.get("/run/vpoc_contracts/night-1").text
    assert "runs/night-1/report.html" in client.get("/run/vpoc_nightly/night-1").text


def test_plugin_imports_no_web_framework_until_the_server_needs_it(plugin):
    views = {view["destination"] for view in plugin.VpocReports.external_views}
    assert views == {"nav", "dag_run"}
    assert "fastapi_apps" not in vars(plugin.VpocReports())
    assert plugin.VpocReports().fastapi_apps[0]["url_prefix"] == plugin.PREFIX


def test_the_pages_of_a_run_import_nothing_heavy():
    # a fresh process: this one may have imported anything
    heavy = ("torch", "pandas", "polars", "numba", "great_expectations", "mlflow", "matplotlib")
    loaded = f"[name for name in {heavy!r} if name in sys.modules]"
    program = f"import json, sys, vpoc_ml.reports.run_state; print(json.dumps({loaded}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_users_of_fab_need_the_permissions_of_each_page(tmp_path):
    from vpoc_ml.reports.pages.table import PAGES

    open_pages = [f"/vpoc-reports{page.path}" for page in PAGES if page.title and not page.dags]
    paths = ["/vpoc-reports/", *open_pages, "/vpoc-reports/static/site.css"]
    script = Path(__file__).with_name("fab_roles.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path), *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    refused = {role: {path: status in (401, 403) for path, status in of.items()} for role, of in found.items()}
    assert set(found[""].values()) == {401}
    assert set(found["Public"].values()) == {403}
    assert not any(refused["Admin"].values())
    assert not any(refused["Viewer"].values())
    assert found["Site"]["/vpoc-reports/"] == 403, "the landing page shows runs of a DAG"
    assert not any(refused["Site"][path] for path in paths[1:])
