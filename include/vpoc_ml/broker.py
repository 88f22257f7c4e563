"""Queues of Celery: the one of trainings, and those that living workers take tasks from."""

from __future__ import annotations

TRAIN_QUEUE = "rocm"
"""Queue of the tasks that train: that of the workers with a GPU."""


POLL_SECONDS = 5
"""How much longer than its workers a broker may stay silent: Celery's client waits for messages a second at a time."""


def served_queues(broker: str, seconds: float = 5) -> set[str]:
    """Return the queues that living workers take tasks from. It always takes ``seconds``; a silent broker more.

    Args:
        broker: URL of the broker.
        seconds: how long workers may take to answer, and the broker to accept a connection. A worker that is too busy
            to answer in time counts as dead. A broker that accepts and stays silent is given up ``POLL_SECONDS`` later.

    Raises:
        Exception: of the broker's client; the broker does not answer.
    """
    from celery import Celery

    app = Celery(broker=broker)
    limits = {"socket_connect_timeout": seconds, "socket_timeout": seconds + POLL_SECONDS}
    app.conf.update(broker_connection_max_retries=1, broker_transport_options=limits)
    answers = app.control.inspect(timeout=seconds).active_queues() or {}
    return {queue["name"] for served in answers.values() for queue in served}
