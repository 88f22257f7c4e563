"""Alerts: which cause raises one, when it is sent again, and what real servers of each channel receive."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope

from vpoc_ml.artifacts.alert import Alert, AlertRecord, AlertRules, Delivery, both_times
from vpoc_ml.errors import InvalidValueError
from vpoc_ml.lake.store import Lake
from vpoc_ml.pipeline.alert_log import raise_alert, read_alerts, resolve

pytestmark = pytest.mark.usefixtures("airflow_home")
NOW = datetime(2026, 5, 15, 23, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
PASSWORD = "B00KEEPER-token"


def alert(cause: str = "failed:vpoc_nightly:abc", kind: str = "failed", run: str | None = "may", **own: str) -> Alert:
    content = {"title": "vpoc_nightly failed", "found": "The disk <is> full.", "remedy": "Free some space."}
    return Alert.model_validate({"kind": kind, "cause": cause, "dag": "vpoc_nightly", "run": run, **content, **own})


# ------------------------------------------------------------------------------------------------ real servers


class WebServer:
    """An HTTP server that keeps what it receives: path, headers, JSON. ``status`` is its answer, after ``wait``."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], dict[str, object]]] = []
        self.status, self.wait = 200, threading.Event()
        self.wait.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.append((self.path, dict(self.headers), json.loads(body)))
                outer.wait.wait(5)
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Stay quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class MailBox:
    """What an SMTP server does with a message: keep it; with ``refuse``, reject the recipient and repeat a secret."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[tuple[list[str], Message]] = []
        self.refuse = False

    async def handle_RCPT(self, server: SMTP, session: object, envelope: Envelope, address: str, _: object) -> str:
        if self.refuse:
            return f"550 no such user {PASSWORD}"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: object, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.messages.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 ok"


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.wait.set()
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def mail() -> Iterator[MailBox]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    box = MailBox(port)
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box
    server.stop()


@pytest.fixture
def channels(web, mail, monkeypatch):
    """Configure every channel: connections in Airflow's own variables, their ids in those of the project."""
    smtp = {"disable_ssl": True, "disable_tls": True, "from_email": "vpoc@example.com"}
    connections = {
        "VPOC_MAIL": {"conn_type": "smtp", "host": "127.0.0.1", "port": mail.port, "extra": smtp},
        "VPOC_CHAT": {"conn_type": "slackwebhook", "host": f"{web.url}/services", "password": f"T0/{PASSWORD}"},
        "VPOC_HOOK": {"conn_type": "http", "host": f"{web.url}/alerts", "login": "desk", "password": PASSWORD},
    }
    for name, content in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(content))
    named = {"SMTP": "vpoc_mail", "MAIL_TO": "desk@example.com, risk@example.com", "SLACK": "vpoc_chat"}
    for name, value in (named | {"WEBHOOK": "vpoc_hook"}).items():
        monkeypatch.setenv(f"VPOC_ALERT_{name}", value)


def sent_record(**own: object) -> AlertRecord:
    content = {**alert(page="http://desk/run").to_json(), "at": NOW.isoformat(), "first": NOW.isoformat()}
    return AlertRecord.model_validate({**content, "state": "sent", **own})


def test_every_channel_receives_the_message(channels, web, mail):
    from vpoc_airflow.alert_channels import deliver

    deliveries = deliver(sent_record())
    assert [(each.channel, each.delivered) for each in deliveries] == [
        ("e-mail", True),
        ("slack", True),
        ("webhook", True),
    ], deliveries
    ((to, message),) = mail.messages
    text = message.get_payload(0).get_payload(decode=True).decode()
    assert to == ["desk@example.com", "risk@example.com"]
    assert message["Subject"] == "[vpoc] vpoc_nightly failed"
    assert "The disk &lt;is&gt; full." in text
    assert '<a href="http://desk/run">' in text
    (slack_path, _, slack), (hook_path, headers, hook) = web.received
    assert (slack_path, hook_path) == (f"/services/T0/{PASSWORD}", "/alerts")
    assert slack["text"] == "*[vpoc] vpoc_nightly failed*"
    assert "What to do: Free some space." in slack["attachments"][0]["text"]
    assert headers["Authorization"].startswith("Basic ")
    assert (hook["kind"], hook["found"], hook["run"]) == ("failed", "The disk <is> full.", "may")
    assert "Fri 2026-05-15 18:05 CDT (23:05 UTC)" in hook["message"]


