"""The broker goes away at the worst moment, or stays and says nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import socketpair
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import spec
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError

from apps.pipeline import transport
from apps.pipeline.embedded import server

QUEUE = Queue("celery", Exchange("celery"), routing_key="celery")


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    transport.QoS.kept.clear()


def send(link: Connection, words: str) -> None:
    link.Producer().publish(words, exchange="celery", routing_key="celery", declare=[QUEUE])


def lose_the_broker_in_between(
    directory: Path, monkeypatch: pytest.MonkeyPatch, cls: type[Any]
) -> None:
    """Take a message off its queue, and let the broker end before that is recorded."""
    record = kombu.QoS.append
    with ExitStack() as broker:

        def end_first(*args: Any) -> None:
            monkeypatch.setattr(kombu.QoS, "append", record)
            broker.close()
            record(*args)

        url = broker.enter_context(server(directory))
        link = Connection(url, transport=cls)
        send(link, "hello")
        monkeypatch.setattr(kombu.QoS, "append", end_first)
        with pytest.raises(Disconnected), link.Consumer(QUEUE, on_message=print):
            link.drain_events(timeout=10)
        link.close()


def opened(link: Connection) -> Any:
    """A channel of its own."""
    return link.channel()


def unacknowledged(link: Connection) -> object:
    return opened(link).client.zcard("unacked_index")


def found(link: Connection) -> list[object]:
    """What waits in the queue, and is acknowledged now."""
    payloads = []
    while message := QUEUE(link.default_channel).get():
        payloads.append(message.payload)
        message.ack()
    return payloads


def test_kombu_loses_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_the_broker_in_between(tmp_path, monkeypatch, kombu.Transport)
    with server(tmp_path) as url, Connection(url, transport=kombu.Transport) as link:
        assert found(link) == []
        assert unacknowledged(link) == 0


def test_the_message_is_back_in_its_queue_when_the_broker_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_broker_in_between(tmp_path, monkeypatch, transport.Transport)
    with server(tmp_path) as url:
        with Connection(url, transport=transport.Transport) as link:
            assert found(link) == ["hello"]
        with Connection(url, transport=transport.Transport) as link:
            assert found(link) == []
            assert unacknowledged(link) == 0


def test_a_broker_that_goes_away_again_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_broker_in_between(tmp_path, monkeypatch, transport.Transport)
    with monkeypatch.context() as patched, server(tmp_path) as url:
        patched.setattr(kombu.QoS, "append", refuse)
        link = Connection(url, transport=transport.Transport)
        with pytest.raises(Disconnected):
            link.transport.establish_connection()
    with server(tmp_path) as url, Connection(url, transport=transport.Transport) as link:
        assert found(link) == ["hello"]


def test_a_broker_that_goes_away_before_the_message_is_returned_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_broker_in_between(tmp_path, monkeypatch, transport.Transport)
    with server(tmp_path) as url:
        with monkeypatch.context() as patched:
            patched.setattr(kombu.QoS, "reject", refuse)
            link = Connection(url, transport=transport.Transport)
            with pytest.raises(Disconnected):
                link.transport.establish_connection()
        with Connection(url, transport=transport.Transport) as link:
            assert found(link) == ["hello"]


@pytest.mark.parametrize("error", [ReadOnlyError, OSError], ids=["read only", "no network"])
def test_whatever_is_in_the_way_of_recording_a_message_it_is_kept(
    broker_url: str, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: Any) -> None:
        raise error

    with Connection(broker_url, transport=transport.Transport) as link:
        send(link, "hello")
        queue = QUEUE(link.default_channel)
        with monkeypatch.context() as patched:
            patched.setattr(kombu.QoS, "append", fail)
            with pytest.raises(error):
                queue.get()
        with Connection(broker_url, transport=transport.Transport) as other:
            assert found(other) == ["hello"]


def test_what_nobody_works_on_is_kept(broker_url: str) -> None:
    with Connection(broker_url, transport=transport.Transport) as link:
        send(link, "hello")
        message: Any = QUEUE(link.default_channel).get()
        transport.keep_unbegun(message)
        with Connection(broker_url, transport=transport.Transport) as other:
            assert found(other) == ["hello"]


def test_what_its_channel_gave_back_is_not_kept(broker_url: str) -> None:
    with Connection(broker_url, transport=transport.Transport) as link:
        send(link, "hello")
        message: Any = QUEUE(link.default_channel).get()
    transport.keep_unbegun(message)
    with Connection(broker_url, transport=transport.Transport) as other:
        assert found(other) == ["hello"]


def test_only_redis_needs_to_be_told_what_nobody_works_on() -> None:
    message: Any = SimpleNamespace(channel=object(), delivery_tag="1")
    transport.keep_unbegun(message)
    assert not transport.QoS.kept


def refuse(*args: Any, **kwargs: Any) -> None:
    raise Disconnected


def test_recording_a_message_twice_leaves_it_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker may have recorded it, and gone away before it could say so."""
    with server(tmp_path) as url, Connection(url, transport=transport.Transport) as link:
        send(link, "hello")
        message: Any = QUEUE(link.default_channel).get()
        transport.QoS.kept[message.delivery_tag] = message
        with Connection(url, transport=transport.Transport) as other:
            assert found(other) == ["hello"]
            assert found(other) == []


