"""Events between a command to Redis and its answer."""

import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from kombu import Connection
from redis import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError

from apps.pipeline.broker.redis import polling, unacked
from apps.pipeline.tests.messages import MAIL, QUEUE, send

WAIT_TIMEOUT = 60  # seconds


class OneByOneConsumer:
    """A consumer of both queues that takes one message at a time."""

    def __init__(self, connection: Connection, prefetch: int = 1) -> None:
        self.connection, self.messages = connection, list[Any]()
        self.consumer: Any = connection.Consumer([QUEUE, MAIL], on_message=self.messages.append)
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()
        self.channel: Any = self.consumer.channel

    def wait(self, true: Callable[[], object]) -> None:
        """Handle events until this is true."""
        deadline = time.monotonic() + WAIT_TIMEOUT
        while not true():
            assert time.monotonic() < deadline
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=0.05)

    def wait_for_messages(self, count: int = 1) -> list[object]:
        self.wait(lambda: len(self.messages) >= count)
        return [message.decode() for message in self.messages]

    def wait_idle(self) -> int:
        """Wait until the channel waits for a push or a wake-up; its phase."""
        self.wait(lambda: self.channel.phase in (self.channel.WATCHING, self.channel.SLEEPING))
        return int(self.channel.phase)


def test_a_push_to_a_busy_worker_does_not_close_its_connection(
    broker_url: str, connection: Connection
) -> None:
    hearing = OneByOneConsumer(connection)
    with Connection(broker_url) as sender:
        hearing.wait_idle()
        send(sender)
        assert hearing.wait_for_messages() == ["hello"]
        sock = hearing.channel.client.connection._sock
        send(sender, queue=MAIL)
        for _ in range(4):
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.05)
        assert hearing.channel.client.connection._sock is sock
        hearing.messages.pop().ack()
        assert hearing.wait_for_messages() == ["hello"]


def test_a_consumer_that_may_not_prefetch_takes_one_message(connection: Connection) -> None:
    """`worker_disable_prefetch` replaces a method of the channel's QoS."""
    hearing = OneByOneConsumer(connection, prefetch=4)
    hearing.channel.qos.can_consume = lambda: not hearing.messages
    for _ in range(4):
        send(connection)
    hearing.wait_for_messages()
    for _ in range(4):
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.05)
    assert len(hearing.messages) == 1


def test_a_user_without_push_messages_looks_at_the_queues_and_stays_connected(
    broker_url: str, connection: Connection, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    rules = ["on", "nopass", "~*", "&*", "+@all", "-client|tracking"]
    redis.execute_command("ACL SETUSER", "looker", *rules)  # type: ignore[no-untyped-call]
    try:
        with Connection(broker_url.replace("//", "//looker:none@")) as limited:
            looking = OneByOneConsumer(limited)
            looking.wait(lambda: looking.channel.phase == looking.channel.SLEEPING)
            sock = looking.channel.client.connection._sock
            for count in (1, 2):
                send(connection)
                assert looking.wait_for_messages(count) == ["hello"] * count
                looking.messages[-1].ack()
            assert looking.channel.client.connection._sock is sock
    finally:
        redis.acl_deluser("looker")
    [warning] = [one for one in caplog.messages if "Idle workers ask Redis every 0.5 s" in one]
    assert "permission" in warning


def test_a_partly_read_answer_is_not_read_as_the_next_answer(
    connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = OneByOneConsumer(connection)
    hearing.wait_idle()
    hearing.channel._brpop_sent_at = 0
    connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]
    assert (hearing.channel.phase, hearing.channel.tracks) == (hearing.channel.TAKING, True)
    read = hearing.channel.client.connection.read_response
    with monkeypatch.context() as patched:
        patched.setattr(
            hearing.channel.client.connection, "read_response", lambda **_: read(**_) and 1 / 0
        )
        with pytest.raises(ZeroDivisionError):
            hearing.channel._brpop_read()
    send(connection)
    assert hearing.wait_for_messages() == ["hello"]
    assert not hearing.channel.offered


def test_a_server_that_became_a_replica_is_a_lost_connection(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = OneByOneConsumer(connection)
    connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]

    def refuse(**kwargs: Any) -> None:
        raise ReadOnlyError("You can't write against a read only replica.")

    monkeypatch.setattr(hearing.channel.client.connection, "read_response", refuse)
    with pytest.raises(Disconnected):
        hearing.channel._brpop_read()


@pytest.mark.parametrize("how", ["cancelled", "closing"])
def test_messages_that_arrive_after_a_cancel_return(
    connection: Connection, redis: Redis, how: str
) -> None:
    hearing = OneByOneConsumer(connection)
    send(connection)
    connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]
    assert hearing.channel.phase == hearing.channel.TAKING
    if how == "cancelled":
        hearing.consumer.cancel()
        hearing.channel._brpop_read()
    else:
        hearing.channel.close()
    assert hearing.messages == []
    assert redis.llen("celery") == 1
    assert not redis.exists("unacked")


