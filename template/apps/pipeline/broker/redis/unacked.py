"""Records the messages that a worker has taken and not acknowledged."""

import logging
import time
from collections.abc import Iterable
from typing import Any

from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from apps.pipeline.broker.redis import lease, scripts
from apps.pipeline.broker.redis.acks import AcknowledgeMixin, recent, to_acknowledge

logger = logging.getLogger(__name__)

# The list for items that are not Celery messages. Workers cannot run or return them. With kombu
# such an item is lost and the worker exits. Seen in kombu 5.7.0 (celery #1113, kombu #2421). Delete
# this and `set_aside` once kombu keeps such an item.
UNDECODABLE = "undecodable-messages"

# Seconds for which to search for a message that Redis takes from its queue after the connection was
# lost. A frozen Redis executes the commands that it has received when it continues.
SEARCH_TIME = 60

# The number of messages that are returned in one step, and the seconds for which a worker returns
# messages before it continues with others.
BATCH = 200
RETURN_TIME = 1

# Delivery tags of messages to return on the next connection, because the command failed on a lost
# one, and until when to search for each message. Kombu does not repeat these commands. Seen in
# kombu 5.7.0 (not reported yet). Once fixed, delete this, `to_acknowledge` and `repeat_failed`.
to_return: dict[str, float] = {}


def return_to_queue(*delivery_tags: str, search: bool = False) -> None:
    """Return these messages on the next connection.

    With `search`, Redis may take the messages from their queues later: see SEARCH_TIME.
    """
    until = time.monotonic() + (SEARCH_TIME if search else 0)
    to_return.update(dict.fromkeys(delivery_tags, until))