def test_a_channel_that_fails_is_reported_without_its_secrets(channels, web, mail, caplog, monkeypatch):
    from vpoc_airflow.alert_channels import deliver

    web.status, mail.refuse = 403, True
    monkeypatch.setenv("AIRFLOW_CONN_VPOC_CHAT", json.dumps({"conn_type": "http", "host": f"ftp://x/{PASSWORD}"}))
    deliveries = deliver(sent_record())
    assert [each.delivered for each in deliveries] == [False, False, False]
    reasons = [each.reason for each in deliveries]
    assert "550" in reasons[0]
    assert "Expected an http(s) address" in reasons[1]
    assert "HTTP Error 403" in reasons[2]
    assert "failed: HTTPError" in caplog.text
    assert PASSWORD not in f"{reasons[1:]}"
    web.status = 302
    assert "302" in deliver(sent_record())[2].reason


def test_a_server_that_does_not_answer_costs_the_time_limit_and_no_more(channels, web, monkeypatch):
    from vpoc_airflow import alert_channels

    web.wait.clear()
    monkeypatch.setattr(alert_channels, "SECONDS", 0.2)
    monkeypatch.delenv("VPOC_ALERT_SMTP")
    monkeypatch.setenv("AIRFLOW_CONN_VPOC_HOOK", "")
    slack, hook = alert_channels.deliver(sent_record())
    assert "timed out" in slack.reason.lower()
    assert "vpoc_hook" in hook.reason  # and the other channel was tried all the same


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://hooks.example.com/services/T0", "https://hooks.example.com/services/T0"),
        ("http://127.0.0.1:8065/hooks/xyz", "http://127.0.0.1:8065/hooks/xyz"),
        ('{"conn_type": "http", "host": "https://h.example.com/a?b=c"}', "https://h.example.com/a?b=c"),
        ('{"conn_type": "slackwebhook", "host": "h.example.com", "schema": "http"}', "http://h.example.com"),
        ('{"conn_type": "http", "host": "h.example.com", "port": 90, "schema": "https"}', "https://h.example.com:90"),
    ],
)
def test_address_of_a_connection(uri, address, monkeypatch):
    from airflow.sdk import BaseHook

    from vpoc_airflow.alert_channels import address_of

    monkeypatch.setenv("AIRFLOW_CONN_SOME", uri)
    assert address_of(BaseHook.get_connection("some")) == address


def test_command_sends_one_message_and_its_exit_code_says_whether_all_channels_have_it(
    channels, web, mail, monkeypatch, tmp_path, capsys
):
    from vpoc_airflow.alert_test import main

    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    assert main([]) == 0
    assert capsys.readouterr().out.count("delivered") == 3
    assert len(mail.messages) == 1
    web.status = 500
    assert main(["--json"]) == 1
    assert [each["delivered"] for each in json.loads(capsys.readouterr().out)] == [True, False, False]
    assert PASSWORD not in (tmp_path / "alerts.jsonl").read_text()
    for name in ("SMTP", "SLACK", "WEBHOOK"):
        monkeypatch.delenv(f"VPOC_ALERT_{name}")
    assert main([]) == 2
    monkeypatch.setenv("VPOC_ALERT_MUTE", "everything")
    assert main([]) == 2


# ------------------------------------------------------------------------------------------------ when it is sent


class Sent:
    """Stand in for the channels; ``works`` is whether they deliver."""

    def __init__(self) -> None:
        self.records: list[AlertRecord] = []
        self.works = True

    def __call__(self, record: AlertRecord) -> tuple[Delivery, ...]:
        self.records.append(record)
        return (Delivery(channel="webhook", delivered=self.works),)


@pytest.fixture
def raising(tmp_path):
    """Raise an alert some hours after ``NOW``; return its record, or None. Also the lake and what was sent."""
    lake, sent = Lake(tmp_path), Sent()

    def call(hours: float, what: Alert | None = None, rules: AlertRules | None = None) -> AlertRecord | None:
        return raise_alert(lake, what or alert(run=f"run {hours}"), NOW + hours * HOUR, rules or AlertRules(), sent)

    return SimpleNamespace(call=call, lake=lake, sent=sent)


