"""A taken message returns to its queue when no worker holds it any more, and not before."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from kombu.transport import redis as kombu
from redis import Redis

from apps.pipeline.broker.embedded import server
from apps.pipeline.broker.redis import acks, lease, unacked
from apps.pipeline.broker.redis.server import unsupported
from apps.pipeline.broker.redis.transport import Transport, keep_started
from apps.pipeline.tests.messages import QUEUE, send


def take(connection: Connection) -> Any:
    return QUEUE(connection.default_channel).get()


def qos(connection: Connection) -> Any:
    channel: Any = connection.default_channel
    return channel.qos


class TestClocks:
    """A worker with a wrong clock does not return messages too early or too late."""

    @pytest.mark.parametrize(("cls", "returned"), [(kombu.Transport, 1), (Transport, 0)])
    def test_a_clock_that_is_fast(
        self,
        broker_url: str,
        connection: Connection,
        redis: Redis,
        monkeypatch: pytest.MonkeyPatch,
        cls: type[Any],
        returned: int,
    ) -> None:
        send(connection)
        take(connection)
        options = {"visibility_timeout": 60}
        with Connection(broker_url, transport=cls, transport_options=options) as other:
            now = time.time
            monkeypatch.setattr(kombu, "time", lambda: now() + 300)
            qos(other).restore_visible(num=10, interval=1)
            monkeypatch.undo()
        assert redis.llen("celery") == returned

    def test_a_clock_that_is_slow(
        self, broker_url: str, connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        send(connection)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() - 300)
        message = take(connection)
        redis.zincrby("unacked_index", -61, message.delivery_tag)
        with Connection(broker_url, transport_options={"visibility_timeout": 60}) as other:
            qos(other).restore_visible(interval=1)
        assert redis.llen("celery") == 1


def test_messages_with_a_lease_have_no_visibility_timeout(
    broker_url: str, connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "held", lambda: True)
    send(connection)
    tag = take(connection).delivery_tag
    redis.zadd("unacked_index", {tag: 1})
    with Connection(broker_url, transport_options={"visibility_timeout": 60}) as other:
        qos(other).restore_visible(interval=1)
    assert redis.llen("celery") == 0
    assert abs(float(str(redis.zscore("unacked_index", tag))) - redis.time()[0]) < 20


def test_many_messages_return_in_steps_and_in_order(
    connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacked, "BATCH", 3)
    for number in range(10):
        send(connection, str(number))
    channel: Any = connection.channel()
    for _ in range(7):
        QUEUE(channel).get()
    channel.close()
    assert not redis.exists("unacked", "unacked_index")
    assert [take(connection).payload for _ in range(10)] == [str(number) for number in range(10)]


def test_a_worker_continues_its_work_between_the_steps(
    broker_url: str, connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "held", lambda: True)
    monkeypatch.setattr(lease, "GRACE_PERIOD", 0)
    monkeypatch.setattr(unacked, "RETURN_TIME", -1)
    send(connection)
    take(connection)
    redis.delete(f"pipeline.lease.{lease.worker()}")
    with Connection(broker_url) as other:
        qos(other).restore_visible(interval=1)
        assert redis.llen("celery") == 0
        monkeypatch.setattr(unacked, "RETURN_TIME", 60)
        qos(other).restore_visible(interval=1)
        assert redis.llen("celery") == 1


@pytest.mark.parametrize("requeue", [True, False])
def test_a_failed_reject_is_repeated_later(tmp_path: Path, requeue: bool) -> None:
    with ExitStack() as broker:
        connection = Connection(broker.enter_context(server(tmp_path)))
        send(connection)
        message = take(connection)
        broker.close()
        message.reject(requeue=requeue)
        connection.collect()
    acks.broker = None  # the same broker has another port
    with server(tmp_path) as url, Connection(url) as connection, Redis.from_url(url) as redis:
        connection.connect()
        assert redis.llen("celery") == requeue
        assert not redis.exists("unacked", "unacked_index")


def test_a_task_that_continues_keeps_its_message(
    broker_url: str, connection: Connection, redis: Redis
) -> None:
    send(connection)
    message = take(connection)
    keep_started(message)
    connection.collect()
    assert redis.hlen("unacked") == 1
    message.ack()
    assert acks.to_acknowledge == {message.delivery_tag}
    with Connection(broker_url) as other:
        other.connect()
    assert not redis.exists("unacked", "unacked_index", "celery")


def test_other_brokers_keep_the_message_without_this() -> None:
    keep_started(SimpleNamespace(channel=object()))


def test_a_lease_can_be_renewed_on_a_full_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "held", lambda: True)
    with server(tmp_path) as url, Connection(url) as connection, Redis.from_url(url) as redis:
        send(connection)
        tag = take(connection).delivery_tag
        redis.zadd("unacked_index", {tag: 1})
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 1)
        key = f"pipeline.lease.{lease.worker()}"
        redis.delete(key)
        for _ in range(2):  # create the lease, and then renew it
            lease.renew(connection.default_channel)
            assert redis.ttl(key) > 0
        lease.update_records(connection.default_channel)
        assert float(str(redis.zscore("unacked_index", tag))) > 1
        qos(connection).restore_visible(interval=1)
        take(connection)
        qos(connection).restore_by_tag(tag)
        assert redis.llen("celery") == 1


def test_many_records_are_updated_in_steps(
    connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BATCH", 10)
    tags = [str(number) for number in range(500)]
    redis.sadd(lease.keys(lease.worker())[2], *tags)
    redis.zadd("unacked_index", dict.fromkeys(tags, 1))
    lease.update_records(connection.default_channel)
    assert redis.zcount("unacked_index", 0, 1) == 0


def test_a_forked_process_has_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_renewing", SimpleNamespace(process=os.getpid()))
    assert lease.held()
    monkeypatch.setattr(lease, "_renewing", SimpleNamespace(process=os.getppid()))
    assert not lease.held()


class TestUnsupported:
    @pytest.mark.parametrize(
        ("info", "words"),
        [
            ({"redis_mode": "cluster", "redis_version": "7.2.4"}, "is a Redis Cluster"),
            ({"redis_mode": "standalone", "redis_version": "6.0.16"}, "is Redis 6.0.16: install"),
        ],
    )
    def test_the_reason_names_an_unsupported_server(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch, info: Any, words: str
    ) -> None:
        monkeypatch.setattr(Redis, "info", lambda *_: info)
        assert words in str(unsupported(connection))

    def test_other_servers_are_supported(self, connection: Connection) -> None:
        assert unsupported(connection) is None
        assert unsupported(Connection("memory://")) is None
