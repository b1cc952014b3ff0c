"""Kombu's AMQP transports, with a timeout for the answers of the broker."""

from typing import Any

from amqp.exceptions import IrrecoverableConnectionError
from kombu.exceptions import OperationalError
from kombu.transport import pyamqp


class UnansweredError(OperationalError, IrrecoverableConnectionError):
    """The broker did not answer in time. It may have the message, so do not send it again.

    Delete this class together with AnswerTimeoutMixin.
    """


class AnswerTimeoutMixin:
    """Mixin: wait at most `answer_timeout` seconds, a transport option, for an answer.

    A frozen broker keeps its connections open, and py-amqp waits for it for ever. Seen in py-amqp
    5.4.2 (py-amqp #279, celery #6911). Delete this, UnansweredError and the option once py-amqp has
    a timeout for all answers.
    """

    connection: Any

    def wait(
        self,
        method: Any,
        callback: Any = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        connection = self.connection
        timeout = timeout or connection.answer_timeout
        try:
            return super().wait(method, callback, timeout, returns_tuple)  # type: ignore[misc]
        except TimeoutError:
            # Close the connection: a late answer would be read as the answer to the next request.
            connection.sock.settimeout(0)  # do not wait for the end of the TLS session
            connection.collect()
            raise UnansweredError(f"no answer within {timeout:g} s") from None


class AMQPChannel(AnswerTimeoutMixin, pyamqp.Channel):
    """A channel with the timeout. It lets the messages of expired tasks reach a worker.

    RabbitMQ would drop such a message: no worker revokes the task, nothing is logged, and a caller
    waits for its result for ever. Seen in celery 5.7.0 (not reported yet). Delete
    `prepare_message` once fixed.
    """

    def prepare_message(self, *args: Any, **options: Any) -> Any:
        message: Any = super().prepare_message(*args, **options)
        if "task" in (message.headers or {}):
            message.properties.pop("expiration", None)
        return message


class AMQPConnection(AnswerTimeoutMixin, pyamqp.Connection):
    Channel = AMQPChannel

    def __init__(self, *args: Any, answer_timeout: float = 30, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answer_timeout = answer_timeout


class AMQPTransport(pyamqp.Transport):
    Connection = AMQPConnection


class AMQPSTransport(AMQPTransport, pyamqp.SSLTransport):
    """The same, with TLS."""
