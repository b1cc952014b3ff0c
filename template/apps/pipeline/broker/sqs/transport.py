"""The transport, which `apps.pipeline.application` registers for the scheme `sqs`.

Kombu does not extend a visibility timeout, so a task that takes longer runs twice. Seen in kombu
5.7.0 (celery #3270). Once fixed, delete `QoS`, `asked_at`, `_get_from_sqs`, `_receive_message` and
each use of `lease`.
"""

import logging
import time
from copy import copy
from typing import Any

from botocore.exceptions import ClientError
from kombu.asynchronous import set_event_loop
from kombu.transport import SQS
from vine import promise

from apps.pipeline.broker.sqs import lease

logger = logging.getLogger(__name__)


class QoS(SQS.QoS):
    """The messages that a worker has taken, each with its lease.

    SQS can delete a message even if another worker has received it since. So a worker that lost
    its lease, for example because it was frozen, does not delete or return the message.
    """

    channel: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        super().append(message, delivery_tag)
        info = message.delivery_info
        if lease.renews() and "sqs_queue" in info:
            url, key = info["sqs_queue"], info.get("routing_key")
            queue = self.channel.canonical_queue_name(key) if key else None
            since = self.channel.asked_at.get(url, time.monotonic())
            lease.held[delivery_tag] = lease.Held(queue, url, since)


class Channel(SQS.Channel):
    QoS = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.asked_at: dict[str, float] = {}  # by queue URL, the time of the last receive request
        self.kept: dict[str, Any] = {}  # by delivery tag, the messages of tasks that continue
        super().__init__(*args, **kwargs)

    def keep(self, message: Any) -> None:
        """Do not return this message when the channel closes, because its task continues.

        With kombu the task runs twice. Seen in kombu 5.7.0 (not reported yet). Delete this once
        fixed.
        """
        if not self.closed:
            self.kept[message.delivery_tag] = message
            # Kombu also removes the client, with its options, from the original.
            self.connected = copy(self.connection), self.exchange_types

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        if self._may_end(delivery_tag):
            super().basic_ack(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if self._may_end(delivery_tag):
            super().basic_reject(delivery_tag, requeue)

    def _may_end(self, delivery_tag: str) -> bool:
        """Whether this worker may delete or return the message. If not, forget it."""
        if message := self.kept.pop(delivery_tag, None):
            # Kombu needs them to acknowledge, and removes them from a channel that closes.
            self.connection, self.exchange_types = self.connected
            delivered: Any = self.qos._delivered
            delivered[delivery_tag] = message
        if lease.release(delivery_tag):
            return True
        self.qos.ack(delivery_tag)
        return False

    def _restore(self, message: Any, *args: Any) -> None:
        if message.delivery_tag not in self.kept and lease.release(message.delivery_tag):
            super()._restore(message, *args)

    def _get_from_sqs(
        self, queue_name: str, queue_url: str, connection: Any, count: int = 1, callback: Any = None
    ) -> Any:
        self.asked_at[queue_url] = time.monotonic()
        return connection.receive_message(
            queue_name,
            queue_url,
            number_messages=count,
            visibility_timeout=lease.SECONDS if lease.renews() else None,
            wait_time_seconds=self.wait_time_seconds,
            callback=self._or_poll_later(callback),
        )

    def _or_poll_later(self: Any, callback: Any) -> Any:
        """Receive again one second after SQS refuses a request, for example with 400 or 403.

        With kombu, the channel then receives no more messages. Seen in kombu 5.7.0 (kombu #2031).
        Delete this once fixed.
        """

        def refused(error: Exception) -> None:
            logger.warning("Receiving from SQS failed, trying again: %s", error)
            self.hub.call_later(1, lambda: self.closed or callback({}))

        response = promise(on_error=refused)
        response.then(callback)
        return response

    def _receive_message(  # without an event loop, as with gevent
        self: Any, queue: str, max_number_of_messages: int = 1, wait_time_seconds: int | None = None
    ) -> Any:
        if not lease.renews():
            return super()._receive_message(queue, max_number_of_messages, wait_time_seconds)  # type: ignore[misc]
        url = self._new_queue(queue)
        self.asked_at[url] = time.monotonic()
        return self.sqs(queue=queue).receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=max_number_of_messages,
            VisibilityTimeout=lease.SECONDS,
            WaitTimeSeconds=wait_time_seconds or self.wait_time_seconds,
            **{name: value for name, value in self.get_message_attributes.items() if value},
        )

    def _on_messages_ready(self, queue: str, name: str, messages: Any) -> Any:
        # After an error response or a timeout, kombu calls `get` on an empty list. This raises
        # AttributeError, which stops the worker. Seen in kombu 5.7.0 (not reported yet). Delete
        # this once fixed.
        return super()._on_messages_ready(queue, name, messages or {})  # type: ignore[misc]


class Transport(SQS.Transport):
    Channel = Channel

    # Kombu does not count an error response, for example 503, as an error of the connection. So it
    # stops Beat and workers, and the outbox does not store the task. Seen in kombu 5.7.0 (not
    # reported yet). Delete this once fixed.
    connection_errors = (*SQS.Transport.connection_errors, ClientError)

    def register_with_event_loop(self: Any, connection: Any, loop: Any) -> None:
        # A worker that loses its connection resets the loop. Then kombu does not find it, and
        # receives nothing. Seen in kombu 5.7.0 (celery #6210). Delete this once fixed.
        set_event_loop(loop)
        for channel in self.channels:
            channel.hub = loop