def test_a_large_prefetch_count_does_not_block_redis(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "MAX_MESSAGES", 2)
    hearing = OneByOneConsumer(connection, prefetch=1000)
    for _ in range(5):
        send(connection)
    connection.transport.cycle.on_poll_start()  # type: ignore[attr-defined]
    hearing.channel._brpop_read()
    assert len(hearing.messages) == 2
    assert hearing.wait_for_messages(5) == ["hello"] * 5


@pytest.mark.parametrize(
    "content",
    [
        b'{"body": "abcde", "properties": {"body_encoding": "base64", "delivery_info": {}}}',
        b'{"body": "x", "properties": {"body_encoding": "rot13", "delivery_info": {}}}',
        b'{"body": "\xff", "properties": {"delivery_info": {}}}',
    ],
)
def test_a_body_that_cannot_be_decoded_is_moved(
    connection: Connection, redis: Redis, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    redis.lpush("celery", content)
    hearing = OneByOneConsumer(connection)
    send(connection)
    assert hearing.wait_for_messages() == ["hello"]
    assert redis.lrange(unacked.UNDECODABLE, 0, -1) == [content]
    assert redis.hlen("unacked") == 1
    assert unacked.UNDECODABLE in caplog.text


def test_a_body_is_base64(connection: Connection, redis: Redis) -> None:
    """The test above assumes this."""
    send(connection)
    content: Any = redis.lindex("celery", 0)
    assert b64encode(b"hello") in content


class TestWithoutAnEventLoop:
    """A worker with the pool gevent or eventlet."""

    def test_a_busy_worker_also_returns_messages_of_dead_workers(
        self, broker_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {"unacked_restore_interval": 1}
        with Connection(broker_url, transport_options=options) as connection:
            looks = list[float]()
            hearing = OneByOneConsumer(connection, prefetch=0)
            monkeypatch.setattr(
                hearing.channel.qos, "restore_visible", lambda **_: looks.append(time.monotonic())
            )
            deadline = time.monotonic() + WAIT_TIMEOUT
            while len(looks) < 2 and time.monotonic() < deadline:
                send(connection)
                connection.drain_events(timeout=WAIT_TIMEOUT)
            assert looks[1] - looks[0] > 0.4

    def test_a_busy_worker_notices_when_a_process_is_free(
        self, connection: Connection, redis: Redis
    ) -> None:
        for _ in range(2):
            send(connection)
        hearing = OneByOneConsumer(connection)
        hearing.wait_for_messages()
        message = hearing.messages.pop()
        timer = threading.Timer(0.5, message.ack)
        timer.start()
        connection.drain_events(timeout=120)  # kombu waits for the whole timeout
        timer.join()
        assert hearing.messages


class TestManyIdleWorkers:
    @pytest.fixture(autouse=True)
    def watch_for_a_minute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A watcher that has no time to look at its queues again is one for the whole test."""
        monkeypatch.setattr(polling, "WATCH_TIME", WAIT_TIMEOUT)

    def test_a_few_watch_and_the_others_sleep(self, broker_url: str, redis: Redis) -> None:
        with ExitStack() as links:
            idle = [
                OneByOneConsumer(links.enter_context(Connection(broker_url)))
                for _ in range(polling.WATCHERS + 2)
            ]
            phases = [hearing.wait_idle() for hearing in idle]
            assert phases.count(polling.PollingMixin.WATCHING) == polling.WATCHERS
            assert phases.count(polling.PollingMixin.SLEEPING) == 2

    def test_a_worker_that_takes_a_message_wakes_another(
        self, broker_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "WATCHERS", 1)
        with Connection(broker_url) as first, Connection(broker_url) as second:
            one, other = OneByOneConsumer(first), OneByOneConsumer(second)
            for hearing in (one, other):
                hearing.channel.brpop_timeout = 60  # it does not check its queues again by itself
                hearing.wait_idle()
            assert other.channel.phase == other.channel.SLEEPING
            for number in range(2):
                send(first, str(number))
            assert one.wait_for_messages() == ["0"]
            assert other.wait_for_messages() == ["1"]

    def test_a_sleeping_worker_checks_its_queues_again(
        self, connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The workers that watch can be dead."""
        monkeypatch.setattr(polling, "WATCHERS", 0)
        hearing = OneByOneConsumer(connection)
        assert hearing.wait_idle() == hearing.channel.SLEEPING
        send(connection)
        assert hearing.wait_for_messages() == ["hello"]

    def test_a_worker_that_stopped_watching_is_removed(
        self, connection: Connection, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "WATCHERS", 1)
        lists = [f"{name}{sep}" for name in ("celery", "mail") for sep in _steps(connection)]
        watchers, _ = polling.watch_keys(frozenset(lists))
        redis.zadd(watchers, {"dead": 1})
        hearing = OneByOneConsumer(connection)
        assert hearing.wait_idle() == hearing.channel.WATCHING
        assert redis.zrange(watchers, 0, -1) == [hearing.channel.name.encode()]


def _steps(connection: Connection) -> list[str]:
    channel: Any = connection.default_channel
    return ["", *(f"{channel.sep}{step}" for step in channel.priority_steps[1:])]
