"""The consumer, which passes the messages of the broker to the processes of the worker."""

import logging
from collections.abc import Callable
from typing import Any

from celery.concurrency import prefork
from celery.exceptions import WorkerShutdown
from celery.worker import state
from kombu import Message

from apps.pipeline.broker.redis.server import unsupported
from apps.pipeline.broker.redis.transport import keep_started, return_recent, return_unstarted
from apps.pipeline.logs import ids
from apps.pipeline.worker.mingle import skip_if_alone
from apps.pipeline.worker.request import has_lost_process, is_in_process
from apps.pipeline.worker.unusable import UnusableMixin

logger = logging.getLogger(__name__)

# What Celery raises for a message whose headers or body are not those of a task.
UNUSABLE = (AttributeError, KeyError, TypeError, ValueError)


class Consumer(UnusableMixin):
    """Celery's consumer, which loses no message if it loses the connection."""

    controller: Any
    prefetch_multiplier: int
    task_buckets: dict[str, Any]
    is_stopping = False  # True after SIGTERM: the worker takes no more messages
    steps: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.on_received: Callable[[], None] = lambda: None
        self.pauses = []
        super().__init__(*args, **kwargs)
        skip_if_alone(self.steps)

    def connection_for_read(self, *args: Any, **kwargs: Any) -> Any:
        connection = super().connection_for_read(*args, **kwargs)
        if problem := unsupported(connection):
            logger.critical("The broker %s", problem)
            raise WorkerShutdown(1)
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        # Kombu would return the messages of running tasks, and these would run twice. Seen in kombu
        # 5.7.0 (not reported yet). Delete this method once fixed.
        cancelled = self._cancelled()
        for request in self._continuing() - cancelled:
            keep_started(request.message)
        return_recent()
        super().on_connection_error_after_connected(exc)
        for request in cancelled:
            return_unstarted(request.message)

    def _cancelled(self) -> set[Any]:
        """The running tasks that Celery ends when the connection is lost. By default none."""
        if not self.app.conf.worker_cancel_long_running_tasks_on_connection_loss:
            return set()
        return {one for one in state.active_requests if one.task.acks_late and not one.acknowledged}

    def _continuing(self) -> set[Any]:
        """The requests whose tasks run, or will run: a pool cannot drop what a process has."""
        continuing = {*state.reserved_requests}
        if isinstance(self.pool, prefork.TaskPool):
            pool = getattr(self.pool, "_pool", None)
            continuing = {request for request in continuing if is_in_process(request, pool)}
        return continuing | {*state.active_requests}

    @property
    def max_prefetch_count(self) -> int:
        """The messages for all processes that the pool can have.

        Celery takes the current number of processes. Then `--autoscale` adds none after a lost
        connection. Seen in celery 5.7.0 (not reported yet). Delete this property once fixed.
        """
        scaler = getattr(self.controller, "autoscaler", None)
        processes = scaler.max_concurrency if scaler else self.pool.num_processes
        return int(processes * self.prefetch_multiplier)

    def cancel_active_requests(self) -> None:
        """End the tasks that still run, or return their messages if only a process can be ended.

        With other pools Celery raises an error in the task, and its message is acknowledged. Seen
        in celery 5.7.0 (not reported yet). Delete this method once fixed.
        """
        if isinstance(self.pool, prefork.TaskPool):
            super().cancel_active_requests()
            return
        for request in {*state.active_requests}:
            if request.task.acks_late and not request.acknowledged:
                request.acknowledged = True  # its end must not acknowledge the message
                self.return_to_queue(request.message)

    def on_close(self) -> None:
        # When Celery loses the connection, it drops the tasks that it has not started. On Redis
        # their messages would stay recorded for as long as this worker renews its lease. Seen in
        # kombu 5.7.0 (not reported yet). Delete this method once fixed.
        waiting = {*state.reserved_requests, *state.scheduled_requests}  # type: ignore[attr-defined]
        limited = [bucket.contents for bucket in self.task_buckets.values() if bucket]
        waiting |= {request for contents in limited for request, _ in contents}
        continuing = self._continuing()
        for request in waiting - continuing:
            return_unstarted(request.message)
        for pause, message in self.pauses:
            return_unstarted(message)
            self.timer.cancel(pause)
        self.pauses.clear()
        # Celery keeps the active ones. A worker that stops has to wait for the others too.
        state.active_requests |= continuing
        super().on_close()
        for request in filter(has_lost_process, continuing):
            state.task_ready(request)
            self.return_to_queue(request.message)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            self.on_received()
            with ids.holding(ids.message, message.headers or {}):
                try:
                    # Are they numbers?
                    sum(filter(None, (message.headers or {}).get("timelimit") or ()))
                    handle(message)
                except UNUSABLE as error:
                    # Celery handles only some of these errors. Others stop the worker, make it
                    # reconnect for ever, or keep the process that it has reserved for the task.
                    # Seen in celery 5.7.0 (not reported yet). Delete this and `sum` once fixed.
                    if message.acknowledged:
                        raise
                    if any(one.message is message for one in state.reserved_requests):
                        # Other pools than prefork reserve none.
                        getattr(self.controller, "_quick_release", bool)()
                    self.on_invalid_task(None, message, error)

        return on_task_received
