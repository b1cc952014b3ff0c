"""A worker on Redis holds its messages while it renews its lease. Then another returns them."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from redis import Redis

from apps.pipeline.broker.redis import lease, transport, unacked
from apps.pipeline.tests.messages import QUEUE, send
from apps.pipeline.tests.waiting import wait_until

WAIT_TIMEOUT = 60  # seconds


@pytest.fixture
def taken(broker_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A message that a worker with a lease has taken."""
    monkeypatch.setattr(lease, "held", lambda: True)
    monkeypatch.setattr(unacked, "RETURN_TIME", WAIT_TIMEOUT)
    with monkeypatch.context() as patched, Connection(broker_url) as connection:
        patched.setattr(lease, "worker", lambda: "dead")
        send(connection)
        yield QUEUE(connection.default_channel).get()


def return_messages_of_dead_workers(qos: Any, after: float = 0) -> None:
    """Check for ended leases in another worker, so many seconds after its last check."""
    qos.without_lease = {name: since - after for name, since in qos.without_lease.items()}
    qos.restore_visible(interval=1)


@pytest.fixture
def qos(broker_url: str, taken: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with Connection(broker_url) as connection:
        channel: Any = connection.channel()
        yield channel.qos


def test_taking_a_message_creates_a_lease_that_expires(redis: Redis, taken: Any) -> None:
    assert redis.smembers("pipeline.workers") == {b"dead"}
    assert redis.smembers("pipeline.held.dead") == {taken.delivery_tag.encode()}
    assert 0 < redis.ttl("pipeline.lease.dead") <= lease.SECONDS


def test_a_lease_that_ended_before_its_renewal_was_answered_has_ended(
    live_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was frozen after it had sent the command."""
    renewal = lease.Renewal(live_app)
    now = renewal.renewed_at

    def freeze(channel: Any) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: now + lease.SECONDS)
        renewal.ended.set()

    monkeypatch.setattr(lease, "renew", freeze)
    monkeypatch.setattr(lease, "update_records", print)
    with lease._fork_lock:
        renewal.renew_until_ended(SimpleNamespace(visibility_timeout=3600))
    assert renewal.ended_at == now + lease.SECONDS


def test_without_a_lease_the_visibility_timeout_applies(broker_url: str, redis: Redis) -> None:
    with Connection(broker_url) as connection:
        send(connection)
        QUEUE(connection.default_channel).get()
        assert not redis.exists("pipeline.workers")
        assert redis.zcard("unacked_index") == 1


def test_an_acknowledged_message_is_no_longer_held(redis: Redis, taken: Any) -> None:
    taken.ack()
    assert redis.keys("*unacked*") == redis.keys("pipeline.held*") == []


def test_messages_with_a_lease_are_not_returned(redis: Redis, qos: Any) -> None:
    return_messages_of_dead_workers(qos)
    return_messages_of_dead_workers(qos, lease.GRACE_PERIOD)
    assert redis.llen("celery") == 0


def test_messages_of_a_dead_worker_return(redis: Redis, qos: Any, taken: Any) -> None:
    redis.delete("pipeline.lease.dead")
    return_messages_of_dead_workers(qos)
    assert redis.llen("celery") == 0, "it may still renew it: the broker may have been away"
    return_messages_of_dead_workers(qos, lease.GRACE_PERIOD)
    assert redis.llen("celery") == 1
    return_messages_of_dead_workers(qos, lease.GRACE_PERIOD)
    assert redis.llen("celery") == 1
    assert not redis.exists("pipeline.workers")
    message: Any = QUEUE(qos.channel).get()
    assert message.payload == "hello"
    assert message.delivery_tag != taken.delivery_tag
    assert message.delivery_info["redelivered"]


def test_a_lease_that_is_renewed_in_time_does_not_end(redis: Redis, qos: Any) -> None:
    redis.delete("pipeline.lease.dead")
    return_messages_of_dead_workers(qos)
    lease.renew(qos.channel)
    return_messages_of_dead_workers(qos, lease.GRACE_PERIOD)
    redis.delete("pipeline.lease.dead")
    return_messages_of_dead_workers(qos, lease.GRACE_PERIOD)
    assert redis.llen("celery") == 0, "the grace period starts again"


def test_a_lease_that_is_renewed_during_the_return_does_not_end(
    redis: Redis, qos: Any, taken: Any
) -> None:
    """The lease is renewed between the check that it has ended and the return of a message."""
    lease.renew(qos.channel)
    client = qos.channel._create_client()
    assert not qos._return([taken.delivery_tag], client, owner="dead")
    assert redis.llen("celery") == 0


def test_workers_without_leases_do_not_return_held_messages(redis: Redis, qos: Any) -> None:
    tag: str = qos.channel.client.zrange("unacked_index", 0, -1)[0]
    redis.zadd("unacked_index", {tag: 0})
    lease.renew(qos.channel)
    assert redis.zscore("unacked_index", tag) == 0
    lease.update_records(qos.channel)
    assert abs(float(str(redis.zscore("unacked_index", tag))) - redis.time()[0]) < WAIT_TIMEOUT
    redis.delete("unacked_index")
    lease.update_records(qos.channel)
    assert not redis.exists("unacked_index"), "what is acknowledged stays so"


class TestRenewal:
    @pytest.fixture(autouse=True)
    def ends(self) -> Iterator[None]:
        yield
        lease.stop()

    def test_a_thread_renews(
        self, live_app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "RENEWAL_INTERVAL", 0.01)
        before = threading.enumerate()  # that of an earlier worker may not have ended yet
        lease.start(live_app)
        assert lease.held()
        for _ in range(2):  # the thread creates the lease, and creates it again
            wait_until(lambda: redis.delete(f"pipeline.lease.{lease.worker()}"))
        lease.start(live_app)
        started = [thread.name for thread in threading.enumerate() if thread not in before]
        assert started.count("lease") == 1
        lease.stop()
        assert not lease.held()

    def test_it_continues_after_an_outage_of_the_broker(
        self,
        live_app: Celery,
        redis: Redis,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        renew, errors = lease.renew, iter([OSError("The broker is away.")])

        def refuse_once(channel: Any) -> None:
            for error in errors:
                raise error
            renew(channel)

        monkeypatch.setattr(lease, "renew", refuse_once)
        lease.start(live_app)
        wait_until(lambda: redis.exists(f"pipeline.lease.{lease.worker()}"))
        assert "Renewing the lease failed" in caplog.text

    @pytest.mark.parametrize("url", ["amqp://localhost//", "sqs://"])
    def test_other_brokers_have_no_lease(self, url: str) -> None:
        if url == "sqs://":
            pytest.importorskip("boto3", reason="this project does not use SQS")
        lease.start(Celery(broker=url, set_as_current=False))
        assert not lease.held()


def test_every_redis_transport_checks_for_ended_leases() -> None:
    assert issubclass(transport.Channel.QoS, unacked.QoS)
    assert issubclass(transport.SentinelChannel.QoS, unacked.QoS)
