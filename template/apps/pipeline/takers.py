"""Which workers take from a queue, so that a queue that nobody takes from is seen.

RabbitMQ counts them. In Redis each worker says so itself, with its heartbeat; where the broker has
no place for it, as SQS, the heartbeat's file says so to its own machine.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Connection

from apps.pipeline import heartbeat

KEY = "pipeline.takers"  # a sorted set in the broker's Redis: queue and worker, by when it was said


def say(app: Celery, worker: str, queues: Iterable[str]) -> None:
    """This worker takes from these queues now. Raises the broker's connection errors."""
    members = [json.dumps([queue, worker]) for queue in queues]
    with app.connection_for_write() as link, _redis(link) as client:
        if members and client:
            now = client.time()[0]
            client.zadd(KEY, dict.fromkeys(members, now))
            if old := client.zrange(KEY, 0, now - 10 * heartbeat.STALE_AFTER, byscore=True):
                client.zrem(KEY, *old)


def withdraw(app: Celery, worker: str, queues: Iterable[str]) -> None:
    """This worker takes no more. Raises the broker's connection errors."""
    members = [json.dumps([queue, worker]) for queue in queues]
    with app.connection_for_write() as link, _redis(link) as client:
        if members and client:
            client.zrem(KEY, *members)


def taken(link: Connection) -> set[str] | None:
    """The queues that a worker takes from; None where nobody knows of other machines."""
    with _redis(link) as client:
        if client is None:
            return None
        since = client.time()[0] - heartbeat.STALE_AFTER
        return {json.loads(member)[0] for member in client.zrange(KEY, since, "inf", byscore=True)}


@contextmanager
def _redis(link: Connection) -> Iterator[Any]:
    """A client of the broker's Redis; None where it is another broker."""
    if link.transport.driver_type != "redis":
        yield None
        return
    link.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    channel: Any
    with link.channel() as channel:
        yield channel._create_client()
