"""The number and the age of messages in a queue, without taking them."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from redis import Redis

from apps.pipeline.broker.backlog import Backlog, backlog
from apps.pipeline.status import queues
from apps.pipeline.tasks import ping
from apps.pipeline.tests.messages import QUEUE


@pytest.fixture(params=["", "shop:"])
def connection(
    request: pytest.FixtureRequest, broker_url: str, redis: Redis
) -> Iterator[Connection]:
    options = {"global_keyprefix": request.param}
    with Connection(broker_url, transport_options=options) as connection:
        yield connection


def send(connection: Connection, priority: int = 0, **headers: Any) -> None:
    connection.Producer().publish(
        "hello",
        exchange="celery",
        routing_key="celery",
        declare=[QUEUE],
        headers=headers,
        priority=priority,
    )


def test_a_queue_that_is_empty_or_missing_has_no_oldest_message(connection: Connection) -> None:
    assert backlog(connection, "celery") == Backlog(0)


def test_the_oldest_message_is_the_one_that_is_taken_next(connection: Connection) -> None:
    send(connection, sent_at=1000.5)
    send(connection, sent_at=2000.5)
    assert backlog(connection, "celery") == Backlog(2, oldest_sent_at=1000.5)
    assert backlog(connection, "celery") == Backlog(2, oldest_sent_at=1000.5), "nothing was taken"


def test_a_message_of_low_priority_can_be_the_oldest(connection: Connection) -> None:
    send(connection, priority=9, sent_at=1000)
    send(connection, priority=0, sent_at=2000)
    assert backlog(connection, "celery").oldest_sent_at == 1000


def test_the_age_of_messages_of_other_programs_is_not_known(connection: Connection) -> None:
    send(connection)
    send(connection, sent_at=2000)
    assert backlog(connection, "celery") == Backlog(2)
    send(connection, priority=9, sent_at=1000)
    assert backlog(connection, "celery").oldest_sent_at is None, "the other one may be older"


def test_items_that_are_not_celery_messages_are_ignored(redis: Redis, broker_url: str) -> None:
    for item in (b"no JSON", b"[]", b"7", b'{"headers": null}', b"\xff"):
        redis.delete("celery")
        redis.lpush("celery", item)
        with Connection(broker_url) as connection:
            assert backlog(connection, "celery") == Backlog(1)


def test_each_message_has_the_time_when_it_was_sent(live_app: Celery, redis: Redis) -> None:
    began = time.time()
    live_app.tasks[ping.name].apply_async()
    live_app.send_task(ping.name)  # as Beat does
    with live_app.connection_for_read() as connection:
        found = backlog(connection, live_app.conf.task_default_queue)
    assert found.messages == 2
    assert found.oldest_sent_at is not None
    assert began <= found.oldest_sent_at <= time.time()


def test_the_status_says_that_the_age_is_not_known(live_app: Celery, redis: Redis) -> None:
    live_app.conf.update(task_queues=None, task_default_queue="celery")
    with live_app.connection_for_write() as connection:
        send(connection)
    text = "1 waiting in celery, which no worker consumes. "
    text += "The age of messages that other programs sent is not known."
    assert queues.queues().words == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (40.4, "40 s"), (119, "119 s"), (300, "5 min"), (7200, "2 h"), (200000, "2 d")],
)
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert queues.duration(seconds) == text


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        ([], "which no worker consumes"),
        (["a@x"], "which a@x consumes"),
        (["b@x", "a@x"], "which a@x and b@x consume"),
        (["a@x", "b@x", "c@x"], "which a@x and 2 more consume"),
    ],
)
def test_workers_are_named(workers: list[str], text: str) -> None:
    assert queues.named(workers) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "which no worker consumes"),
        (1, "which 1 worker consumes"),
        (2, "which 2 workers consume"),
    ],
)
def test_workers_are_counted(count: int, text: str) -> None:
    assert queues.counted(count) == text


@pytest.mark.parametrize(
    ("seen", "here", "consumed"),
    [
        (Backlog(3, in_flight=0), True, True),
        (Backlog(3, in_flight=0), False, False),
        (Backlog(3, in_flight=1), False, None),
        (Backlog(0, in_flight=0), False, None),
        (Backlog(3), False, None),
    ],
)
def test_on_sqs_taken_messages_show_that_a_worker_runs(
    seen: Backlog, here: bool, consumed: bool | None
) -> None:
    assert queues.presumed(seen, here)[0] is consumed
