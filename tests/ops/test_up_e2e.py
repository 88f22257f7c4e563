"""The four real parts of Airflow: what up and down do; the trigger form and the reports in a real browser; backfills.

One start serves all tests, in their order: the lake is empty until the story of the morning after, has four contracts
for the backfills, and at the end the parts are killed. The story's pictures lie in the folder that ``VPOC_SCREENSHOTS``
names, else in pytest's temporary folder. `make cluster-test` has a backfill beside a nightly run, and compares the
artifacts with those of the command line.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from airflow_client.client import AssetApi, DAGRunResponse, ImportErrorApi

from vpoc_ml import config
from vpoc_ml.lake.store import Lake
from vpoc_ml.synthetic.generate import write_market
from vpoc_ops import backfill, parts, supervisor
from vpoc_ops.client import Airflow, RefusedError, connect

from .browser_story import LEARNS, LONGEST_RUN, Story, open_form, submit, type_into

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FIRST_NIGHT = Path(__file__).with_name("first_night.py")
CHROMIUM = Path("/usr/bin/chromium")
ARGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 300.0  # seconds; a busy machine is no failure
CHAIN = ["ESH23", "ESM23"]
LATER = "ESZ23"
ROLLS = ["2023-03-13T22:30", "2023-06-12T22:30"]
OVERRIDE = {"quality.overrides": "outlier_warn=0.5"}
STOLEN = ("parent.fetch", "fetch", "cookie", "top", "storage")
PLANTED = """<!doctype html><title>planted</title><h1 id="found">scripts do not run</h1><img id="probe"><script>
const tries = {
  "parent.fetch": () => window.parent.fetch("/api/v2/dags"),
  "fetch": () => fetch("/api/v2/dags").then((answer) => { if (!answer.ok) throw answer.status; }),
  "cookie": () => { if (!document.cookie) throw "no cookie"; },
  "top": () => window.top.document.title,
  "storage": () => window.localStorage.length,
};
const found = [];
Promise.all(Object.entries(tries).map(async ([name, attempt]) => {
  try { await attempt(); found.push(name); } catch (error) { found.push(name + " refused"); }
})).then(() => { document.getElementById("found").textContent = found.sort().join(", "); });
</script>"""
TYPED = {
    "training.learning_rate": ("1e-4", 1e-4),
    "training.weight_decay": ("1E-3", 1e-3),
    "model.dropout": (".0005", 5e-4),
    "training.huber_delta": ("3e-4", 3e-4),
    "training.gradient_clip": ("1.05", 1.05),
    "promotion.champion_margin": ("-1", -1.0),
    "training.epochs": ("1_000", 1000),
    "training.patience": ("99", 99),
    "training.warmup_steps": ("0", 0),
    "evaluation.round_turn_cost": ("2.50", 2.5),
    "model.hidden_dims": ("64, 32", [64, 32]),
    "features.names": ("vwap, rv_30", ["vwap", "rv_30"]),
    "data.instrument": ("ES", "ES"),
}
WRONG = {
    "training.learning_rate": ("99", "greater than 0 and less than or equal to 10"),
    "training.weight_decay": ("0,01", "with a decimal point"),
    "training.epochs": ("0", "greater than or equal to 1"),
    "training.batch_size": ("-1", "greater than or equal to 1"),
    "training.seed": ("1e-4", "a valid integer"),
    "training.huber_delta": ("nan", "a valid number greater than 0"),
    "model.dropout": ("1", "less than 1"),
}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """The four parts on an empty lake; nothing of them is left afterwards."""
    root = tmp_path_factory.mktemp("up")
    home, lake = root / "home", root / "lake"
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, mlflow = probe.getsockname()[1], other.getsockname()[1]
    up = ["up", "--home", str(home), "--lake", str(lake), "--port", str(port), "--timeout", str(PATIENCE)]
    up += ["--mlflow-port", str(mlflow)]
    processes = []
    try:
        with supervisor.console.capture() as captured:
            assert supervisor.main(up) == 0
        password = json.loads((home / "passwords.json").read_text())["admin"]
        yield SimpleNamespace(
            client=Airflow.of_home(home), url=f"http://127.0.0.1:{port}", password=password, lake=lake, home=home,
            up=up, printed=captured.get(),
        )  # fmt: skip
    finally:
        processes = parts.supervised(home)
        assert supervisor.main(["down", "--home", str(home)]) == 0
    assert len(processes) >= 4
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert parts.supervised(home) == []


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        message = f"chromium not found at {CHROMIUM}; install it to see the pages"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def logged_in(airflow, browser):
    """A browser session that has logged in to Airflow: once, because the pages of Airflow take long to draw."""
    session = browser.new_context(reduced_motion="reduce")
    session.set_default_timeout(1000 * PATIENCE)
    page = session.new_page()
    page.goto(f"{airflow.url}/auth/login")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", airflow.password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{airflow.url}/")
    page.close()
    yield session
    session.close()


@pytest.fixture
def page(logged_in):
    """A page of Airflow, logged in."""
    opened = logged_in.new_page()
    yield opened
    opened.close()


def failure(airflow, dag: str, run_id: str) -> str:
    """Return what a run's first task said when it failed."""
    assert airflow.client.wait_for(dag, [run_id], PATIENCE)[run_id].state.value == "failed"
    (record,) = (json.loads(file.read_text()) for file in airflow.lake.glob("runs/*/failures/*.json"))
    return record["message"]


