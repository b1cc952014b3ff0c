"""A message is always in Redis, and a waiting worker gets it at once."""

import json
import time
from base64 import b64decode
from contextlib import ExitStack
from pathlib import Path
from select import select
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.asynchronous import Hub
from kombu.transport import redis as kombu
from redis import Redis
from redis.exceptions import ConnectionError as Disconnected

from apps.pipeline.broker.embedded import server
from apps.pipeline.broker.redis import acks, lease, unacked
from apps.pipeline.broker.redis.channel import AtomicTakeMixin
from apps.pipeline.broker.redis.transport import (
    Channel,
    SentinelTransport,
    Transport,
    return_unstarted,
)
from apps.pipeline.tests.messages import MAIL, QUEUE, send


@pytest.fixture(autouse=True)
def empty(redis: Redis) -> None:
    """No message of an earlier test waits."""


WAIT_TIMEOUT = 60  # seconds


def connect(url: str, cls: type[Any] = Transport, **options: Any) -> Connection:
    return Connection(url, transport=cls, transport_options=options)


def opened(connection: Connection) -> Any:
    """A new channel."""
    return connection.channel()


def client_of(connection: Connection) -> Any:
    """A client of the broker."""
    return Redis(host=str(connection.hostname), port=int(connection.port or 6379))


def unacknowledged(connection: Connection) -> list[Any]:
    return [json.loads(record)[0] for record in client_of(connection).hvals("unacked")]


def found(connection: Connection) -> list[object]:
    """Take and acknowledge the messages that wait in the queue."""
    payloads = []
    while message := QUEUE(connection.default_channel).get():
        payloads.append(message.payload)
        message.ack()
    return payloads


def answered(channel: Any) -> bool:
    return bool(select([channel.client.connection._sock], [], [], WAIT_TIMEOUT)[0])


def poll(connection: Any) -> None:
    connection.transport.cycle.on_poll_start()


class ReceivingConsumer:
    """A consumer that records its messages. The test acknowledges them."""

    def __init__(
        self, connection: Connection, *queues: Queue, prefetch: int = 0, **options: Any
    ) -> None:
        self.connection, self.messages = connection, list[Any]()
        self.consumer: Any = connection.Consumer([*queues], on_message=self.hear, **options)
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def hear(self, message: Any) -> None:
        self.messages.append(message)

    def payloads(self, count: int, seconds: float = WAIT_TIMEOUT) -> list[object]:
        """The next messages, or fewer if they do not arrive in time."""
        deadline = time.monotonic() + seconds
        while len(self.messages) < count and time.monotonic() < deadline:
            try:
                self.connection.drain_events(timeout=0.1)
            except TimeoutError:
                continue
        taken, self.messages = self.messages, []
        return [message.decode() for message in taken]

    def wait(self) -> None:
        """Wait until the channel waits for a push of Redis."""
        deadline = time.monotonic() + WAIT_TIMEOUT
        while self.consumer.channel.phase != AtomicTakeMixin.WATCHING:
            assert time.monotonic() < deadline
            assert self.payloads(1, seconds=0.1) == []