def test_a_cause_is_sent_once_and_again_as_a_reminder(raising):
    states = [raising.call(hours).state for hours in (0, 24, 48, 72, 96, 144)]
    assert states == ["sent", "repeated", "repeated", "sent", "repeated", "sent"]
    assert [record.number for record in raising.sent.records] == [1, 4, 6]
    assert "Occurrence 4 since Fri 2026-05-15 18:05 CDT (23:05 UTC)." in raising.sent.records[1].message()
    assert [each.state for each in read_alerts(raising.lake)] == states
    assert raising.call(200, alert("failed:vpoc_nightly:other")).state == "sent"


def test_no_reminder_where_it_is_switched_off(raising):
    rules = AlertRules(reminder=None)
    assert [raising.call(hours, rules=rules).state for hours in (0, 5000)] == ["sent", "repeated"]


def test_a_run_sends_one_message_however_many_of_its_tasks_fail(raising):
    assert raising.call(0, alert()).state == "sent"
    assert raising.call(1, alert()) is None
    assert raising.call(1, alert("gate-failed:vpoc_nightly:x", "gate-failed")) is None
    assert raising.call(1, alert("deadline:vpoc_nightly", "deadline")).state == "sent"


def test_an_undelivered_alert_is_tried_again(raising):
    raising.sent.works = False
    assert raising.call(0, alert()).state == "undelivered"
    raising.sent.works = True
    assert raising.call(1, alert()).state == "sent"


def test_a_resolved_cause_is_reported_once_and_starts_anew(raising):
    raising.call(0)
    raising.call(24, alert("failed:vpoc_maintenance:x"))
    prefixes = ["failed:vpoc_nightly:"]
    assert resolve(raising.lake, prefixes, ["failed:vpoc_nightly:abc"], NOW + 48 * HOUR) == []
    (found,) = resolve(raising.lake, prefixes, [], NOW + 48 * HOUR)
    assert (found.kind, found.title) == ("resolved", "Resolved: vpoc_nightly failed")
    assert raising.call(48, found).state == "sent"
    assert resolve(raising.lake, prefixes, [], NOW + 49 * HOUR) == []
    again = raising.call(50)
    assert (again.state, again.number) == ("sent", 1)


def test_a_muted_kind_is_recorded_and_neither_sent_nor_resolved_aloud(raising):
    rules = AlertRules(muted=frozenset({"failed"}))
    assert raising.call(0, rules=rules).state == "muted"
    (found,) = resolve(raising.lake, ["failed:"], [], NOW)
    assert raising.call(1, found).state == "muted"
    assert raising.sent.records == []


def test_without_a_channel_the_log_is_the_channel(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    record = raise_alert(Lake(tmp_path), alert(), NOW, AlertRules(), lambda record: ())
    assert (record.state, record.deliveries) == ("sent", ())
    assert "The disk <is> full." in caplog.text


def test_an_alert_is_sent_although_the_lake_cannot_be_used(tmp_path, caplog):
    (tmp_path / "lake").write_text("no folder")
    sent = Sent()
    assert raise_alert(Lake(tmp_path / "lake"), alert(), NOW, AlertRules(), sent).state == "sent"
    assert len(sent.records) == 1
    assert "The earlier alerts are not known" in caplog.text


def test_a_damaged_line_is_ignored_and_kept(raising, tmp_path, caplog):
    raising.call(0)
    with (tmp_path / "alerts.jsonl").open("a") as file:
        file.write('{"kind": "fai')
    assert raising.call(1).state == "repeated"
    assert "line 2: expected an alert" in caplog.text
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == 3


def test_times_are_in_chicago_and_utc_also_over_a_change_of_the_date():
    assert both_times(datetime(2026, 1, 16, 3, 0, tzinfo=UTC)) == "Thu 2026-01-15 21:00 CST (2026-01-16 03:00 UTC)"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VPOC_ALERT_MUTE", "failed, everything"),
        ("VPOC_ALERT_REMINDER_HOURS", "three"),
        ("VPOC_ALERT_REFUSED_NIGHTS", "-1"),
        ("VPOC_ALERT_STALE_SESSIONS", "10001"),
    ],
)
def test_a_wrong_setting_is_rejected_by_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidValueError, match=name):
        AlertRules.read()


