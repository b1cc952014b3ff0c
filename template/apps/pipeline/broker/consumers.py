"""Records which workers consume a queue, to find queues without a consumer.

RabbitMQ counts consumers. On Redis each worker records its queues when it writes its heartbeat. On
SQS only the heartbeat file lists the queues, so they are known only on the machine of the worker.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection

from apps.pipeline.liveness import heartbeat

KEY = "pipeline.takers"  # a sorted set: queue and worker, with the time of the record


def record(app: Celery, worker: str, queues: Iterable[str], timeouts: dict[str, int]) -> None:
    """Record that this worker consumes these queues. Raises the broker's connection errors."""
    members = [json.dumps([queue, worker]) for queue in queues]
    with app.connection_for_write(transport_options=timeouts) as link, _redis(link) as client:
        if members and client:
            now = client.time()[0]
            client.zadd(KEY, dict.fromkeys(members, now))
            if old := client.zrange(KEY, 0, now - 10 * heartbeat.STALE_AFTER, byscore=True):
                client.zrem(KEY, *old)


def remove(app: Celery, worker: str, queues: Iterable[str]) -> None:
    """Remove the record of this worker. Raises the broker's connection errors."""
    members = [json.dumps([queue, worker]) for queue in queues]
    with app.connection_for_write() as connection, _redis(connection) as client:
        if members and client:
            client.zrem(KEY, *members)


def by_queue(connection: Connection) -> dict[str, list[str]] | None:
    """The workers that consume each queue; None on a broker other than Redis."""
    with _redis(connection) as client:
        if client is None:
            return None
        since = client.time()[0] - heartbeat.STALE_AFTER
        workers: dict[str, list[str]] = {}
        for member in client.zrange(KEY, since, "inf", byscore=True):
            queue, worker = json.loads(member)
            workers.setdefault(queue, []).append(worker)
        return workers


@contextmanager
def _redis(connection: Connection) -> Iterator[Any]:
    """A client of the broker; None if it is not a Redis."""
    if connection.transport.driver_type != "redis":
        yield None
        return
    connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    channel: Any
    with connection.channel() as channel:
        yield channel._create_client()
