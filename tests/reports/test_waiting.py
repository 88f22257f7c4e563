"""What the pages say of a training that has not started: what it waits for, why, what to do, when Airflow gives up."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from vpoc_ml.lake.store import Lake
from vpoc_ml.reports.pages.run import StoredRunQuery, run_page, stored_run_page
from vpoc_ml.reports.pages.tonight import TonightQuery, tonight_page
from vpoc_ml.reports.schedule import Schedule, ScheduledRun, WaitingTraining
from vpoc_ml.reports.sentences import waiting_advice, waits_for
from vpoc_ml.reports.site import Site

NOW = datetime(2026, 5, 15, 1, 0, tzinfo=UTC)
RUN = "vpoc_nightly--night-1"
QUEUED = WaitingTraining(
    run=RUN,
    task="train",
    tasks=1,
    queued=True,
    since=NOW - timedelta(minutes=35),
    queue="rocm",
    executor="CeleryExecutor",
    pool="gpu",
    slots=(0, 1),
    worker=False,
    gives_up=NOW + timedelta(hours=17),
)
SCHEDULED = replace(QUEUED, queued=False, worker=None, gives_up=None)


@pytest.fixture
def lake(tmp_path):
    folder = tmp_path / "runs" / RUN
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return Lake(tmp_path)


@pytest.mark.parametrize(
    ("waiting", "need", "advice"),
    [
        (
            QUEUED,
            "a worker of queue rocm",
            "No living worker serves queue rocm. Start one, such as `docker compose up -d",
        ),
        (replace(QUEUED, worker=True), "a worker of queue rocm", "A worker of queue rocm is alive: it is busy"),
        (replace(QUEUED, worker=None), "a worker of queue rocm", "nobody answered in time. `docker compose ps worker"),
        (replace(QUEUED, executor="KubernetesExecutor"), "its pod to start", "`kubectl describe pod`"),
        (replace(QUEUED, executor="LocalExecutor"), "a worker of queue rocm", "check that the scheduler is alive"),
        (SCHEDULED, "a slot of pool gpu", "No slot of the pool is free"),
        (replace(SCHEDULED, slots=(2, 3)), "a slot of pool gpu", "2 of 3 slots of the pool are free"),
        (replace(SCHEDULED, slots=None), "a slot of pool gpu", "There is no pool gpu. `airflow pools set gpu 1"),
    ],
)
def test_need_and_advice_follow_from_what_is_known(waiting, need, advice):
    assert waits_for(waiting) == need
    assert advice in waiting_advice(waiting)


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", "", page.partition("<main")[2]).split())


def test_the_page_of_a_run_says_what_its_training_waits_for(lake):
    waiting = [QUEUED, replace(SCHEDULED, task="train_fold", tasks=12), replace(QUEUED, run="vpoc_nightly--other")]
    page = run_page(Site(lake, NOW, waiting=lambda: tuple(waiting)), RUN)
    text = text_of(page)
    assert page.count("Has been waiting for") == 2
    assert "Waiting: train Has been waiting for a worker of queue rocm since 2026-05-14 19:25 CDT (35 min)." in text
    assert "Pool gpu: 0 of 1 slots free; queue rocm." in text
    assert "if it has not started by 2026-05-15 13:00 CDT (task_queued_timeout)" in text
    assert text.count("task_queued_timeout") == 1, "a task that waits for a slot has no time limit"
    assert "train_fold, 12 tasks" in text
    assert "<code>docker compose ps worker-rocm</code>" in page
    assert 'data-reload="10"' in page


def test_a_run_that_waits_for_nothing_has_no_such_box(lake):
    page = stored_run_page(Site(lake, NOW, waiting=lambda: (replace(QUEUED, run="x"),)), StoredRunQuery(run=RUN))
    assert "Has been waiting" not in page


def test_tonight_leads_to_the_run_whose_training_waits(lake):
    running = ScheduledRun(RUN, "vpoc_nightly", "night-1", "running", NOW - timedelta(hours=2))

    def step(*waiting):
        site = Site(lake, NOW, schedule=lambda: Schedule((running,)), waiting=lambda: waiting)
        return text_of(tonight_page(site, TonightQuery())).partition("What to do next: ")[2]

    assert step(QUEUED).startswith(
        "Open the page of the run: train has been waiting for a worker of queue rocm for 35 min"
    )
    assert step(replace(QUEUED, run="other")).startswith("Wait: the run is in progress")