# ------------------------------------------------------------------------------------------------ what raises one


def test_every_dag_and_every_task_has_the_notifier(bag):
    from vpoc_airflow.alerts import AlertNotifier

    assert bag.import_errors == {}
    assert len(bag.dags) == 5
    for dag in bag.dags.values():
        assert isinstance(dag.on_failure_callback, AlertNotifier), dag.dag_id
        assert dag.on_failure_callback.event == "failed"
        for task in dag.tasks:
            own = task.on_failure_callback  # a mapped task's is no list
            (notifier,) = own if isinstance(own, list) else [own]
            assert isinstance(notifier, AlertNotifier), task.task_id
            assert not task.on_retry_callback
    ended = {name for name, dag in bag.dags.items() if isinstance(dag.on_success_callback, AlertNotifier)}
    assert ended == {"vpoc_nightly", "vpoc_maintenance"}
    assert [each.event for each in bag.dags["vpoc_nightly"].get_task("approve").notifiers] == ["waiting"]


@pytest.mark.slow
def test_a_failed_gate_is_one_alert_with_reason_remedy_and_page(run_dag):
    run = run_dag(fail="gate")
    (record,) = read_alerts(Lake(run.folder.parents[1]))
    assert (record.kind, record.dag, record.run, record.state) == ("gate-failed", "vpoc_nightly", run.id, "sent")
    assert record.title == "vpoc_nightly: gate_features failed"
    assert record.found == "DATA GATE FAILED  features: 3 critical"
    assert "Open the gates page" in record.remedy
    assert "/vpoc-reports/run/vpoc_nightly/manual__" in record.page


@pytest.mark.slow
def test_repeated_attempts_are_one_alert_and_a_repeated_night_is_none(run_dag, dag, fakes, monkeypatch):
    monkeypatch.setattr(dag.get_task("evaluate"), "retry_delay", timedelta(0))
    monkeypatch.setitem(fakes.FAILURES, "machine", ("evaluate", OSError("disk 17 is away")))
    run = run_dag(fail="machine")
    assert run.fake.stages().count("evaluate") == 3
    lake = Lake(run.folder.parents[1])
    (record,) = read_alerts(lake)
    assert record.title == "vpoc_nightly failed at evaluate: OSError"
    monkeypatch.setitem(fakes.FAILURES, "machine", ("evaluate", OSError("disk 18 is away")))
    run_dag(fail="machine")
    assert [each.state for each in read_alerts(lake)] == ["sent", "repeated"]


def test_a_run_that_airflow_stops_is_an_alert_without_any_record_of_a_task(tmp_path):
    from vpoc_airflow.alerts import failure_alert

    found = failure_alert(Lake(tmp_path), "vpoc_search", "may", {"reason": "timed_out"})
    assert (found.kind, found.title) == ("failed", "vpoc_search exceeded its time limit")
    assert "VPOC_RUN_TIMEOUT_HOURS" in found.found
    killed = {"reason": "task_failure", "task_instance": SimpleNamespace(task_id="search")}
    assert failure_alert(Lake(tmp_path), "vpoc_search", "may", killed).title == "vpoc_search failed at search"


def test_gates_that_fail_at_other_checks_are_other_causes(tmp_path):
    from vpoc_airflow.alerts import failure_alert
    from vpoc_ml.errors import GateFailedError
    from vpoc_ml.pipeline.run import record_failure

    lake = Lake(tmp_path)

    def cause(run: str, *checks: str) -> str:
        name = f"vpoc_nightly--{run}"
        failures = [{"column": "close", "check": check, "severity": "critical"} for check in checks]
        record_failure(lake, name, "gate_bars", "", GateFailedError(f"Gate bars FAILED on {run}", {}))
        lake.write_json(f"runs/{name}/stages/gate-bars.json", {"failures": failures})
        return failure_alert(lake, "vpoc_nightly", run, {"reason": "task_failure"}).cause

    assert cause("a", "stale", "gap") == cause("b", "gap", "stale")
    assert cause("c", "gap") != cause("a", "stale", "gap")


