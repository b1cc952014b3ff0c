"""Kombu's transports, without the moments in which a broker costs a message or a caller's patience.

`config/celery.py` names these classes for the URLs that Redis and AMQP brokers answer. Each piece
belongs upstream.
"""

import logging
from contextlib import suppress
from typing import Any, ClassVar

from amqp.exceptions import IrrecoverableConnectionError
from kombu.exceptions import OperationalError
from kombu.transport import pyamqp
from kombu.transport import redis as kombu
from kombu.transport.virtual import Message
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


class QoS(kombu.QoS):
    """Keeps a message that it could not record.

    A worker takes a message off its queue and then records that it has it. When the broker goes
    away in between, the message is nowhere but here, and kombu drops it with the connection.
    """

    kept: ClassVar[dict[str, Message]] = {}  # by delivery tag; of the process, not of a connection

    def append(self, message: Message, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except (RedisError, OSError):
            self.keep(message)
            raise  # Celery connects anew, however long that takes: see Returning

    def keep(self, message: Message) -> None:
        """Return it to its queue when the broker is back."""
        self.kept[str(message.delivery_tag)] = message
        logger.warning("Kept until the broker is back: message %s", message.delivery_tag)

    def return_kept(self) -> None:
        """Record the messages after all and return them to their queues; twice does no harm."""
        with suppress(KeyError):  # another thread took the last
            while self.kept:
                delivery_tag, message = self.kept.popitem()
                try:
                    super().append(message, delivery_tag)
                    self.reject(delivery_tag, requeue=True)
                except (RedisError, OSError):
                    self._delivered.pop(delivery_tag, None)  # type: ignore[union-attr]
                    self.keep(message)
                    raise


def keep_unbegun(message: Message) -> None:
    """Keep what nobody will work on, and what its channel could not give back when it closed."""
    channel = message.channel  # brokers of other kinds than Redis know by themselves
    if isinstance(channel, Returning) and message.delivery_tag in channel.qos._delivered:
        channel.qos.keep(message)


class Returning:
    """Mixed in before a channel: returns what was kept as soon as the broker answers again."""

    connection: Any
    qos: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if QoS.kept:
            self.qos.return_kept()

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        # Who uses a closed channel, to acknowledge say, is told in the way that Celery expects:
        # kombu's AttributeError ends the worker.
        if self.connection is None:
            raise Disconnected("The channel was closed with its connection.")
        return super()._connparams(*args, **kwargs)  # type: ignore[misc]


class Rooted:
    """Mixed in before a transport: keeps its client, whose address its channels need to close.

    Kombu takes it away with a broken connection. What closes a channel after that raises an
    AttributeError, which ends the worker.
    """

    _client: Any = None

    @property
    def client(self) -> Any:
        return self._client

    @client.setter
    def client(self, client: Any) -> None:
        self._client = client or self._client


class Channel(Returning, kombu.Channel):
    QoS = QoS


class SentinelChannel(Returning, kombu.SentinelChannel):
    QoS = QoS


class Transport(Rooted, kombu.Transport):
    Channel = Channel


class SentinelTransport(Rooted, kombu.SentinelTransport):
    Channel = SentinelChannel


class UnansweredError(OperationalError, IrrecoverableConnectionError):
    """The broker may have the message: sent again by itself, it could be there twice."""


class Impatient:
    """Waits for an answer as long as the transport option `answer_timeout` says, in seconds.

    A broker that is frozen keeps its connections open, and py-amqp waits for it for ever.
    """

    connection: Any

    def wait(
        self,
        method: Any,
        callback: Any = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        link = self.connection
        timeout = timeout or link.answer_timeout
        try:
            return super().wait(method, callback, timeout, returns_tuple)  # type: ignore[misc]
        except TimeoutError:
            # A late answer would be taken for that to the next question: nobody asks here again.
            link.sock.settimeout(0)  # nor waits for the end of its encryption
            link.collect()
            raise UnansweredError(f"no answer within {timeout:g} s") from None


class AMQPChannel(Impatient, pyamqp.Channel):
    """Declares, publishes and consumes so."""


class AMQPConnection(Impatient, pyamqp.Connection):
    Channel = AMQPChannel

    def __init__(self, *args: Any, answer_timeout: float = 30, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answer_timeout = answer_timeout


class AMQPTransport(pyamqp.Transport):
    Connection = AMQPConnection


class AMQPSTransport(AMQPTransport, pyamqp.SSLTransport):
    """The same, encrypted."""
