"""A worker's lease on the messages that it has taken from Redis.

The lease is a key that Redis deletes after 30 s unless the worker renews it. Only Redis' clock is
used. When a lease has ended, another worker returns the messages to their queues. A process without
a lease holds its messages for the visibility timeout, as Celery's own workers do. With kombu a task
that takes longer than the visibility timeout runs twice. Seen in kombu 5.7.0 (kombu #337, celery
#5935). Delete this module and the step `Lease` once fixed.
"""

import functools
import logging
import os
import threading
import time
from typing import Any
from uuid import uuid4

from celery import Celery

from apps.pipeline.broker.redis import scripts
from apps.pipeline.liveness.forks import ForkLock

logger = logging.getLogger(__name__)

SECONDS = 30  # duration of a lease; another worker returns the messages within ten more seconds
RENEWAL_INTERVAL = 5  # seconds between two renewals
ANSWER_TIMEOUT = 5  # seconds for the broker's answer to a renewal
GRACE_PERIOD = 7  # seconds after an outage in which a worker can still renew its ended lease

# Seconds between two updates of kombu's own records, and how many records are updated in one step.
# Workers without leases return a message whose record is older than the visibility timeout.
RECORD_INTERVAL = 600
BATCH = 1000

_fork_lock = ForkLock()
_renewing: "Renewal | None" = None


@functools.cache
def worker() -> str:
    """The name under which this process holds a lease."""
    return str(uuid4())


def keys(owner: str) -> tuple[str, str, str]:
    """The keys in Redis: all workers, the lease of this owner, and the tags that it holds."""
    return "pipeline.workers", f"pipeline.lease.{owner}", f"pipeline.held.{owner}"


def held() -> bool:
    """Whether this process renews a lease. The processes of a worker's pool do not."""
    return _renewing is not None and _renewing.process == os.getpid()


def age() -> float | None:
    """Seconds since this process last renewed its lease. None if it has no lease."""
    return time.monotonic() - _renewing.renewed_at if _renewing is not None else None


def has_ended_since(moment: float) -> bool:
    """Whether the lease has ended after this moment, for example because the worker was frozen."""
    return _renewing is not None and _renewing.check_end() > moment


def start(app: Celery) -> None:
    """Start a thread that renews a lease, even while the main thread is busy.

    With the pools gevent and eventlet the thread is a greenlet, and stops while a task blocks.
    """
    global _renewing
    transport: Any = app.connection_for_read().get_transport_cls()
    if not held() and getattr(transport, "has_leases", False):
        _renewing = Renewal(app)
        threading.Thread(target=_renewing.run, name="lease", daemon=True).start()


def stop() -> None:
    """Stop the renewal."""
    global _renewing
    if _renewing is not None:
        _renewing.ended.set()
        _renewing = None


class Renewal:
    def __init__(self, app: Celery) -> None:
        self.app, self.process, self.ended = app, os.getpid(), threading.Event()
        self.renewed_at, self.ended_at = time.monotonic(), float("-inf")

    def run(self) -> None:
        timeouts = {"socket_timeout": ANSWER_TIMEOUT, "socket_connect_timeout": ANSWER_TIMEOUT}
        with _fork_lock:
            while not self.ended.is_set():
                try:
                    with self.app.connection_for_read(transport_options=timeouts) as connection:
                        self.renew_until_ended(connection.default_channel)
                except Exception as error:  # the next attempt can succeed after any error
                    logger.warning("Renewing the lease failed, trying again: %s", error)
                    _fork_lock.wait(self.ended, 1)

    def renew_until_ended(self, channel: Any) -> None:
        """Renew the lease every RENEWAL_INTERVAL. Raises the broker's errors.

        It updates the records less often.
        """
        interval = min(RECORD_INTERVAL, channel.visibility_timeout / 3)
        updated_at = -interval
        while not self.ended.is_set():
            began = time.monotonic()
            renew(channel)
            self.check_end()  # the process can be frozen before the answer too
            self.renewed_at = began
            if time.monotonic() - updated_at >= interval:
                update_records(channel)
                updated_at = time.monotonic()
            _fork_lock.wait(self.ended, RENEWAL_INTERVAL)

    def check_end(self) -> float:
        """When the lease ended, if it has ended."""
        if time.monotonic() >= self.renewed_at + SECONDS:
            self.ended_at = self.renewed_at + SECONDS
        return self.ended_at


def renew(channel: Any) -> None:
    """Renew this worker's lease. Raises the broker's connection errors."""
    names = [channel.full_name(key) for key in keys(worker())]
    channel._create_client().eval(scripts.RENEW, len(names), *names, worker(), SECONDS)


def update_records(channel: Any) -> None:
    """Update the times of this worker's messages, for workers without leases."""
    names = [channel.full_name(key) for key in (keys(worker())[2], channel.unacked_index_key)]
    client, cursor = channel._create_client(), b"0"
    while True:
        cursor = client.eval(scripts.UPDATE_RECORDS, len(names), *names, cursor, BATCH)
        if cursor == b"0":
            return
        renew(channel)
