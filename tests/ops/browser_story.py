"""The morning after, in a real browser: a person finds out why nights failed, approves a model, rolls it back.

``Story`` has one method for each step; each leaves a picture in the folder ``shots``.
"""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from vpoc_airflow.start import COMMON
from vpoc_ml.artifacts.layout import dag_run_name

LEARNS = {
    "training.epochs": "24",
    "model.hidden_dims": "32, 32",
    "dataset.train_share": "0.5",
    "dataset.validation_share": "0.1",
}
"""What the smoke preset needs to find the planted signal of one contract, and to show it."""
NAN_ROWS, TENFOLD_ROWS = 90, 3
LONGEST_RUN = 900.0  # seconds; a busy machine is no failure
STEP_MILLISECONDS = 30_000
READING = 15.0
"""Seconds between a request for approval and the answer: the scheduler has seen by then that the task waits."""
NIGHTLY, CHAMPION = "vpoc_nightly", "vpoc_champion"


def open_form(airflow: SimpleNamespace, page: Any, dag: str) -> None:
    """Open the trigger form of a DAG."""
    page.goto(f"{airflow.url}/dags/{dag}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_test_id("trigger-dag-submit").wait_for()


def section_of(name: str) -> str:
    """Return the title of the section of the nightly form that has a field."""
    return "Common" if name in COMMON or "." not in name else name.split(".")[0].capitalize()


def type_into(page: Any, name: str, text: str, section: str = "") -> None:
    """Type into a field of a form as a person would."""
    field = page.locator(f"[name='element_{name}']")
    if not field.is_visible():
        page.get_by_role("button", name=section or section_of(name), exact=True).click()
    field.click()
    field.press_sequentially(text)
    assert field.input_value() == text


def choose(page: Any, name: str, option: str, section: str = "") -> None:
    """Choose an option of a field with a list."""
    box = page.locator(f"[id='element_{name}']")
    if not box.is_visible():
        page.get_by_role("button", name=section or section_of(name), exact=True).click()
    box.locator("input[role=combobox]").click()
    page.get_by_role("option", name=option, exact=True).click()


def submit(page: Any) -> SimpleNamespace:
    """Press *Trigger*; return status and JSON of Airflow's answer. Leave the page, which a run redraws all the time."""
    with page.expect_response(lambda answer: answer.request.method == "POST" and "dagRuns" in answer.url) as caught:
        page.get_by_test_id("trigger-dag-submit").click()
    answer = SimpleNamespace(status=caught.value.status, json=caught.value.json())
    if answer.status == 200:
        page.goto("about:blank")
    return answer


class Market:
    """The vendor's file of prices, which the story breaks and restores.

    Attributes:
        nan: the first line whose close is not a number.
        tenfold: lines whose prices are ten times as high, by their number in the file.
        day: the day (UTC) that has no bars: most of a session, the first hour of the next.
    """

    def __init__(self, raw: Path) -> None:
        (self.file,) = raw.glob("ES*.txt")
        self.clean = self.file.read_text()

    def restore(self) -> None:
        """Deliver the file as it was."""
        self.file.write_text(self.clean)

    def damage(self) -> None:
        """Deliver the file with three faults, none near another."""
        lines = self.clean.splitlines()
        nan, tenfold, missing = (len(lines) * share // 8 for share in (5, 3, 7))
        lines[nan : nan + NAN_ROWS] = map(without_close, lines[nan : nan + NAN_ROWS])
        lines[tenfold : tenfold + TENFOLD_ROWS] = map(tenfold_prices, lines[tenfold : tenfold + TENFOLD_ROWS])
        self.nan = lines[nan]
        self.tenfold = {number + 1: lines[number] for number in range(tenfold, tenfold + TENFOLD_ROWS)}
        day = lines[missing][:8]
        self.day = f"{day[:4]}-{day[4:6]}-{day[6:]}"
        self.file.write_text("".join(f"{line}\n" for line in lines if not line.startswith(day)))


def without_close(line: str) -> str:
    """Return a line with NaN as its close."""
    fields = line.split(";")
    return ";".join([*fields[:4], "NaN", *fields[5:]])


def tenfold_prices(line: str) -> str:
    """Return a line with ten times its prices."""
    fields = line.split(";")
    return ";".join([fields[0], *(f"{10 * float(price):g}" for price in fields[1:5]), fields[5]])


class Story:
    """The steps, on the Airflow of ``airflow`` and in a browser session that has logged in."""

    def __init__(self, airflow: SimpleNamespace, session: Any, shots: Path) -> None:
        self.airflow, self.session, self.shots = airflow, session, shots
        self.page = session.new_page()
        self.page.set_default_timeout(STEP_MILLISECONDS)
        self.market = Market(airflow.lake / "raw")
        self.reports = f"{airflow.url}/vpoc-reports"
        self.failed_run = self.clean_run = ""

    def look(self, name: str, page: Any = None) -> None:
        """Keep a picture of what the person sees."""
        (page or self.page).screenshot(path=self.shots / f"{name}.png")

    def fill_night(self, settings: dict[str, str], *, approval: bool = False) -> str:
        """Trigger the nightly DAG with preset smoke through its form; return the run's id."""
        open_form(self.airflow, self.page, NIGHTLY)
        choose(self.page, "preset", "smoke")
        if approval:
            choose(self.page, "promotion.require_approval", "true")
        for name, text in settings.items():
            type_into(self.page, name, text)
        self.look(f"form-{'approval' if approval else 'override'}")
        started = submit(self.page)
        assert started.status == 200, started.json
        return str(started.json["dag_run_id"])

    def download(self, link: Any) -> list[dict[str, str]]:
        """Follow a link to a CSV file; return its rows."""
        with self.page.expect_download() as caught:
            link.click()
        return list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text())))

    def night_fails(self) -> None:
        """A file with three faults, an override in the form: the run fails and leads to its gates."""
        self.market.damage()
        self.failed_run = self.fill_night({"training.epochs": "3"})
        ended = self.airflow.client.wait_for(NIGHTLY, [self.failed_run], LONGEST_RUN)[self.failed_run]
        assert ended.state.value == "failed"
        used = self.airflow.client.result(NIGHTLY, self.failed_run, "resolve_config")["config"]
        assert (used["preset"], used["training"]["epochs"]) == ("smoke", 3)

    def nan_is_found(self) -> None:
        """NaN in the file: from the run in Airflow to the quarantined rows as CSV."""
        self.page.goto(f"{self.airflow.url}/dags/{NIGHTLY}/runs/{quote(self.failed_run)}")
        self.page.get_by_role("link", name="Reports", exact=True).last.click()
        reports = self.page.frame_locator("iframe[title=Reports]")
        reports.get_by_role("heading", name="Failed").wait_for()
        self.look("nan-1-run-in-airflow")
        reports.get_by_role("link", name="gates page").click()
        reports.get_by_role("link", name="no row in quarantine").first.click()
        self.look("nan-2-check")
        reports.get_by_role("link", name="Quarantine of ESH23").click()
        reports.get_by_role("heading", name="Quarantine", exact=True).wait_for()
        self.look("nan-3-quarantine")
        rows = self.download(reports.get_by_role("link", name="CSV").first)
        assert any(self.market.nan in row.values() for row in rows), rows[:2]

    def tenfold_bar_is_found(self) -> None:
        """Prices ten times as high: the root cause with file and line, the failing rows as CSV."""
        self.open_gates()
        number, line = next(iter(self.market.tenfold.items()))
        causes = self.page.locator("section.cause")
        assert any(f"line {number}: '{line}'" in text for text in causes.all_inner_texts()), causes.all_inner_texts()
        self.look("tenfold-1-root-cause")
        self.page.get_by_role("link", name="prices within 15 usual session ranges").first.click()
        self.page.get_by_role("heading", name="Failing rows").wait_for()
        assert self.page.locator("tr.failing").count() == TENFOLD_ROWS
        self.page.locator("tr.failing").first.scroll_into_view_if_needed()
        self.look("tenfold-2-failing-rows")
        rows = self.download(self.page.get_by_role("link", name="CSV", exact=True))
        planted = [float(line.split(";")[4]) for line in self.market.tenfold.values()]
        assert [float(row["value"]) for row in rows] == planted

    def missing_session_is_found(self) -> None:
        """A session without most of its bars: the gap calendar, and the missing minutes as CSV."""
        self.open_gates()
        self.page.get_by_role("link", name=re.compile("minutes in a row without a bar")).first.click()
        self.look("missing-1-check")
        self.page.get_by_role("link", name="Gap calendar of ESH23").click()
        self.look("missing-2-gap-calendar")
        rows = self.download(self.page.get_by_role("link", name="CSV").first)
        assert any(row["session"] == self.market.day for row in rows), rows

    def open_gates(self) -> None:
        """Go from the page of the failed run to its gates."""
        self.page.goto(f"{self.reports}/run/{NIGHTLY}/{quote(self.failed_run)}")
        self.page.get_by_role("link", name="gates page").first.click()

    def appears(self, path: str, link: str) -> Any:
        """Open a page again and again until it has a link; return the link."""
        begin = time.monotonic()
        while True:
            self.page.goto(f"{self.reports}{path}")
            found = self.page.get_by_role("link", name=link)
            if found.count():
                return found
            assert time.monotonic() - begin < LONGEST_RUN, self.page.inner_text("main")
            time.sleep(5)  # loading a page takes CPU time from the run

    def promotion_is_approved(self, settings: dict[str, str]) -> None:
        """The file as it was: a candidate waits; evidence first, then the answer in Airflow."""
        self.market.restore()
        run_id = self.fill_night(settings, approval=True)
        self.clean_run = run_id
        evidence = self.appears("/", "Evidence and answer")
        self.look("approval-1-tonight")
        evidence.click()
        self.page.get_by_role("heading", name="The rule").wait_for()
        assert "12 to 1 is required for preset 2" in self.page.inner_text("main")
        answer = self.appears(self.page.url.removeprefix(self.reports), "Answer in Airflow")
        self.look("approval-2-decision-box")
        answer.click()
        self.page.locator("[name='element_note']").fill("costs are known")
        self.look("approval-3-answer")
        time.sleep(READING)  # a person reads; an earlier answer can be lost, docs/reports.md
        with self.page.expect_response(lambda given: given.request.method == "PATCH" and "hitlDetails" in given.url):
            self.page.get_by_test_id("hitl-option-Approve").click()
        self.page.goto("about:blank")
        done = self.airflow.client.wait_for(NIGHTLY, [run_id], LONGEST_RUN)[run_id]
        assert done.state.value == "success"
        self.page.goto(f"{self.reports}/approvals")
        row = self.page.locator("tbody tr").first.inner_text()
        assert re.search(r"Approve\s+admin\s+costs are known", row), row
        self.look("approval-4-answered")

    def trend_of_a_check(self) -> None:
        """The check that failed, night by night: gaps in one night, then none."""
        self.page.goto(f"{self.reports}/gates?gate=bars")
        assert self.page.locator("figure.chart a .fill.bad").count() >= 3  # quarantine, price ranges, gaps
        self.look("trend-1-map")
        self.page.locator("figure.chart a").first.click()
        self.page.get_by_role("heading", name="Failing rows").wait_for()
        run = dag_run_name(NIGHTLY, self.clean_run)
        self.page.goto(f"{self.reports}/gates/{run}/bars/check?column=*&check=gaps&contract=ESH23")
        figure = self.page.locator("figure.chart", has=self.page.get_by_text("Share of defects")).first
        figure.locator("summary").click()
        shares = [float(text) for text in figure.locator("tbody td:nth-child(2)").all_inner_texts()]
        self.page.get_by_role("heading", name="Trend").scroll_into_view_if_needed()
        self.look("trend-2-check")
        assert [share > 0 for share in shares[-2:]] == [True, False], shares

    def champion_is_rolled_back(self, version: int) -> None:
        """The form of the DAG for promotions and rollbacks by hand restores the champion before."""
        self.page.goto(f"{self.reports}/champion")
        assert f"Model version {version}" in self.page.inner_text("h1")
        self.look("rollback-1-champion")
        self.page.get_by_role("link", name="the DAG vpoc_champion").click()
        self.page.get_by_role("button", name="Trigger").first.click()
        self.page.get_by_test_id("trigger-dag-submit").wait_for()
        choose(self.page, "action", "rollback", "Champion")
        type_into(self.page, "reason", "loses money live", "Champion")
        type_into(self.page, "version", str(version), "Champion")
        self.look("rollback-2-form")
        started = submit(self.page)
        assert started.status == 200, started.json
        run_id = started.json["dag_run_id"]
        done = self.airflow.client.wait_for(CHAMPION, [run_id], LONGEST_RUN)[run_id]
        assert done.state.value == "success"
        self.page.goto(f"{self.reports}/models")
        assert "version 1" in self.page.locator("dl.numbers").inner_text()
        assert "loses money live" in self.page.inner_text("main")
        self.look("rollback-3-models")

    def tonight_on_a_phone(self) -> None:
        """The overview in dark mode on a phone: nothing is wider than the screen."""
        phone = self.session.browser.new_context(
            storage_state=self.session.storage_state(),
            viewport={"width": 360, "height": 740},
            color_scheme="dark",
            device_scale_factor=2,
        )
        page = phone.new_page()
        page.goto(f"{self.reports}/")
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", colour)[:3])) < 64, f"{colour} is not dark"
        text = page.inner_text("main")
        assert "version 1" in text
        assert "promoted, approved by admin" in text
        self.look("phone-tonight", page)
        phone.close()

    def mlflow_shows_the_versions(self) -> None:
        """The link on the page of models leads to MLflow, which has the versions."""
        self.page.goto(f"{self.reports}/models/1")
        link = self.page.get_by_role("link", name="In MLflow").get_attribute("href")
        server = str(link).partition("/#/")[0]
        answer = self.page.request.get(f"{server}/ajax-api/2.0/mlflow/model-versions/get?name=vpoc&version=1")
        assert answer.status == 200
        assert answer.json()["model_version"]["version"] == "1"
        refused = self.page.request.get(server, headers={"Host": "attacker.test"})
        assert refused.status == 403