def test_a_notifier_never_raises(caplog, monkeypatch, tmp_path):
    from vpoc_airflow.alerts import FAILED, AlertNotifier

    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    AlertNotifier(FAILED)({"dag": None})
    assert "could not be raised" in caplog.text


def test_a_failure_is_sent_although_the_lake_cannot_be_opened(channels, mail, monkeypatch):
    from vpoc_airflow.alerts import FAILED, AlertNotifier

    monkeypatch.setenv("VPOC_LAKE", "nowhere://bucket/es")
    instance = SimpleNamespace(task_id="plan_contracts")
    dag = SimpleNamespace(dag_id="vpoc_nightly")
    context = {"dag": dag, "run_id": "may", "task_instance": instance, "exception": OSError("no network")}
    AlertNotifier(FAILED).notify(context)
    ((_, message),) = mail.messages
    assert message["Subject"] == "[vpoc] vpoc_nightly failed at plan_contracts"
    assert "no network" in message.get_payload(0).get_payload(decode=True).decode()


def test_a_waiting_candidate_and_a_missed_deadline_raise_alerts(monkeypatch, tmp_path):
    from vpoc_airflow.alerts import waiting
    from vpoc_airflow.time_limits import record_missed_deadline

    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    task = SimpleNamespace(response_timeout=12 * HOUR)
    waiting({"dag": SimpleNamespace(dag_id="vpoc_nightly"), "run_id": "may", "task": task}, AlertRules())
    run = {"dag_id": "vpoc_nightly", "dag_run_id": "may", "state": "queued"}
    for _ in range(2):
        record_missed_deadline({"dag_run": run, "deadline": {"id": "1", "deadline_time": "2026-05-15T10:30:00Z"}})
    first, second = read_alerts(Lake(tmp_path))
    assert (first.kind, second.kind) == ("waiting", "deadline")
    assert "waits for 12 hours" in first.found
    assert "Expected run may to end by Fri 2026-05-15 05:30 CDT (10:30 UTC); it is queued." in second.found


def broker(queues):
    """A broker whose workers serve ``queues``; None: it does not answer."""

    def served(url, seconds):
        assert url == "redis://broker/0"
        if queues is None:
            raise ConnectionError("no broker")
        return queues

    return served


