"""Acknowledges messages, if possible in the command that takes the next ones.

A worker with a full load takes a message for each task that ends. So one command does both, and the
worker does not wait for the answer to an acknowledgement. Kombu sends five commands and waits.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from kombu.transport import redis as kombu
from kombu.transport import virtual
from redis.exceptions import RedisError

from apps.pipeline.broker.redis import lease, scripts

logger = logging.getLogger(__name__)

# Acknowledgements that failed on a lost connection, to repeat on the next one. They belong to the
# process, because a channel ends with its connection. Kombu does not repeat them. Seen in kombu
# 5.7.0 (not reported yet). Delete this once fixed: see `to_return`.
to_acknowledge: set[str] = set()

# The broker from which this process takes messages: see `AtomicTakeMixin.broker`.
broker: Any = None

# The last delivery tags whose acknowledgement Redis has confirmed: see `transport.return_recent`.
recent: deque[str] = deque(maxlen=1000)


# The last delivery tags of tasks that were acknowledged before they ran (`acks_late=False`).
early: deque[str] = deque(maxlen=1000)


class AcknowledgeMixin(kombu.QoS):
    """Mixin: collect acknowledgements until the next tick of the event loop."""

    channel: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.collected: list[str] = []  # delivery tags
        self.outside = deque[str]()  # those that other threads and greenlets acknowledge
        self.lock = threading.RLock()

    def ack(self, delivery_tag: str) -> None:
        if self._is_in_loop():
            self.collected.append(delivery_tag)
        else:
            self.outside.append(delivery_tag)
            with self.lock:  # one command for tasks that end together, as with gevent
                self.acknowledge([self.outside.popleft() for _ in range(len(self.outside))])
        virtual.QoS.ack(self, delivery_tag)

    def _is_in_loop(self) -> bool:
        """Whether this runs in the event loop of a worker that takes messages."""
        channel = self.channel
        return (
            not channel.closed
            and bool(channel.active_queues)
            and channel.connection.cycle.thread == threading.get_ident()
            and lease.held()
        )

    def take_collected(self) -> list[str]:
        """The collected delivery tags, which the caller has to acknowledge."""
        tags, self.collected = self.collected, []
        return tags

    def acknowledge(self, tags: Iterable[str]) -> None:
        """Acknowledge messages now, or on the next connection if this one is lost."""
        if not (tags := [*tags]):
            return
        try:
            self.remove_records(tags)
            recent.extend(tags)
        except BaseException as error:  # gevent can end this greenlet
            to_acknowledge.update(tags)
            if not isinstance(error, RedisError | OSError):
                raise
            for tag in tags:
                logger.warning("Message %s will be acknowledged later: %s", tag, error)

    def remove_records(self, tags: Iterable[str], client: Any = None) -> None:
        """Remove the records of messages, or add this to a pipeline. Raises connection errors."""
        names = (self.unacked_index_key, self.unacked_key, lease.keys(lease.worker())[2])
        keys = [self.channel.full_name(name) for name in names]
        with self.channel.conn_or_acquire(client) as redis:
            redis.eval(scripts.ACKNOWLEDGE, len(keys), *keys, *tags)
