"""An AMQP broker that keeps its connections and does not answer."""

from collections.abc import Callable, Iterator
from socket import socketpair
from types import SimpleNamespace
from typing import Any

import pytest
from amqp import spec
from kombu import Connection
from kombu.exceptions import OperationalError

from apps.pipeline.broker import amqp as transport


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A connection to an AMQP broker that no longer answers."""
    ours, theirs = socketpair()

    def drain_events(timeout: float) -> None:
        ours.settimeout(timeout)
        ours.recv(1)

    connection: Any = transport.AMQPConnection(answer_timeout=0.1, confirm_publish=True)
    connection._transport = SimpleNamespace(sock=ours, connected=True, close=ours.close)
    monkeypatch.setattr(connection, "_frame_writer", lambda *_: None)
    monkeypatch.setattr(connection, "drain_events", drain_events)
    with ours, theirs:
        yield connection


@pytest.mark.parametrize(
    "ask",
    [
        lambda connection: transport.AMQPChannel(connection, 1).wait(spec.Basic.Ack),
        lambda connection: connection.close(),
    ],
    ids=["confirm", "close"],
)
def test_a_broker_that_does_not_answer_raises_and_closes_the_connection(
    silent: Any, ask: Callable[[Any], object]
) -> None:
    with pytest.raises(OperationalError, match=r"^no answer within 0\.1 s$") as error:
        ask(silent)
    assert not silent.connected
    assert not isinstance(error.value, Connection("amqp://").recoverable_connection_errors)
    assert isinstance(error.value, Connection("amqp://").connection_errors)


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_every_amqp_connection_has_the_timeout(scheme: str) -> None:
    connection = Connection(f"{scheme}://localhost//", transport_options={"answer_timeout": 2})
    made: Any = connection.transport
    assert made.Connection(answer_timeout=2).answer_timeout == 2
    assert made.Connection.Channel is transport.AMQPChannel
    assert bool(made.client.ssl) is (scheme == "amqps")


@pytest.mark.parametrize(("headers", "kept"), [({"task": "shop.pay"}, False), ({}, True)])
def test_the_message_of_an_expired_task_reaches_a_worker(
    headers: dict[str, str], kept: bool
) -> None:
    channel: Any = transport.AMQPChannel.__new__(transport.AMQPChannel)
    properties = {"expiration": "1000", "reply_to": "me"}
    message = channel.prepare_message("", headers=headers, properties=properties)
    assert ("expiration" in message.properties) == kept
    assert message.properties["reply_to"] == "me"