@pytest.fixture(autouse=True)
def _no_earlier_failure(airflow):
    for file in airflow.lake.glob("runs/*/failures/*.json"):
        file.unlink()


def test_up_serves_on_the_loopback_with_secrets_of_its_own(airflow):
    assert airflow.password in airflow.printed
    assert (airflow.home / "secrets.json").stat().st_mode & 0o077 == 0
    assert (airflow.home / "passwords.json").stat().st_mode & 0o077 == 0
    assert ImportErrorApi(airflow.client.api).get_import_errors().total_entries == 0
    processes = parts.supervised(airflow.home)
    connections = [found for process in processes for found in process.net_connections(kind="tcp")]
    assert {found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_json_numbers_over_rest_are_used_and_those_beyond_the_limits_rejected(airflow):
    with pytest.raises(RefusedError, match=r"training\.epochs") as caught:
        airflow.client.trigger("vpoc_nightly", "beyond", {"training.epochs": 0})
    assert caught.value.status == 400
    conf = {"training.learning_rate": 1e-4, "training.epochs": 3, "model.hidden_dims": [16, 8]}
    run_id = airflow.client.trigger("vpoc_nightly", "numbers", conf).dag_run_id
    airflow.client.wait_for("vpoc_nightly", [run_id], PATIENCE)
    used = airflow.client.result("vpoc_nightly", run_id, "resolve_config")["config"]
    assert (used["training"]["learning_rate"], used["training"]["epochs"]) == (1e-4, 3)
    assert used["model"]["hidden_dims"] == [16, 8]


def test_a_second_up_starts_nothing_and_another_lake_is_rejected(airflow, capsys):
    assert supervisor.main(airflow.up) == 0
    assert "Already up" in capsys.readouterr().out
    assert supervisor.main(["up", "--home", str(airflow.home), "--lake", str(airflow.lake / "other")]) == 2


@pytest.mark.browser
def test_typed_values_are_what_the_run_uses(airflow, page):
    open_form(airflow, page, "vpoc_nightly")
    for name, (text, _) in TYPED.items():
        type_into(page, name, text)
    started = submit(page)
    assert started.status == 200
    run_id = started.json["dag_run_id"]
    airflow.client.wait_for("vpoc_nightly", [run_id], PATIENCE)  # there is no data: what counts is the first task
    used = airflow.client.result("vpoc_nightly", run_id, "resolve_config")["config"]
    for name, (_, value) in TYPED.items():
        section, setting = name.split(".")
        assert used[section][setting] == value, name
    assert used["training"]["batch_size"] == 1024, "an empty field is the preset's value"


@pytest.mark.browser
def test_wrong_values_fail_the_run_with_field_value_and_limits(airflow, page):
    open_form(airflow, page, "vpoc_nightly")
    for name, (text, _) in WRONG.items():
        type_into(page, name, text)
    started = submit(page)
    assert started.status == 200
    message = failure(airflow, "vpoc_nightly", started.json["dag_run_id"])
    for name, (text, limits) in WRONG.items():
        (line,) = (line for line in message.splitlines() if line.startswith(f"Expected {name} to be "))
        assert limits in line
        assert f"was {text!r}" in line
    page.goto(f"{airflow.url}/vpoc-reports/run/vpoc_nightly/{started.json['dag_run_id']}")
    assert "Expected training.learning_rate to be a valid number" in page.inner_text("body")


@pytest.mark.browser
def test_a_wrong_partition_key_is_rejected_with_its_reason_in_the_dialog(airflow, page):
    open_form(airflow, page, "vpoc_contracts")
    page.get_by_role("button", name="Advanced Options").click()
    page.fill("input[name=partitionKey]", "ESG23")
    assert submit(page).status == 400
    alert = page.get_by_test_id("error-alert")
    alert.wait_for()
    assert "ES lists the months H, M, U, Z" in alert.inner_text()


@pytest.mark.browser
def test_script_in_a_report_cannot_reach_airflow(airflow, page):
    folder = airflow.lake / "runs" / "planted"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(PLANTED)
    page.goto(f"{airflow.url}/plugin/vpoc-reports-index")
    reports = page.frame_locator("iframe[title=Reports]")
    reports.get_by_role("link", name="Runs", exact=True).click()
    reports.locator("a[href$='/runs/planted/report.html']").click()
    found = reports.locator("#found")
    found.filter(has_text="parent.fetch").wait_for()
    assert found.inner_text() == ", ".join(sorted(f"{name} refused" for name in STOLEN))
    page.goto(f"{airflow.url}/vpoc-reports/view/runs/planted/report.html")
    page.locator("#found").filter(has_text="parent.fetch").wait_for()
    assert "fetch refused" in page.inner_text("#found").split(", ")
    assert "cookie refused" in page.inner_text("#found").split(", ")


@pytest.mark.browser
def test_the_morning_after(airflow, logged_in, tmp_path):
    subprocess.run([sys.executable, str(FIRST_NIGHT), str(airflow.lake)], check=True)
    shots = Path(os.environ.get("VPOC_SCREENSHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    story = Story(airflow, logged_in, shots)
    story.night_fails()
    story.nan_is_found()
    story.tenfold_bar_is_found()
    story.missing_session_is_found()
    story.promotion_is_approved(LEARNS)
    story.trend_of_a_check()
    story.champion_is_rolled_back(version=2)
    story.tonight_on_a_phone()
    story.mlflow_shows_the_versions()
    story.page.close()


# ---------------------------------------------------------------- contracts


def test_the_environment_drives_this_airflow_as_one_elsewhere(airflow, monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("VPOC_AIRFLOW_URL", airflow.url)
    monkeypatch.setenv("VPOC_AIRFLOW_PASSWORD", airflow.password)
    assert not connect(tmp_path).is_paused(backfill.DAG)
    assert backfill.main(["one", "NQX24", "--home", str(tmp_path)]) == 2
    assert "NQX24" in capfd.readouterr().out, "the reason of that Airflow's timetable"
    assert supervisor.main(["airflow", "--home", str(tmp_path), "dags", "list", "--output", "json"]) == 0
    assert '"vpoc_contracts"' in capfd.readouterr().out
    monkeypatch.setenv("VPOC_AIRFLOW_TOKEN", "no token")
    with pytest.raises(RefusedError):
        connect(tmp_path).is_paused(backfill.DAG)


def cli(airflow, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vpoc_ops.supervisor", "airflow", "--home", str(airflow.home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def runs(airflow, key: str | None = None) -> list[DAGRunResponse]:
    found = list(airflow.client.runs(backfill.DAG))
    return [run for run in found if key in (None, run.partition_key) and run.run_type.value != "scheduled"]


@pytest.fixture(scope="module")
def backfilled(airflow):
    """The runs of a backfill of two of four contracts by Airflow's own command, ended."""
    write_market(airflow.lake / "raw", contracts=4, seed=7)
    dates = ["--from-date", "2023-01-01", "--to-date", "2023-06-12"]
    command = ["backfill", "create", "--dag-id", backfill.DAG, *dates, "--dag-run-conf", json.dumps(OVERRIDE)]
    done = cli(airflow, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    ids = [run.dag_run_id for run in runs(airflow)]
    return list(airflow.client.wait_for(backfill.DAG, ids, LONGEST_RUN).values())


def test_backfill_makes_exactly_one_run_per_contract_and_all_succeed(backfilled):
    made = sorted(backfilled, key=lambda run: run.partition_date)
    assert [run.partition_key for run in made] == CHAIN
    assert [f"{run.partition_date:%Y-%m-%dT%H:%M}" for run in made] == ROLLS
    assert {run.run_type.value for run in made} == {"backfill"}
    assert [run.state.value for run in made] == ["success"] * len(CHAIN)
    assert all(f"backfill__{run.partition_key}__" in run.dag_run_id for run in made)


def test_the_config_hash_of_every_run_includes_the_override(backfilled, airflow):
    hashes = set()
    for run in backfilled:
        key = run.partition_key
        result = airflow.client.result(backfill.DAG, run.dag_run_id, "contract_result")
        assert result["contract"] == key
        assert result["config_hash"] == config.resolve("nightly", OVERRIDE | {"data.contracts": [key]}).digest()
        assert result["config_hash"] != config.resolve("nightly", {"data.contracts": [key]}).digest()
        assert result["rows"] == Lake(airflow.lake).manifest(f"features/ES/{key}.parquet").rows > 50_000
        hashes.add(result["config_hash"])
    assert len(hashes) == len(CHAIN)


def test_asset_events_carry_the_contract(backfilled, airflow):
    events = AssetApi(airflow.client.api).get_asset_events(source_dag_id="vpoc_contracts", limit=100).asset_events
    assert {event.partition_key for event in events} >= set(CHAIN)
    assert all(event.extra["contract"] == event.partition_key for event in events)


def test_one_contract_by_its_partition_key(backfilled, airflow, capsys):
    assert backfill.main(["one", LATER, "--home", str(airflow.home), "--timeout", str(LONGEST_RUN)]) == 0
    (run,) = runs(airflow, LATER)
    assert (run.run_type.value, run.state.value) == ("manual", "success")
    assert f"{run.partition_date:%Y-%m-%dT%H:%M}" == "2023-12-11T23:30"
    assert Lake(airflow.lake).manifest(f"features/ES/{LATER}.parquet").rows > 50_000
    assert LATER in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "reason"),
    [("NQH23", "of ES"), ("esh23", "write it ESH23"), ("ESG23", "H, M, U, Z"), ("tomorrow", "no contract code")],
)
def test_a_wrong_key_is_rejected_with_the_reason_and_starts_nothing(airflow, key, reason, capsys):
    before = len(runs(airflow))
    with pytest.raises(RefusedError) as caught:
        airflow.client.trigger(backfill.DAG, f"wrong-{key}", {}, key)
    assert caught.value.status == 400
    assert reason in str(caught.value)
    assert backfill.main(["one", key, "--home", str(airflow.home)]) == 2
    assert reason in capsys.readouterr().out
    assert len(runs(airflow)) == before


def test_a_contract_that_was_not_delivered_fails(airflow, capsys):
    assert backfill.main(["one", "ESH30", "--home", str(airflow.home), "--timeout", str(LONGEST_RUN)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "ESH30" in printed
    assert "failed" in printed


@pytest.mark.parametrize(("behaviour", "more"), [("none", 0), ("failed", 0), ("completed", 1)])
def test_reprocessing_completed_starts_a_second_run_beside_the_first(backfilled, airflow, capsys, behaviour, more):
    before = runs(airflow, "ESH23")
    span = ["--from", "2023-03-13", "--to", "2023-03-13", "--reprocess", behaviour, "--timeout", str(LONGEST_RUN)]
    assert backfill.main(["range", "--home", str(airflow.home), *span, "-o", "quality.overrides=outlier_warn=0.5"]) == 0
    printed = capsys.readouterr().out
    after = runs(airflow, "ESH23")
    assert len(after) == len(before) + more
    assert {run.dag_run_id for run in before} < {run.dag_run_id for run in after} or not more
    assert ("unchanged" if more else backfill.ALREADY_RUN) in printed


def test_a_range_without_contracts_is_rejected(airflow, capsys):
    assert backfill.main(["range", "--home", str(airflow.home), "--from", "2023-04-01", "--to", "2023-05-01"]) == 2
    assert "No contract has its roll day in 2023-04-01..2023-05-01" in capsys.readouterr().out


# ---------------------------------------------------------------- parts that end


@pytest.mark.parametrize("part", parts.PARTS)
def test_up_restarts_a_killed_part_alone(airflow, capsys, part):
    before = parts.main_ids(airflow.home)
    kill(before[part])
    assert parts.living(airflow.home) == [name for name in parts.PARTS if name != part]
    assert supervisor.main(airflow.up) == 0
    assert f"{part} ended and will be started again" in capsys.readouterr().out
    after = parts.main_ids(airflow.home)
    assert {name for name in parts.PARTS if before[name] != after[name]} == {part}
    assert airflow.client.import_errors(datetime.min.replace(tzinfo=UTC)) == {}


def test_up_beside_a_stray_process_alone_starts_all_parts(airflow, capsys):
    for pid in parts.main_ids(airflow.home).values():
        kill(pid)
    stray, *others = parts.supervised(airflow.home)
    for process in others:
        kill(process.pid)
    assert parts.living(airflow.home) == []
    assert supervisor.main(airflow.up) == 0
    assert "None of the four parts runs" in capsys.readouterr().out
    assert not stray.is_running()
    assert parts.living(airflow.home) == list(parts.PARTS)


def kill(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):  # some processes end with their parent
        process = psutil.Process(pid)
        process.kill()
        psutil.wait_procs([process], timeout=10)
