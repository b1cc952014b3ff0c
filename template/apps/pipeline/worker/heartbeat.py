"""The worker's heartbeat, which shows that the worker consumes messages."""

import logging
import math
import threading
import time
from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.concurrency import solo
from celery.worker import state
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from apps.pipeline.broker import backlog, consumers
from apps.pipeline.liveness import heartbeat
from apps.pipeline.liveness.forks import ForkLock
from apps.pipeline.liveness.watchdog import Watchdog
from apps.pipeline.worker import answer  # noqa: F401 - registers its command

# Seconds until the heartbeat stops, if the event loop does not run, or if it receives no message
# although messages wait and a process is free. 60 s later the watchdog ends the worker.
STUCK_AFTER = 15
# Seconds, for each attempt to connect. All have to end before the watchdog ends the worker.
SQS = {"connect_timeout": 5, "read_timeout": 5, "retries": {"total_max_attempts": 1}}
TIMEOUTS: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 5, "answer_timeout": 5}
TIMEOUTS |= {"client-config": SQS}
# Seconds for which a worker that stops waits for the thread, which may be in a check.
LAST_CHECK = 3

logger = logging.getLogger(__name__)
_fork_lock = ForkLock()


class Heartbeat(bootsteps.StartStopStep):
    """Write a heartbeat while the worker consumes messages. If it does not, end the worker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self.loop_ran_at = self.received_at = time.monotonic()
        self.watchdog, self.ended = Watchdog("worker"), threading.Event()
        self.node = parent.hostname
        self.fixed_prefetch = 0  # the number of messages, if the broker does not change it
        heartbeat.delete("worker", node=self.node)  # deletes the file of a killed worker
        self.thread: threading.Thread | None = None
        self.timer: Any = None
        parent.on_received = self._on_received

    def start(self, parent: Any) -> None:
        # `pool_grow` changes `parent.qos`. With quorum queues RabbitMQ does not follow.
        is_fixed = parent.connection.transport.driver_type == "amqp" and not parent.qos_global
        self.fixed_prefetch = parent.initial_prefetch_count if is_fixed else 0
        self.timer = parent.timer.call_repeatedly(1, self._on_loop)
        self._on_loop()
        if self.thread is None:
            self.thread = threading.Thread(target=self._watch, args=(parent,), daemon=True)
            self.thread.start()
            self.watchdog.start()

    def stop(self, parent: Any) -> None:
        if self.timer:
            self.timer.cancel()

    def shutdown(self, parent: Any) -> None:
        self.ended.set()
        self.watchdog.stop()
        if self.thread:  # it may be about to write what is deleted here
            self.thread.join(LAST_CHECK)
        heartbeat.delete("worker", node=self.node)
        with suppress(OperationalError, OSError, RedisError):
            consumers.remove(parent.app, parent.hostname, parent.app.amqp.queues.consume_from)

    def _on_loop(self) -> None:
        self.loop_ran_at = time.monotonic()

    def _on_received(self) -> None:
        self.received_at = time.monotonic()

    def _watch(self, parent: Any) -> None:
        with _fork_lock:
            while not self.ended.is_set():
                try:
                    self._beat_if_consuming(parent)
                except Exception:  # for example a full disk; the next attempt can succeed
                    text = "The heartbeat check of the worker failed; the next one is in %d s"
                    logger.exception(text, heartbeat.INTERVAL)
                _fork_lock.wait(self.ended, heartbeat.INTERVAL)

    def _beat_if_consuming(self, parent: Any) -> None:
        if self._consumes(parent) and not self.ended.is_set():
            self.watchdog.reset()
            queues = list(parent.app.amqp.queues.consume_from)
            heartbeat.write("worker", "\n".join(queues), node=self.node)
            # The consumer logs that it has lost the broker.
            with suppress(OperationalError, OSError, RedisError):
                consumers.record(parent.app, parent.hostname, queues, TIMEOUTS)

    def _consumes(self, parent: Any) -> bool:
        """Whether the worker consumes, or cannot because it stops or the broker does not answer."""
        if parent.controller.blueprint.state != bootsteps.RUN:  # type: ignore[attr-defined]
            return True  # it waits for its last tasks
        now = time.monotonic()
        if (waiting := waiting_messages(parent)) is None:
            return True
        if not (waiting and can_take(parent, self.fixed_prefetch or parent.qos.value)):
            self.received_at = max(self.received_at, now - 1)
        # In the pool solo the event loop does not run while a task runs.
        blocks_loop = isinstance(parent.pool, solo.TaskPool) and state.active_requests
        loop_runs = now - self.loop_ran_at < STUCK_AFTER or bool(blocks_loop)
        return loop_runs and now - self.received_at < STUCK_AFTER


def can_take(parent: Any, prefetch: int) -> bool:
    """Whether a process is free, and no limit or shutdown keeps the worker from taking messages."""
    buckets = parent.task_buckets.values()
    limit = parent.app.conf.worker_eta_task_limit
    scheduled = len(state.scheduled_requests)  # type: ignore[attr-defined]
    return (
        len(state.reserved_requests) < min(parent.pool.num_processes, prefetch or math.inf)
        and not any(bucket and bucket.contents for bucket in buckets)  # they wait for a rate limit
        and not (limit and scheduled >= limit)
        and not parent.is_stopping
    )


def gives_all(queue: Any) -> bool:
    """Whether a queue gives each message to the next worker that can take one.

    In a FIFO queue of SQS, or with a single active consumer, a message can wait for another worker.
    """
    arguments = queue.queue_arguments or {}
    return not (queue.name.endswith(".fifo") or arguments.get("x-single-active-consumer"))


def waiting_messages(parent: Any) -> int | None:
    """The number of messages that wait for this worker, on a new connection. None if unknown."""
    with parent.app.connection_for_read(transport_options=TIMEOUTS) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            queues = filter(gives_all, parent.task_consumer.queues)
            return sum(backlog.waiting(connection, queue.name) for queue in queues)
        except (OperationalError, OSError, *connection.connection_errors):
            return None
