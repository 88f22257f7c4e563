"""The channels of alerts: e-mail, a Slack-compatible webhook and a generic one, each an Airflow connection.

Every channel is tried once, with a time limit, after the alert has been logged. A channel that fails is reported with
its reason; it raises nothing and does not keep the others from working. Reasons contain no part of a connection.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import socket
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import BaseHook, Connection

from vpoc_ml import environment
from vpoc_ml.artifacts.alert import AlertKind, AlertRecord, Delivery
from vpoc_ml.errors import ConfigError

log = logging.getLogger(__name__)

SECONDS = 10
"""Time limit of each request. Airflow stops the callbacks of a DAG's end after 50 seconds, all channels included."""
SHORTEST_SECRET = 4
"""Characters of a part of a connection that is removed from reasons; shorter ones are no secrets."""
COLOURS = {AlertKind.RESOLVED: "good", AlertKind.TEST: "good", AlertKind.WAITING: "warning"}
DANGER = "danger"

Channel = Callable[[Connection, AlertRecord], None]


def configured() -> list[tuple[str, str, Channel]]:
    """Return name, id of the connection and function of every channel that the environment names."""
    known: list[tuple[str, str, Channel]] = [
        ("e-mail", environment.ALERT_SMTP, send_mail),
        ("slack", environment.ALERT_SLACK, send_slack),
        ("webhook", environment.ALERT_WEBHOOK, send_webhook),
    ]
    named = [(name, environment.read(variable), send) for name, variable, send in known]
    return [(name, conn_id, send) for name, conn_id, send in named if conn_id]


def deliver(record: AlertRecord) -> tuple[Delivery, ...]:
    """Hand an alert to every configured channel and return what each did with it; raises nothing."""
    return tuple(_delivered(name, conn_id, send, record) for name, conn_id, send in configured())


def _delivered(name: str, conn_id: str, send: Channel, record: AlertRecord) -> Delivery:
    secrets: list[str] = []
    try:
        connection = BaseHook.get_connection(conn_id)
        secrets = _secrets(connection)
        send(connection, record)
    except Exception as error:  # noqa: BLE001 - whatever a server or a connection does, the run must not notice
        reason = f"{type(error).__name__}: {error}"
        for secret in secrets:
            reason = reason.replace(secret, "***")
        log.warning("Alert channel %s (connection %s) failed: %s", name, conn_id, reason)
        return Delivery(channel=name, delivered=False, reason=reason)
    return Delivery(channel=name, delivered=True)


def _secrets(connection: Connection) -> list[str]:
    """Return the parts of a connection that no text may contain, the longest first."""
    parts = [connection.password, connection.login, connection.schema, *map(str, connection.extra_dejson.values())]
    if connection.conn_type != "smtp":  # of a webhook, the address is the secret
        parts += [connection.host, urlsplit(connection.host or "").path.strip("/")]
    return sorted({each for each in parts if each and len(each) >= SHORTEST_SECRET}, key=len, reverse=True)


class _BoundedSmtpHook(SmtpHook):  # type: ignore[misc]  # Airflow has no types
    """Airflow's hook with a time limit of its own; the default of 5 repetitions of 30 seconds is too long here."""

    timeout = SECONDS
    smtp_retry_limit = 0


def send_mail(connection: Connection, record: AlertRecord) -> None:
    """Send an alert by e-mail to ``VPOC_ALERT_MAIL_TO``; the connection is Airflow's type ``smtp``.

    Raises:
        ConfigError: no address is known.
    """
    to = [each.strip() for each in (environment.read(environment.ALERT_MAIL_TO) or "").split(",") if each.strip()]
    if not to:
        raise ConfigError(f"Expected addresses in {environment.ALERT_MAIL_TO}, separated by commas; was empty.")
    text = html.escape(record.message()).replace("\n", "<br>\n")
    if record.page:
        address = html.escape(record.page)
        text = text.replace(address, f'<a href="{address}">{address}</a>')
    with _BoundedSmtpHook(connection.conn_id) as hook:
        sender = hook.from_email or f"vpoc@{socket.getfqdn()}"
        hook.send_email_smtp(to=to, subject=f"[vpoc] {record.title}", html_content=text, from_email=sender)


def send_slack(connection: Connection, record: AlertRecord) -> None:
    """Send an alert as a message of Slack's incoming webhooks, which Mattermost, Rocket.Chat and Discord also take."""
    text = record.message().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    attachment = {"color": COLOURS.get(record.kind, DANGER), "text": text, "fallback": record.title}
    _post(connection, {"text": f"*[vpoc] {record.title}*", "attachments": [attachment]}, token_in_path=True)


def send_webhook(connection: Connection, record: AlertRecord) -> None:
    """Send an alert as one JSON object: the fields of its record and the complete ``message``."""
    content = record.model_dump(mode="json", exclude={"deliveries"})
    _post(connection, content | {"message": record.message()}, token_in_path=False)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treat a redirect as an error: the new request would lose the alert."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _post(connection: Connection, content: dict[str, Any], *, token_in_path: bool) -> None:
    """POST an object as JSON.

    Raises:
        ConfigError: the connection has no http(s) address.
        OSError: the server does not answer in time, or answers with an error.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "vpoc-ml"}
    url, password = address_of(connection), connection.password
    if password and token_in_path:
        url = f"{url.rstrip('/')}/{password.lstrip('/')}"
    elif password and connection.login:
        pair = base64.b64encode(f"{connection.login}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    elif password:
        headers["Authorization"] = f"Bearer {password}"
    request = urllib.request.Request(url, json.dumps(content).encode(), headers, method="POST")  # noqa: S310 - http(s)
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS):
        pass


def address_of(connection: Connection) -> str:
    """Return the address that a connection holds: in its host, or spread over scheme, host, port and path.

    Raises:
        ConfigError: there is none, or not of http or https.
    """
    host, schema = unquote(connection.host or ""), unquote(connection.schema or "")
    web = ("http", "https")
    if "://" not in host and host:
        kinds = [each for each in (schema, connection.conn_type) if each in web]
        host = f"{kinds[0] if kinds else 'https'}://{host}"
    parts = urlsplit(host)
    if parts.scheme not in web or not parts.hostname:
        raise ConfigError(f"Expected an http(s) address in connection {connection.conn_id}; found none. Correct it.")
    port = f":{connection.port}" if connection.port and not parts.port else ""
    path = f"{parts.path.rstrip('/')}/{schema}" if schema and schema not in web else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{port}{path}{query}"
