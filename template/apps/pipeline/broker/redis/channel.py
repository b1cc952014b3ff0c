"""A channel that takes messages and records them in one step."""

import functools
import logging
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

from kombu.utils.json import loads
from redis.exceptions import RedisError

from apps.pipeline.broker.redis import acks, unacked
from apps.pipeline.broker.redis.polling import PollingMixin

logger = logging.getLogger(__name__)

SET_ASIDE = "Moved a message that cannot be decoded to the list %s"

Queues = dict[tuple[str, str], list[str]]  # by exchange and routing key
Restored = tuple[Any, list[str]]


@functools.lru_cache(maxsize=10_000)
def report_stuck(tag: Any, reason: str) -> None:
    """Log once why a message cannot return. Workers try it again every two seconds."""
    logger.error("Message %s stays unacknowledged: %s", tag, reason)


class UndeclaredError(Exception):
    """The exchange is not declared on this connection, which does not know its type."""


class AtomicTakeMixin(PollingMixin):
    """Mixin for a channel: take messages and record them in one step.

    Kombu needs two steps, and a worker that is killed between them loses the message. Seen in kombu
    5.7.0 (kombu #305, celery #7950). Delete the methods that take messages once fixed.
    """

    repeated_at = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.offered: set[str] = set()  # delivery tags in the command that was sent to Redis
        self.acknowledging: list[str] = []  # delivery tags that the same command acknowledges
        self.recorded: set[str] = set()  # delivery tags of messages that Redis has returned
        self.unrecorded: set[str] = set()  # queues whose messages need no acknowledgement
        self.name = str(uuid4())
        super().__init__(*args, **kwargs)
        self.repeat_failed()

    @functools.cached_property
    def broker(self: Any) -> tuple[Any, ...]:
        """What distinguishes the Redis of this channel from others that the process uses."""
        client = self.connection.client
        return (client.alt or client.as_uri(), client.virtual_host, self.global_keyprefix)

    def repeat_failed(self) -> None:
        """Repeat the commands that failed on a lost connection, at most once a second."""
        failed = acks.to_acknowledge or unacked.to_return
        if acks.broker not in (None, self.broker):
            return  # it does not have these messages
        if failed and time.monotonic() > self.repeated_at + 1:
            self.repeated_at = time.monotonic()
            self.qos.repeat_failed()

    def restored(self: Any, tag: Any, record: bytes | None, queues_of: Queues) -> Restored | None:
        """A recorded message, marked as redelivered, and the lists to which it returns.

        None if it stays unacknowledged. `queues_of` is a cache. Raises connection errors.
        """
        try:
            payload, lists = self._restored(record, queues_of)
            # Kombu deletes the record. Seen in kombu 5.7.0 (not reported yet). Delete these lines
            # once fixed.
            if not record or lists:
                return payload, lists
            report_stuck(tag, "no queue has its routing key")
        except (RedisError, OSError):
            raise
        except UndeclaredError:
            self.qos.undeclared.add(tag)
        except Exception as error:
            report_stuck(tag, f"it cannot be read: {error!r}")
        return None

    def _restored(self: Any, record: bytes | None, queues_of: Queues) -> Restored:
        if not record:
            return None, []
        payload, exchange, routing_key = loads(record)
        if (exchange, routing_key) not in queues_of:
            queues_of[exchange, routing_key] = self._lookup(exchange, routing_key)
        is_known = not exchange or exchange in self.connection.state.exchanges
        if not (is_known or any(queues_of[exchange, routing_key])):
            raise UndeclaredError
        with suppress(KeyError, TypeError):  # a client of another library may leave them out
            payload["headers"]["redelivered"] = True
            payload["properties"]["delivery_info"]["redelivered"] = True
        priority = self._get_message_priority(payload, reverse=False)
        queues = filter(None, queues_of[exchange, routing_key])  # kombu's default is None
        return payload, [self._q_for_pri(queue, priority) for queue in queues]

    def keep(self: Any, message: Any) -> None:
        """Do not return this message when the channel closes."""
        self.qos.keep(message.delivery_tag)

    def basic_consume(self: Any, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        (self.unrecorded.add if no_ack else self.unrecorded.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)  # type: ignore[misc]

    def basic_get(self: Any, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        tag = str(uuid4())
        command = self._take([queue], [tag], "0" if no_ack else "1")
        try:
            with self.conn_or_acquire() as client:
                taken, _ = client.execute_command(*command)
                self._maybe_update_queues_expire(client, queue)
        except self.connection_errors:
            unacked.return_to_queue(tag, search=True)
            raise
        payload = self._accept(taken[0][1], tag) if taken else None
        if payload is None:
            return None
        message = self.Message(payload, channel=self)
        if not no_ack:
            self.recorded.add(tag)
            self.qos.append(message, tag)
        return message

    def _accept(self: Any, content: bytes | None, tag: str) -> Any:
        """The decoded message, with the delivery tag under which it is recorded.

        Kombu keeps the tag of the publisher: see QoS. Seen in kombu 5.7.0 (not reported yet).
        Delete the new tag once fixed.
        """
        if content is None:  # the script has moved it to the list UNDECODABLE
            logger.error(SET_ASIDE, unacked.UNDECODABLE)
            return None
        try:
            payload = loads(content)
            self.decode_body(payload.get("body"), payload["properties"].get("body_encoding"))
        except Exception:
            logger.exception(SET_ASIDE, unacked.UNDECODABLE)
            self.qos.set_aside(tag, content)
            return None
        payload["properties"]["delivery_tag"] = tag
        return payload

    def _queue_of(self: Any, key: bytes) -> str:
        """The queue whose list has this key. Each priority has a list."""
        name: str = key.decode().removeprefix(self.global_keyprefix)
        return name.rsplit(self.sep, 1)[0]

    def _deliver_taken(self: Any, taken: list[Any]) -> bool:
        messages = [(self._queue_of(key), content, tag.decode()) for key, content, tag in taken]
        # Record all before the loop. If it fails, the channel is closed and returns them.
        self.recorded |= {tag for queue, _, tag in messages if queue not in self.unrecorded}
        deliveries = []
        for queue, content, tag in messages:
            self._queue_cycle.rotate(queue)
            if payload := self._accept(content, tag):
                deliveries.append((payload, queue))
            else:
                self.recorded.discard(tag)
        for payload, queue in deliveries:
            if queue in self._active_queues and not self._closing:
                self.connection._deliver(payload, queue)
                # Another channel of the connection may have got it.
                self.recorded.discard(payload["properties"]["delivery_tag"])
        if self.recorded:  # messages of queues that this channel no longer consumes
            unacked.return_to_queue(*self.recorded)
            self.recorded = set()
            self.qos.repeat_failed()
        return True

    def close(self: Any) -> None:
        if self.phase in (self.WATCHING, self.SLEEPING):
            self._in_poll = None  # the answer contains no message
        try:
            if self.connection is not None:  # not closed before
                self.qos.acknowledge(self.qos.take_collected())
            super().close()  # type: ignore[misc]
        finally:
            self.repeat_unanswered()
            unacked.return_to_queue(*self.recorded)
            self.recorded = set()

    def repeat_unanswered(self) -> None:
        """Repeat what a command without an answer should do, on the next connection."""
        acks.to_acknowledge.update(self.acknowledging)
        unacked.return_to_queue(*self.offered, search=True)
        self.offered, self.acknowledging = set(), []