@pytest.mark.parametrize(
    ("settings", "queues", "kinds"),
    [
        ({}, {"default"}, ["no-worker"]),
        ({}, {"default", "rocm"}, []),
        ({}, None, []),
        ({"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}, set(), []),
        ({"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor,KubernetesExecutor"}, set(), ["no-worker"]),
        ({"AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor,CeleryExecutor"}, set(), []),
        (
            {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor,CeleryExecutor", "VPOC_TRAIN_EXECUTOR": "CeleryExecutor"},
            set(),
            ["no-worker"],
        ),
        ({"VPOC_TRAIN_EXECUTOR": "KubernetesExecutor"}, set(), []),
    ],
)
def test_a_run_without_a_worker_for_its_trainings_raises_an_alert(monkeypatch, tmp_path, settings, queues, kinds):
    from vpoc_airflow import alerts

    celery = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", "AIRFLOW__CELERY__BROKER_URL": "redis://broker/0"}
    for name, value in (celery | settings | {"VPOC_LAKE": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("vpoc_airflow.alerts.served_queues", broker(queues))
    for run in ("may", "june"):
        alerts.training_worker_missing("vpoc_nightly", run)
    records = read_alerts(Lake(tmp_path))
    assert [each.kind for each in records[:1]] == kinds
    assert [each.state for each in records] == ["sent", "repeated"] * len(kinds)
    if records:
        assert "docker compose up -d worker-rocm" in records[0].remedy


def test_the_start_of_a_night_asks_for_a_worker(monkeypatch, tmp_path):
    from vpoc_airflow import start

    requests = []
    monkeypatch.setattr("vpoc_airflow.start.alerts.training_worker_missing", lambda *run: requests.append(run))
    monkeypatch.setattr("vpoc_airflow.start.begin", lambda *arguments: {"preset": "smoke"})
    monkeypatch.setattr("vpoc_ml.pipeline.champion_stages.check_registry", lambda lake: None)
    monkeypatch.setattr("vpoc_airflow.stage_tasks.current_run", lambda: "vpoc_nightly__may")
    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    now = datetime(2026, 5, 15, 23, tzinfo=UTC)
    run = SimpleNamespace(
        dag_id="vpoc_nightly", run_id="may", conf={}, start_date=now, run_after=now, run_type="manual"
    )
    params = {name: param.value for name, param in start.form_params().items()}
    assert start.resolve(params, run) == {"preset": "smoke"}
    assert requests == [("vpoc_nightly", "may")]


def test_the_request_for_approval_raises_an_alert_before_it_waits(dag, monkeypatch, tmp_path):
    from airflow.providers.standard.operators import hitl

    monkeypatch.setenv("VPOC_LAKE", str(tmp_path))
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **request: None)
    approve = dag.get_task("approve")
    context = {"dag": dag, "run_id": "may", "task": approve, "task_instance": SimpleNamespace(id="7")}
    with pytest.raises(hitl.TaskAwaitingInput):
        approve.execute(context)
    (record,) = read_alerts(Lake(tmp_path))
    assert (record.kind, record.state, record.run) == ("waiting", "sent", "may")


def test_a_night_without_a_run_is_missed_and_one_that_started_late_is_not(tmp_path):
    from vpoc_ml.pipeline.night_alerts import missed_alert, missed_nights

    lake, now = Lake(tmp_path), datetime(2026, 5, 30, 11, 0, tzinfo=UTC)  # Saturday morning
    assert missed_nights(lake, "vpoc_nightly", "CME Globex Equity", now) == []  # nothing has ever run

    def started(name: str, when: str, as_of: str | None = None) -> None:
        lake.write_json(f"runs/vpoc_nightly--{name}/inputs.json", {"started": when, "as_of": as_of})

    started("thursday", "2026-05-21T22:30:02+00:00")
    evening = datetime(2026, 5, 21, 22, 40, tzinfo=UTC)
    assert missed_nights(lake, "vpoc_nightly", "CME Globex Equity", evening) == []
    started("friday", "2026-05-24T01:00:00+00:00")  # the scheduler was down until Saturday
    started("past", "2026-05-28T23:00:00+00:00", as_of="2026-05-14T22:30:00+00:00")
    started("friday-after", "2026-05-29T22:31:00+00:00")
    lake.write_json("runs/vpoc_contracts--x/inputs.json", {"started": "2026-05-27T22:31:00+00:00"})
    lake.write_json("runs/vpoc_nightly--failed/failures/resolve_config.json", {})
    failed = {"at": "2026-05-26T22:31:00+00:00", "first": "2026-05-26T22:31:00+00:00", "state": "sent"}
    lake.write_text("alerts.jsonl", AlertRecord.model_validate({**alert().to_json(), **failed}).model_dump_json())
    missed = missed_nights(lake, "vpoc_nightly", "CME Globex Equity", now)
    assert missed == [date(2026, 5, 25), date(2026, 5, 27), date(2026, 5, 28)]
    assert "2026-05-27, 2026-05-28" in missed_alert(missed, "vpoc_nightly").found


@pytest.fixture
def night(tmp_path):
    """A run of tonight that has ended without any cause of an alert; ``write`` replaces a record. Also its alerts."""
    from vpoc_ml import config
    from vpoc_ml.pipeline.night_alerts import night_alerts

    lake, folder = Lake(tmp_path), "runs/vpoc_nightly--may"
    lake.write_text(f"{folder}/config.json", config.resolve("nightly").to_json())
    lake.write_json(f"{folder}/inputs.json", {"started": NOW.isoformat(), "as_of": None, "raw": None, "vix": None})

    def write(name: str, **content: object) -> None:
        lake.write_json(f"{folder}/{name}.json", content)

    def bars(age: int) -> None:
        verdict = {"gate": "bars", "run": "may", "contracts": ["ESM26"], "checks": 1, "failures": [], "report": ""}
        write("stages/gate-bars", **verdict, newest_bar="2026-05-14T20:59:00+00:00", age_sessions=age)

    def live(log_fading: float) -> None:
        record = {"preset": "abcdefgh12", "version": 4, "champion": True, "sessions": 80, "since": "2026-01-05"}
        evidence = {"rank_ic": 0.001, "track_rank_ic": 0.02, "log_for": 0.1, "log_against": 0.2}
        records = [{**record, **evidence, "log_fading": log_fading}]
        write("stages/live-record", rows_in=1, rows_out=1, skipped=False, records=records)

    bars(0)
    live(1.0)

    def alerts(**rules: int) -> list[Alert] | None:
        return night_alerts(lake, "vpoc_nightly--may", AlertRules(**rules))

    return SimpleNamespace(lake=lake, write=write, bars=bars, live=live, alerts=alerts)


def test_a_sound_night_raises_nothing(night):
    assert night.alerts() == []


def test_stale_bars_and_refused_scores_are_one_alert(night):
    night.bars(1)
    (found,) = night.alerts()
    assert (found.kind, found.cause) == ("stale-data", "stale-data:ES")
    assert "1 later session(s) are missing" in found.found
    assert night.alerts(stale_sessions=2) == night.alerts(stale_sessions=0) == []
    night.write("stages/score", rows_in=0, rows_out=0, skipped=True, refused=True, note="The VIX file ends on May 3.")
    (found,) = night.alerts()
    assert found.found.endswith("Nothing was scored: The VIX file ends on May 3.")


def test_a_fading_champion_raises_an_alert(night):
    night.live(5.6)  # log(250) is 5.52
    (found,) = night.alerts()
    assert (found.kind, found.cause) == ("decay", "decay:ES-1m-rank:abcdefgh12")
    assert "below half of the track record" in found.found


def test_refusals_in_a_row_raise_an_alert_every_so_many_nights(night, monkeypatch):
    from vpoc_ml.pipeline import night_alerts

    def entries(nights: int, key: str = "ES-1m-rank") -> list[SimpleNamespace]:
        times = [(NOW + day * 24 * HOUR).isoformat() for day in range(nights) for _ in range(2)]
        return [SimpleNamespace(key=key, action="refuse", time=time) for time in times]

    promoted = SimpleNamespace(key="ES-1m-rank", action="promote", time=NOW.isoformat())

    def refused(*ledger: SimpleNamespace) -> int:
        monkeypatch.setattr(night_alerts, "existing_registry", lambda lake: SimpleNamespace(entries=lambda: ledger))
        return len(night.alerts(refused_nights=3))

    assert refused(*entries(3)) == 0  # this night has no decision
    state = {"state": "refused", "promote": False, "reasons": ["rank IC is low."]}
    night.write("decision", **state, key="ES-1m-rank", version=1, champion_before=None, remark=None, approval=None)
    numbers = [refused(*entries(20, "NQ-1m-rank"), *entries(9), promoted, *entries(nights)) for nights in range(1, 7)]
    assert numbers == [0, 0, 1, 0, 0, 1]
    assert "rank IC is low." in night.alerts(refused_nights=3)[0].found


def test_a_day_without_a_session_raises_nothing(night):
    night.lake.storage.delete("runs/vpoc_nightly--may/inputs.json")
    assert night.alerts() is None


def test_a_past_night_raises_nothing(night):
    night.bars(2)
    past = {"started": NOW.isoformat(), "as_of": "2026-01-05T23:30:00+00:00", "raw": None, "vix": None}
    night.write("inputs", **past)
    assert night.alerts() is None


def test_a_sound_night_resolves_the_failure_of_the_last_one(night, monkeypatch):
    from vpoc_airflow import alerts
    from vpoc_ml.pipeline.alert_log import raise_alert as raise_one

    monkeypatch.setenv("VPOC_LAKE", str(night.lake.root))
    night.write("inputs", started=datetime.now(UTC).isoformat(), as_of=None, raw=None, vix=None)  # no night is due
    raise_one(night.lake, alert(run="yesterday"), datetime.now(UTC) - 24 * HOUR, AlertRules(), lambda record: ())
    alerts.ended({"dag": SimpleNamespace(dag_id="vpoc_nightly"), "run_id": "may"}, AlertRules())
    newest = read_alerts(night.lake)[-1]
    assert (newest.kind, newest.title, newest.state) == ("resolved", "Resolved: vpoc_nightly failed", "sent")
