"""The transports that `apps.pipeline.application` registers for the schemes of Redis URLs."""

import threading
import time
from collections.abc import Iterable
from typing import Any

from kombu.transport import redis as kombu
from redis.exceptions import ConnectionError as Disconnected

from apps.pipeline.broker.redis import acks, lease, unacked
from apps.pipeline.broker.redis.channel import AtomicTakeMixin
from apps.pipeline.broker.redis.clients import ChannelClientMixin, TransportClientMixin

FULL_INTERVAL = 0.02  # seconds after which a full worker checks whether a task has ended


class Channel(AtomicTakeMixin, ChannelClientMixin, kombu.Channel):
    QoS = unacked.QoS


class SentinelChannel(AtomicTakeMixin, ChannelClientMixin, kombu.SentinelChannel):
    QoS = unacked.QoS


class Poller(kombu.MultiChannelPoller):
    """Kombu's poller. From time to time, waiting channels also check their queues again."""

    _channels: set[Any]
    restored_at = 0.0
    thread: int | None = None  # of the event loop
    loop: Any = None
    read: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.created_at = time.monotonic()

    @property
    def fds(self) -> Iterable[int]:  # type: ignore[override]
        """The sockets that the event loop has to add. Kombu adds all of them again in each tick.

        Seen in kombu 5.7.0 (not reported yet). Delete this and `register_with_event_loop` once
        fixed.
        """
        fds: Iterable[int] = super().fds
        if self.loop is None:
            return fds
        readers = self.loop.readers
        return [fd for fd in fds if readers.get(fd) != (self.read, (fd,))]

    def on_poll_start(self) -> None:
        self.thread = threading.get_ident()
        # The event loop keeps the poller of a lost connection, which has no channels.
        if self._channels and lease.has_ended_since(self.created_at):
            # The consumer then drops the tasks that have not started. Others may have taken them.
            raise Disconnected("The lease has ended: this worker or the broker was frozen.")
        super().on_poll_start()
        for channel in self._channels:
            if channel.qos.collected:  # no command that takes messages was sent
                channel.qos.acknowledge(channel.qos.take_collected())
            channel.check_queues_again()

    def maybe_restore_messages(self) -> None:
        interval = min((channel.unacked_restore_interval for channel in self._channels), default=0)
        if time.monotonic() - self.restored_at > interval - 0.5:  # a timer may be early
            self.restored_at = time.monotonic()
            super().maybe_restore_messages()

    def get(self, callback: Any, timeout: float | None = None) -> None:
        """Wait for an event, without an event loop, as in a worker with gevent or eventlet.

        Kombu returns messages of killed workers only after a wait without a message, and a full
        worker waits to the end although a task has ended. Seen in kombu 5.7.0 (not reported yet).
        Delete this method once both are fixed.
        """
        self.maybe_restore_messages()
        for channel in self._channels:
            channel.repeat_failed()
        if any(not channel.qos.can_consume() for channel in self._channels):
            timeout = FULL_INTERVAL if timeout is None else min(timeout, FULL_INTERVAL)
        super().get(callback, timeout)


class TransportMixin(TransportClientMixin):
    has_leases = True
    cycle: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self: Any, connection: Any, loop: Any) -> None:
        self.cycle.loop, self.cycle.read = loop, self.on_readable
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]


class Transport(TransportMixin, kombu.Transport):
    Channel = Channel


class SentinelTransport(TransportMixin, kombu.SentinelTransport):
    Channel = SentinelChannel


def return_unstarted(message: Any) -> None:
    """Return a message whose task has not started, as soon as the broker answers again.

    Other brokers return it when the connection is lost. With kombu it stays recorded. Seen in kombu
    5.7.0 (not reported yet). Delete this once fixed.
    """
    if isinstance(message.channel, AtomicTakeMixin):
        unacked.return_to_queue(message.delivery_tag)


def return_recent() -> None:
    """Return the last messages that were acknowledged, if Redis has their records again.

    A Redis that fails over can lose its last writes. These may include messages that the tasks
    sent, so the tasks run again. Without this, they do so only when the worker stops. Tasks that
    were acknowledged before they ran are acknowledged again, because they must not run twice.
    """
    early = {*acks.early}.intersection(acks.recent)
    acks.to_acknowledge.update(early)
    unacked.return_to_queue(*(tag for tag in acks.recent if tag not in early))


def keep_started(message: Any) -> None:
    """Keep the message of a task that continues when the connection is lost.

    Kombu returns it, and the task runs twice. Seen in kombu 5.7.0 (not reported yet). Delete this
    once fixed.
    """
    if keep := getattr(message.channel, "keep", None):  # on Redis and SQS
        keep(message)