class TestALostMessage:
    """The worker or its broker stops after the message has left its list."""

    def take_and_end(self, directory: Path, monkeypatch: pytest.MonkeyPatch, cls: Any) -> None:
        """Take a message, and stop the broker before the worker's next command."""
        with ExitStack() as broker:
            record, read = kombu.QoS.append, AtomicTakeMixin._brpop_read

            def end_before_it_is_recorded(*args: Any) -> None:
                broker.close()
                record(*args)

            def end_before_it_is_read(channel: Any) -> Any:
                if channel.phase == channel.TAKING:
                    broker.close()
                    channel.client.connection.disconnect()
                    raise Disconnected
                return read(channel)

            with monkeypatch.context() as patched:
                patched.setattr(kombu.QoS, "append", end_before_it_is_recorded)
                patched.setattr(AtomicTakeMixin, "_brpop_read", end_before_it_is_read)
                connection = connect(broker.enter_context(server(directory)), cls)
                send(connection, "hello")
                with pytest.raises(Disconnected), connection.Consumer(QUEUE, on_message=print):
                    connection.drain_events(timeout=WAIT_TIMEOUT)
            connection.close()

    def test_kombu_loses_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.take_and_end(tmp_path, monkeypatch, kombu.Transport)
        with server(tmp_path) as url, connect(url, kombu.Transport) as connection:
            assert found(connection) == []
            assert unacknowledged(connection) == []

    def test_the_message_returns_to_its_queue_with_the_broker(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.take_and_end(tmp_path, monkeypatch, Transport)
        acks.broker = None  # the same broker has another port
        with server(tmp_path) as url, connect(url) as connection:
            assert found(connection) == ["hello"]
            assert found(connection) == []
            assert unacknowledged(connection) == []

    def test_the_message_is_searched_until_a_frozen_broker_has_executed_the_command(
        self, broker_url: str
    ) -> None:
        with connect(broker_url) as connection, connect(broker_url) as late:
            unacked.return_to_queue("a", search=True)
            channel = opened(connection)
            send(connection, "hello")
            channel.client.connection = None
            command = channel._take(["celery"], ["a"], "1")
            assert len(client_of(late).execute_command(*command)[0]) == 1  # the frozen broker's
            assert len(unacknowledged(connection)) == 1
            channel.repeated_at = 0
            channel.repeat_failed()
            assert found(connection) == ["hello"]
            assert not unacked.to_return

    def test_the_search_ends(self, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unacked, "SEARCH_TIME", -1)
        with connect(broker_url) as connection:
            unacked.return_to_queue("a", search=True)
            opened(connection)
            assert not unacked.to_return


def test_a_message_is_recorded_when_it_leaves_its_list(broker_url: str) -> None:
    """The record exists before the worker reads the message."""
    with connect(broker_url) as connection, connect(broker_url) as observer:
        send(connection, "hello")
        heard = ReceivingConsumer(connection, QUEUE)
        poll(connection)
        assert answered(heard.consumer.channel)
        assert client_of(observer).llen("celery") == 0
        assert len(unacknowledged(observer)) == 1
        assert heard.payloads(1) == ["hello"]


def test_a_message_that_needs_no_acknowledgement_is_not_recorded(broker_url: str) -> None:
    with connect(broker_url) as connection:
        send(connection, "one")
        assert ReceivingConsumer(connection, QUEUE, no_ack=True).payloads(1) == ["one"]
        assert unacknowledged(connection) == []
    with connect(broker_url) as connection:
        send(connection, "two")
        message: Any = QUEUE(connection.default_channel).get(no_ack=True)
        assert message.payload == "two"
        assert unacknowledged(connection) == []
    with connect(broker_url) as connection:
        assert found(connection) == []


def test_a_channel_takes_messages_up_to_the_prefetch_limit(broker_url: str) -> None:
    with connect(broker_url) as connection:
        for number in range(10):
            send(connection, str(number))
        heard = ReceivingConsumer(connection, QUEUE, prefetch=4)
        heard.connection.drain_events(timeout=WAIT_TIMEOUT)
        assert [message.decode() for message in heard.messages] == ["0", "1", "2", "3"]
        assert client_of(connection).llen("celery") == 6
        for message in heard.messages:
            message.ack()
        heard.messages.clear()
        assert heard.payloads(4) == ["4", "5", "6", "7"]


def test_the_message_with_the_higher_priority_is_first(broker_url: str) -> None:
    with connect(broker_url) as connection:
        send(connection, "later", priority=9)
        send(connection, "now", priority=0)
        send(connection, "mail", MAIL, priority=3)
        assert ReceivingConsumer(connection, QUEUE, MAIL, prefetch=1).payloads(1) == ["now"]
        assert found(connection) == ["later"]


@pytest.mark.parametrize("queue", [QUEUE, MAIL], ids=["celery", "mail"])
@pytest.mark.parametrize("priority", [0, 9])
def test_a_push_arrives_for_each_queue_and_priority(
    broker_url: str, queue: Queue, priority: int
) -> None:
    with connect(broker_url) as connection, connect(broker_url) as sender:
        heard = ReceivingConsumer(connection, QUEUE, MAIL)
        for number in range(3):
            heard.wait()
            send(sender, f"hello {number}", queue, priority=priority)
            assert heard.payloads(1) == [f"hello {number}"]


def test_a_push_that_arrives_with_the_answer_is_not_lost(broker_url: str) -> None:
    """The client reads the whole socket, so the event loop sees no more data."""
    with connect(broker_url) as connection, connect(broker_url) as sender:
        heard = ReceivingConsumer(connection, QUEUE)
        read = AtomicTakeMixin._brpop_read

        def read_late(channel: Any) -> Any:
            if channel.phase == channel.LOOKING and not sent:
                send(sender, "hello")
                sent.append("hello")
            return read(channel)

        sent: list[str] = []
        heard.consumer.channel.brpop_timeout = 60  # it does not check its queues again by itself
        heard.consumer.channel.handlers["BRPOP"] = lambda: read_late(heard.consumer.channel)
        assert heard.payloads(1) == ["hello"]


def test_a_waiting_worker_checks_its_queues_again(broker_url: str) -> None:
    """The push can be lost if the connection is broken without an error."""
    with connect(broker_url) as connection:
        heard = ReceivingConsumer(connection, QUEUE)
        heard.wait()
        channel = heard.consumer.channel
        channel._brpop_sent_at -= channel.brpop_timeout
        poll(connection)
        assert channel.phase == channel.TAKING


def test_redis_contains_only_the_names_and_records_of_celery(broker_url: str) -> None:
    """Flower, exporters and workers without this transport read these keys."""
    with (
        connect(broker_url, global_keyprefix="shop:") as connection,
        Connection(broker_url) as plain,
    ):
        send(connection, "hello")
        assert client_of(plain).llen("shop:celery") == 1
        heard = ReceivingConsumer(connection, QUEUE)
        assert heard.payloads(1) == ["hello"]
        client = client_of(plain)
        (tag,) = client.zrange("shop:unacked_index", 0, -1)
        payload, exchange, routing_key = json.loads(client.hget("shop:unacked", tag))
        assert b64decode(payload["body"]) == b"hello"
        assert (exchange, routing_key) == ("celery", "celery")
        heard.consumer.channel.basic_ack(tag.decode())
        assert not client.exists("shop:unacked_index", "shop:unacked")


@pytest.mark.parametrize(
    ("dead", "alive"),
    [(Transport, kombu.Transport), (kombu.Transport, Transport)],
    ids=["ours to kombu's", "kombu's to ours"],
)
def test_workers_of_both_transports_can_share_queues(
    broker_url: str, dead: type[Any], alive: type[Any]
) -> None:
    connection = connect(broker_url, dead)
    send(connection, "hello")
    QUEUE(connection.default_channel).get()
    with connect(broker_url, alive, visibility_timeout=0) as other:
        opened(other).qos.restore_visible(interval=1)
        message: Any = QUEUE(other.default_channel).get()
        assert message.payload == "hello"
        assert message.delivery_info["redelivered"]
        message.ack()
        assert unacknowledged(other) == []
    connection.close()


@pytest.mark.parametrize("cls", [kombu.Transport, Transport], ids=["kombu", "ours"])
def test_the_acknowledgement_of_a_former_holder_does_nothing(
    broker_url: str, cls: type[Any]
) -> None:
    with (
        connect(broker_url, cls) as frozen,
        connect(broker_url, cls, visibility_timeout=0) as connection,
    ):
        send(connection, "hello")
        before: Any = QUEUE(frozen.default_channel).get()
        opened(connection).qos.restore_visible(interval=1)
        now: Any = QUEUE(connection.default_channel).get()
        before.ack()
        assert len(unacknowledged(connection)) == (0 if cls is kombu.Transport else 1)
        now.ack()
        assert unacknowledged(connection) == []


def test_a_failed_acknowledgement_is_repeated_later(tmp_path: Path) -> None:
    with ExitStack() as broker:
        connection = connect(broker.enter_context(server(tmp_path)))
        send(connection, "hello")
        message: Any = QUEUE(connection.default_channel).get()
        broker.close()
        message.ack()
        assert acks.to_acknowledge == {message.delivery_tag}
        connection.collect()
    acks.broker = None  # the same broker has another port
    with server(tmp_path) as url, connect(url) as connection:
        assert found(connection) == []
        assert unacknowledged(connection) == []
        assert not acks.to_acknowledge


def test_a_message_that_no_worker_runs_is_returned(broker_url: str) -> None:
    with connect(broker_url) as connection:
        send(connection, "hello")
        return_unstarted(QUEUE(connection.default_channel).get())
        with connect(broker_url) as other:
            assert found(other) == ["hello"]
            assert found(other) == []


def test_a_message_that_its_channel_returned_is_returned_once(broker_url: str) -> None:
    with connect(broker_url) as connection:
        send(connection, "hello")
        message: Any = QUEUE(connection.default_channel).get()
    return_unstarted(message)
    with connect(broker_url) as other:
        assert found(other) == ["hello"]
        assert found(other) == []


def test_only_redis_needs_to_return_unstarted_messages() -> None:
    return_unstarted(SimpleNamespace(channel=object(), delivery_tag="1"))
    assert not unacked.to_return


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"body": "x"}', '{"properties": {}}'])
def test_a_message_that_cannot_be_decoded_is_moved_and_the_next_is_taken(
    broker_url: str, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(broker_url) as connection:
        client_of(connection).lpush("celery", content)
        send(connection, "hello")
        assert ReceivingConsumer(connection, QUEUE).payloads(1) == ["hello"]
        assert client_of(connection).lrange(unacked.UNDECODABLE, 0, -1) == [content.encode()]
        assert unacked.UNDECODABLE in caplog.text


def test_a_worker_can_connect_to_a_full_redis_and_take_messages(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as sender, connect(url) as connection:
        send(sender, "hello")
        client_of(sender).config_set("maxmemory-policy", "noeviction")
        client_of(sender).config_set("maxmemory", 1)
        MAIL(connection.default_channel).delete()  # as a worker does after it asked other workers
        assert ReceivingConsumer(connection, QUEUE).payloads(1) == ["hello"]
        assert len(unacknowledged(connection)) == 1


def test_half_of_a_surrogate_pair_does_not_keep_a_message_from_its_task(
    connection: Connection,
) -> None:
    """JSON allows it, and a task can have it among its arguments."""
    consumer = ReceivingConsumer(connection, QUEUE)
    send(connection, headers={"argsrepr": "['\ud83d', '\\ud83d']"})
    assert consumer.payloads(1) == ["hello"]
    assert not client_of(connection).llen(unacked.UNDECODABLE)


def test_a_message_returns_after_its_queue_was_declared(
    connection: Connection, broker_url: str
) -> None:
    """A new connection does not know to which queues an exchange sends."""
    news = Exchange("news", type="topic")
    queue = Queue("news", news, routing_key="news.#")
    consumer = connection.Consumer([queue], callbacks=[lambda *_: None])
    consumer.consume()
    connection.Producer().publish("rain", exchange=news, routing_key="news.weather")
    connection.drain_events(timeout=WAIT_TIMEOUT)
    [tag] = client_of(connection).hkeys("unacked")
    unacked.return_to_queue(tag.decode())
    with connect(broker_url) as other:
        channel: Any = other.default_channel
        channel.qos.repeat_failed()
        assert unacked.to_return
        other.Consumer([queue], callbacks=[lambda *_: None])
        channel.qos.repeat_failed()
        assert not unacked.to_return
        assert client_of(other).llen("news") == 1


def test_a_tag_that_is_added_meanwhile_is_not_forgotten(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    qos: Any = connection.default_channel.qos  # type: ignore[attr-defined]
    monkeypatch.setattr(unacked, "to_return", {"old": 0.0})
    monkeypatch.setattr(type(qos), "_return", lambda *_: unacked.to_return.update(new=0.0) or [])
    qos.repeat_failed()
    assert unacked.to_return == {"new": 0.0}


def test_what_takes_long_to_repeat_is_left_for_the_next_call(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that renews the lease must not wait for it, nor the event loop."""
    consumer = ReceivingConsumer(connection, QUEUE)
    consumer.consumer.qos(prefetch_count=3)
    for number in range(3):
        send(connection, str(number))
    consumer.payloads(3)
    channel: Any = connection.default_channel
    unacked.return_to_queue(*[tag.decode() for tag in client_of(connection).hkeys("unacked")])
    monkeypatch.setattr(unacked, "BATCH", 1)
    returning = type(channel.qos)._return

    def slow(*args: Any) -> Any:
        monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
        return returning(*args)

    monkeypatch.setattr(type(channel.qos), "_return", slow)
    channel.qos.repeat_failed()
    assert len(unacked.to_return) == 2
    monkeypatch.undo()
    channel.qos.repeat_failed()
    assert not unacked.to_return
    with connect(str(connection.as_uri())) as other:
        assert found(other) == ["0", "1", "2"]


def test_a_record_that_cannot_be_read_does_not_keep_others_from_returning(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    channel: Any = connection.default_channel
    client = client_of(connection)
    consumer = ReceivingConsumer(connection, QUEUE)
    send(connection)
    assert consumer.payloads(1) == ["hello"]
    [tag] = client.hkeys(channel.unacked_key)
    client.hset(channel.unacked_key, "bad", b"[\xff")
    assert channel.qos._return(["bad", tag.decode()], client) == [tag.decode()]
    assert "Message bad stays unacknowledged" in caplog.text


def test_a_connection_that_is_lost_while_messages_return_is_an_error(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*args: Any) -> None:
        raise Disconnected("lost")

    consumer = ReceivingConsumer(connection, QUEUE)
    send(connection)
    consumer.payloads(1)
    channel: Any = connection.default_channel
    [tag] = client_of(connection).hkeys("unacked")
    unacked.return_to_queue(tag.decode())
    with monkeypatch.context() as patched:
        patched.setattr(type(channel), "_lookup", lose)
        with pytest.raises(Disconnected):
            channel.qos.repeat_failed()
    assert [*unacked.to_return] == [tag.decode()]


def test_a_worker_that_was_frozen_drops_what_has_not_started(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may have taken it. The consumer drops it when it loses the connection."""
    opened(connection)
    renewal = lease.Renewal(Celery(set_as_current=False))
    monkeypatch.setattr(lease, "_renewing", renewal)
    cycle: Any = connection.transport.cycle  # type: ignore[attr-defined]
    cycle.on_poll_start()
    cycle.created_at -= 1  # after the last renewal
    renewal.renewed_at -= lease.SECONDS
    renewal.check_end()
    renewal.renewed_at = time.monotonic()  # the thread is often faster than the event loop
    with pytest.raises(Disconnected, match="frozen"):
        cycle.on_poll_start()
    cycle.created_at = time.monotonic()  # of the next connection
    cycle.on_poll_start()


@pytest.mark.parametrize("queues", [[], [None]], ids=["unknown key", "no key"])
def test_a_message_without_a_queue_to_return_to_stays_recorded(
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    queues: list[None],
) -> None:
    monkeypatch.setattr(lease, "held", lambda: True)
    monkeypatch.setattr(lease, "GRACE_PERIOD", 0)
    with connect(broker_url) as connection:
        send(connection, "hello")
        message: Any = QUEUE(connection.default_channel).get()
        client_of(connection).delete(f"pipeline.lease.{lease.worker()}")
        with monkeypatch.context() as patched:
            patched.setattr(Channel, "_lookup", lambda *_: queues)
            for _ in range(3):
                message.channel.qos.restore_visible(interval=100)
        assert len(unacknowledged(connection)) == 1
        [line] = caplog.messages
        assert line.endswith("no queue has its routing key")


def test_the_event_loop_adds_a_socket_once(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, added, transport = Hub(), list[int](), connection.transport
    add = hub.add_reader

    def add_reader(fd: int, *args: Any) -> None:
        added.append(fd)
        add(fd, *args)

    monkeypatch.setattr(hub, "add_reader", add_reader)
    consumer: Any = connection.Consumer([QUEUE], on_message=print)
    consumer.consume()
    transport.register_with_event_loop(connection.connection, hub)
    for _ in range(3):
        hub.run_once()
    client = consumer.channel.client
    assert added == [client.connection._sock.fileno()]
    client.connection.disconnect()
    client.connection.connect()  # often the same number for another socket
    consumer.channel._in_poll = None
    for _ in range(3):
        hub.run_once()
    assert added == [added[0], client.connection._sock.fileno()]
    hub.close()


def test_a_client_is_created_once(broker_url: str) -> None:
    with connect(broker_url) as connection:
        channel = opened(connection)
        assert channel._create_client() is channel._create_client()
        before = channel._create_client()
        channel._disconnect_pools()
        assert channel._create_client() is not before


class TestClosing:
    """Kombu raises AttributeError, which Celery does not handle as a lost connection."""

    def test_kombu_raises_an_attribute_error(self, broker_url: str) -> None:
        connection = connect(broker_url, kombu.Transport)
        channel = opened(connection)
        connection.collect()
        with pytest.raises(AttributeError):
            channel.basic_ack("1")

    def test_a_closed_channel_raises_redis_connection_error(self, broker_url: str) -> None:
        connection = connect(broker_url)
        channel = opened(connection)
        connection.collect()
        with pytest.raises(Disconnected):
            channel._size("celery")

    def test_a_channel_without_its_connection_can_be_closed(
        self, broker_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any, **kwargs: Any) -> None:
            raise Disconnected

        connection = connect(broker_url)
        send(connection, "hello")
        channel = opened(connection)
        QUEUE(channel).get()
        with monkeypatch.context() as patched:
            patched.setattr(connection.transport, "close_connection", refuse)
            connection.collect()
        channel.close()
        with connect(broker_url) as other:
            assert found(other) == ["hello"]

    def test_a_channel_that_waits_closes_at_once(self, broker_url: str) -> None:
        with connect(broker_url, socket_timeout=WAIT_TIMEOUT) as connection:
            ReceivingConsumer(connection, QUEUE).wait()
            started = time.monotonic()
        assert time.monotonic() - started < WAIT_TIMEOUT / 2


@pytest.mark.parametrize(
    ("url", "cls"),
    [
        ("redis://redis:6379/0", Transport),
        ("rediss://redis:6379/0", Transport),
        ("redis+socket:///run/redis.sock", Transport),
        ("sentinel://one:26379;sentinel://two:26379", SentinelTransport),
    ],
)
def test_every_redis_url_uses_the_transport(url: str, cls: type[Any]) -> None:
    assert Connection(url).get_transport_cls() is cls
