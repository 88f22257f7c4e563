"""``python -m vpoc_airflow.alert_test [--json]``: one test alert through every configured channel.

``vpoc-ml alert-test`` starts it in the environment of Airflow.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from datetime import UTC, datetime

import typer

from vpoc_airflow.alert_channels import configured
from vpoc_airflow.alerts import raised
from vpoc_ml import environment
from vpoc_ml.artifacts.alert import Alert, AlertKind, AlertRules
from vpoc_ml.errors import ConfigError, VpocError

NOT_CONFIGURED = (
    f"Expected an Airflow connection in {environment.ALERT_SMTP}, {environment.ALERT_SLACK} or"
    f" {environment.ALERT_WEBHOOK}; all are empty. Alerts go to log and file only. See docs/alerts.md."
)


def main(arguments: list[str]) -> int:
    """Send the test alert, print what each channel did, and return the exit code.

    Returns:
        0 every channel has it, 1 one failed, 2 no channel is configured or a setting is wrong.
    """
    try:
        channels = configured()
        rules = AlertRules.read()
    except VpocError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        return error.exit_code
    if not channels:
        typer.echo(NOT_CONFIGURED, err=True)
        return ConfigError.exit_code
    now = datetime.now(UTC)
    alert = Alert(
        kind=AlertKind.TEST,
        cause=f"{AlertKind.TEST}:{now.isoformat()}",
        title="Test alert",
        found=f"This is a test from {socket.gethostname()}; nothing has happened. Lake: {environment.lake_uri()}.",
        remedy="Nothing. If a channel lacks this message, `vpoc-ml alert-test` shows the reason.",
    )
    record = raised(alert, AlertRules(reminder=rules.reminder))
    deliveries = record.deliveries if record else ()
    if "--json" in arguments:
        typer.echo(json.dumps([each.to_json() for each in deliveries]))
    else:
        connections = {name: conn_id for name, conn_id, _ in channels}
        for each in deliveries:
            result = "delivered" if each.delivered else f"FAILED: {each.reason}"
            typer.echo(f"{each.channel:<8} connection {connections[each.channel]}: {result}")
    return 0 if all(each.delivered for each in deliveries) else 1


if __name__ == "__main__":
    logging.getLogger("vpoc_airflow").setLevel(logging.ERROR)  # the table has every reason
    sys.exit(main(sys.argv[1:]))
