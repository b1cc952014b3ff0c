"""How a channel asks Redis for messages, and waits while there are none.

One idle worker watches the queues. It subscribes to the next change (client-side caching, in Redis
6.0 and later), and Redis sends a push message when a list gets its first item. The other idle
workers sleep, because otherwise each message would wake all of them. A worker that takes a message
wakes the next worker.
"""

import functools
import logging
import time
from collections.abc import Sequence
from hashlib import sha1
from queue import Empty
from typing import Any
from uuid import uuid4

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ReadOnlyError, ResponseError

from apps.pipeline.broker.redis import acks, lease, scripts, unacked

logger = logging.getLogger(__name__)

MAX_MESSAGES = 100  # messages in one step, because Redis answers no other client meanwhile
WATCHERS = 1  # the number of idle workers that watch the same queues

# Seconds after which a worker no longer counts as a watcher, unless it looks at the queues again.
WATCH_TIME = 3

# Seconds between two looks at the queues, if Redis refuses to send push messages.
LOOK_INTERVAL = 0.5

Names = Sequence[str]


@functools.cache
def watch_keys(lists: frozenset[str]) -> tuple[str, str]:
    """The keys in Redis of the watchers of these lists, and of a list that wakes the others."""
    name = sha1(repr(sorted(lists)).encode(), usedforsecurity=False).hexdigest()[:16]
    return f"pipeline.watchers.{name}", f"pipeline.wake.{name}"


class PollingMixin:
    """Mixin for a channel: take messages if there are any, and wait without taking one.

    The methods with `brpop` in their names override those of kombu, which waits in BRPOP.
    """

    connection: Any
    qos: Any
    client: Any

    # The state of the connection that takes messages: it sends nothing (IDLE), takes messages
    # (TAKING), subscribes to changes of the lists and checks that they are empty (LOOKING), waits
    # for a push message (WATCHING), or waits in a command (SLEEPING). An answer of Redis ends
    # TAKING, LOOKING and SLEEPING. A push message ends WATCHING.
    IDLE, TAKING, LOOKING, WATCHING, SLEEPING = range(5)
    phase = IDLE
    next_phase = TAKING
    tracks = False  # whether Redis can send push messages
    may_track = True  # False after Redis has refused to send them
    sleep_time = 0.0  # seconds to wait in a command
    offered: set[str]  # delivery tags in the command that was sent to Redis
    acknowledging: list[str]  # delivery tags that the same command acknowledges
    unrecorded: set[str]  # queues whose messages need no acknowledgement

    def full_name(self: Any, key: str) -> str:
        return f"{self.global_keyprefix}{key}"

    def _lists(self: Any, queues: Names) -> list[str]:
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]

    def _take(
        self: Any, queues: Names, tags: Names, flags: str, watcher: str = "", done: Names = ()
    ) -> list[Any]:
        """A command that acknowledges the messages `done` and takes some for these new tags.

        `flags` has a 1 for each queue whose messages are recorded, else a 0.
        """
        acks.broker = self.broker
        worker = lease.worker() if lease.held() else ""
        lists = self._lists(queues)
        keys = [self.unacked_index_key, self.unacked_key, unacked.UNDECODABLE, *lease.keys(worker)]
        keys = [self.full_name(key) for key in (*keys, *watch_keys(frozenset(lists)), *lists)]
        flags *= len(self.priority_steps)
        arguments = [worker, lease.SECONDS, flags, watcher, WATCHERS, WATCH_TIME]
        arguments += [len(done), *done, *tags]
        return ["EVAL", scripts.TAKE, len(keys), *keys, *arguments]

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        if not (queues := self._queue_cycle.consume(len(self.active_queues))):
            return
        connection = self._in_poll = self.client.connection
        self._brpop_sent_at, self.phase = time.monotonic(), self.next_phase
        names = [self.full_name(name) for name in self._lists(queues)]
        if self.phase == self.LOOKING:
            self.tracks = True
            commands = [["CLIENT", "TRACKING", "ON"], ["EXISTS", *names]]
        elif self.phase == self.SLEEPING:
            _, wake = watch_keys(frozenset(self._lists(queues)))
            commands = [["BLPOP", self.full_name(wake), self.sleep_time]]
        else:
            self.repeat_unanswered()
            # Celery replaces this method for `worker_disable_prefetch`, and not the estimate.
            room = 1 if "can_consume" in vars(self.qos) else self.qos.can_consume_max_estimate()
            room = min(room or 1, MAX_MESSAGES)
            self.offered = {str(uuid4()) for _ in range(room)}
            flags = "".join("0" if queue in self.unrecorded else "1" for queue in queues)
            commands = [["CLIENT", "TRACKING", "OFF"]] if self.tracks else []
            self.acknowledging = self.qos.take_collected()
            tags = [*self.offered]
            commands += [self._take(queues, tags, flags, self.name, self.acknowledging)]
        # A health check could open a new socket, which the event loop does not know.
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)

    def check_queues_again(self: Any) -> None:
        """Look at the queues again after `brpop_timeout`, because push messages can be lost."""
        self.repeat_failed()
        if self.phase == self.WATCHING and not self.qos.can_consume():
            self._brpop_sent_at = None  # else kombu warns that Redis did not reply to a command
        waited = time.monotonic() - (self._brpop_sent_at or 0)
        if self.phase == self.WATCHING and waited > self.brpop_timeout and self.qos.can_consume():
            self._brpop_start()

    def _brpop_read(self: Any, **options: Any) -> Any:
        phase, self.phase = self.phase, self.IDLE
        try:
            taken = self._read_answer(phase, options)
        except BaseException as error:
            self.client.connection.disconnect()  # else the rest is read as the next answer
            if isinstance(error, ReadOnlyError):  # a failover made this server a replica
                raise Disconnected(str(error)) from error
            raise
        finally:
            if self.phase != self.WATCHING:
                self._in_poll = None
                self._flush_brpop_reauth()
        if not taken:
            raise Empty
        return self._deliver_taken(taken)

    def _read_answer(self: Any, phase: int, options: dict[str, Any]) -> Any:
        """The messages that were taken. Ignore push messages, except while WATCHING."""
        connection, self.next_phase = self.client.connection, self.TAKING
        if phase == self.TAKING:
            if self.tracks:
                connection.read_response(**options)  # CLIENT TRACKING
                self.tracks = False
            taken, may_watch = connection.read_response(**options)
            acks.recent.extend(self.acknowledging)
            self.offered, self.acknowledging = set(), []
            if not taken:
                self.next_phase = self.LOOKING if may_watch and self.may_track else self.SLEEPING
                self.sleep_time = LOOK_INTERVAL if may_watch else self.brpop_timeout
            return taken
        if phase == self.LOOKING:
            try:
                connection.read_response(**options)  # CLIENT TRACKING
            except ResponseError as error:
                self.tracks = self.may_track = False
                logger.warning("Idle workers ask Redis every %s s: %s", LOOK_INTERVAL, error)
            some = connection.read_response(**options)  # EXISTS
            if self.tracks and not (some or connection.can_read(timeout=0)):
                self.phase = self.WATCHING
        else:
            connection.read_response(push_request=phase == self.WATCHING, **options)
        return None