class TestClosing:
    """What kombu answers with an AttributeError, Celery does not take for a lost connection."""

    def test_kombu_raises_an_attribute_error(self, broker_url: str) -> None:
        link = Connection(broker_url, transport=kombu.Transport)
        channel = opened(link)
        link.collect()
        with pytest.raises(AttributeError):
            channel.basic_ack("1")

    def test_a_channel_is_told_that_its_connection_is_gone(self, broker_url: str) -> None:
        link = Connection(broker_url, transport=transport.Transport)
        channel = opened(link)
        link.collect()
        with pytest.raises(Disconnected):
            channel.basic_ack("1")

    def test_a_channel_that_outlived_its_connection_can_be_closed(
        self, broker_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = Connection(broker_url, transport=transport.Transport)
        send(link, "hello")
        channel = opened(link)
        QUEUE(channel).get()
        with monkeypatch.context() as patched:
            patched.setattr(link.transport, "close_connection", refuse)
            link.collect()
        channel.close()
        with Connection(broker_url, transport=transport.Transport) as other:
            assert found(other) == ["hello"]


@pytest.mark.parametrize(
    ("url", "cls"),
    [
        ("redis://redis:6379/0", transport.Transport),
        ("rediss://redis:6379/0", transport.Transport),
        ("redis+socket:///run/redis.sock", transport.Transport),
        ("sentinel://one:26379;sentinel://two:26379", transport.SentinelTransport),
    ],
)
def test_every_url_of_redis_uses_it(url: str, cls: type[Any]) -> None:
    assert Connection(url).get_transport_cls() is cls


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A connection to an AMQP broker that says nothing any more."""
    ours, theirs = socketpair()

    def drain_events(timeout: float) -> None:
        ours.settimeout(timeout)
        ours.recv(1)

    link: Any = transport.AMQPConnection(answer_timeout=0.1, confirm_publish=True)
    link._transport = SimpleNamespace(sock=ours, connected=True, close=ours.close)
    monkeypatch.setattr(link, "_frame_writer", lambda *_: None)
    monkeypatch.setattr(link, "drain_events", drain_events)
    with ours, theirs:
        yield link


@pytest.mark.parametrize(
    "ask",
    [
        lambda link: transport.AMQPChannel(link, 1).wait(spec.Basic.Ack),
        lambda link: link.close(),
    ],
    ids=["confirm", "close"],
)
def test_an_amqp_broker_that_says_nothing_is_asked_no_more(
    silent: Any, ask: Callable[[Any], object]
) -> None:
    with pytest.raises(OperationalError, match=r"^no answer within 0\.1 s$") as error:
        ask(silent)
    assert not silent.connected
    assert not isinstance(error.value, Connection("amqp://").recoverable_connection_errors)
    assert isinstance(error.value, Connection("amqp://").connection_errors)


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_every_amqp_connection_asks_so(scheme: str) -> None:
    link = Connection(f"{scheme}://localhost//", transport_options={"answer_timeout": 2})
    asked: Any = link.transport
    assert asked.Connection(answer_timeout=2).answer_timeout == 2
    assert asked.Connection.Channel is transport.AMQPChannel
    assert bool(asked.client.ssl) is (scheme == "amqps")