class QoS(AcknowledgeMixin):
    """Unacknowledged messages, each recorded in Redis with a unique delivery tag.

    A message gets a new tag each time it is taken, so that a worker cannot acknowledge a message
    that another worker has taken. Kombu keeps the tag of the publisher. Seen in kombu 5.7.0 (not
    reported yet). Delete the new tags in `_brpop_start`, `basic_get` and `_accept` once fixed.
    """

    _delivered: Any
    _vrestore_count: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.without_lease: dict[str, float] = {}  # by worker, when this was first seen
        # Delivery tags of messages that return once their exchange is declared.
        self.undeclared: set[str] = set()

    def append(self, message: Any, delivery_tag: str) -> None:
        # Kombu records it only here. Seen in kombu 5.7.0 (kombu #305). Delete this once fixed.
        if delivery_tag in self.channel.recorded:
            self.channel.recorded.remove(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:  # a broadcast message, which was not in a list
            super().append(message, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not requeue:
            self.ack(delivery_tag)
            return
        try:
            self.restore_by_tag(delivery_tag, leftmost=True)
        except (RedisError, OSError) as error:
            return_to_queue(delivery_tag)
            logger.warning("Message %s will be returned later: %s", delivery_tag, error)
        virtual.QoS.ack(self, delivery_tag)

    def set_aside(self, delivery_tag: str, content: bytes) -> None:
        """Move a message that cannot be decoded to another list."""
        with self.channel.conn_or_acquire() as redis, redis.pipeline(transaction=True) as pipe:
            pipe.lpush(UNDECODABLE, content)
            self.remove_records([delivery_tag], pipe)
            pipe.execute()

    def keep(self, delivery_tag: str) -> None:
        """Keep a message when its channel closes, because its task continues."""
        # Kombu returns it. Seen in kombu 5.7.0 (not reported yet). Delete this once fixed.
        self._delivered.pop(delivery_tag, None)

    def restore_visible(self, start: int = 0, num: int = 0, interval: int = 10) -> None:
        """Return the messages of workers whose lease, or visibility timeout, has ended."""
        # Kombu has no leases. Seen in kombu 5.7.0 (kombu #337). Delete this once fixed.
        until = time.monotonic() + RETURN_TIME
        with self.channel.conn_or_acquire() as redis:
            for worker in self._dead_workers(redis):
                keys = [self.channel.full_name(key) for key in lease.keys(worker)]
                while time.monotonic() < until:
                    tags = redis.eval(scripts.HELD, len(keys), *keys, worker, BATCH)
                    if not tags:
                        break
                    if not (returned := self._return(tags, redis, owner=worker)):
                        break
                    logger.warning("Returned %d messages of %s: lease ended", len(returned), worker)
            if self._vrestore_count % (interval or 1) == 0:
                self._return(self._overdue(redis), redis)
        self._vrestore_count += 1

    def _dead_workers(self, redis: Any) -> list[str]:
        """The workers without a lease whose grace period has passed."""
        now = time.monotonic()
        keys = [self.channel.full_name(key) for key in lease.keys("")[:2]]
        names = [worker.decode() for worker in redis.eval(scripts.ENDED, 1, *keys)]
        seen = self.without_lease = {name: self.without_lease.get(name, now) for name in names}
        return [name for name, since in seen.items() if now - since >= lease.GRACE_PERIOD]

    def _overdue(self, redis: Any) -> list[Any]:
        """The messages that processes without a lease have held for the visibility timeout.

        This uses Redis' clock. Kombu uses the clock of this process: see overdue.lua.
        """
        workers, _, held = lease.keys("")
        names = [self.channel.full_name(key) for key in (self.unacked_index_key, workers, held)]
        limits = [self.visibility_timeout, BATCH]
        tags: list[Any] = redis.eval(scripts.OVERDUE, 2, *names[:2], *limits, names[2])
        return tags

    def restore_by_tag(  # type: ignore[override]
        self, tag: Any, client: Any = None, leftmost: bool = False
    ) -> bool:
        """Return a message to its queue. Return False if it is no longer recorded."""
        with self.channel.conn_or_acquire(client) as redis:
            return bool(self._return([tag], redis, push="LPUSH" if leftmost else "RPUSH"))

    def restore_unacked(self, client: Any = None) -> None:
        """Return the messages that this channel has delivered, in their order."""
        with self.channel.conn_or_acquire(client) as redis:
            self._return([*reversed(self._delivered)], redis)
        self._delivered.clear()

    def _return(
        self, tags: Iterable[Any], redis: Any, owner: str = "", push: str = "RPUSH"
    ) -> list[Any]:
        """Return messages to their queues, and return the tags of those that were recorded.

        `owner` is the worker that holds them, if it is another worker. Its lease must have ended.
        """
        tags, restored = [*tags], []
        while tags:
            batch, tags = tags[:BATCH], tags[BATCH:]
            records = redis.hmget(self.channel.full_name(self.unacked_key), batch)
            queues_of: dict[tuple[str, str], list[str]] = {}
            with redis.pipeline(transaction=False) as pipe:
                requested = []
                for tag, record in zip(batch, records, strict=True):
                    restorable = self.channel.restored(tag, record, queues_of)
                    if restorable is None:
                        continue
                    payload, queues = restorable
                    held = lease.keys(owner or lease.worker())
                    keys = [self.unacked_index_key, self.unacked_key, *held, *queues]
                    keys = [self.channel.full_name(key) for key in keys]
                    arguments = [tag, record or b"", push, dumps(payload), "1" if owner else "0"]
                    pipe.eval(scripts.RETURN, len(keys), *keys, *arguments)
                    requested.append(tag)
                answers = dict(zip(requested, pipe.execute(), strict=True))
            restored += [tag for tag, done in answers.items() if done > 0]
            tags += [tag for tag, done in answers.items() if done < 0]  # changed meanwhile
        return restored

    def repeat_failed(self) -> None:
        """Repeat the commands that failed on a lost connection. Raises connection errors.

        What takes longer than RETURN_TIME is left for the next call.
        """
        if tags := [*to_acknowledge]:
            self.remove_records(tags)
            to_acknowledge.difference_update(tags)
            recent.extend(tags)
        waiting = [*reversed(dict(to_return).items())]  # another thread may add to it
        deadline = time.monotonic() + RETURN_TIME
        with self.channel.conn_or_acquire() as redis:
            while waiting and time.monotonic() < deadline:
                batch, waiting = waiting[:BATCH], waiting[BATCH:]
                self.undeclared.clear()
                found = set(self._return([tag for tag, _ in batch], redis))
                for tag, until in batch:
                    ended = tag in found or time.monotonic() > until
                    if ended and tag not in self.undeclared and to_return.get(tag) == until:
                        to_return.pop(tag, None)
