"""The consumer, which passes the messages of the broker to the processes of the worker."""

import logging
from collections.abc import Callable
from typing import Any

from celery.concurrency import prefork
from celery.exceptions import WorkerShutdown
from celery.worker import consumer, state
from django.apps import apps
from kombu import Message
from kombu.exceptions import OperationalError

from apps.pipeline.broker import queues
from apps.pipeline.broker.redis.server import unsupported
from apps.pipeline.broker.redis.transport import keep_started, return_recent, return_unstarted
from apps.pipeline.logs import ids
from apps.pipeline.worker.mingle import skip_if_alone
from apps.pipeline.worker.request import is_in_process
from apps.pipeline.worker.timeouts import RETRY_POLICY

logger = logging.getLogger(__name__)

# A message for a task that this worker does not know returns to its queue after UNKNOWN_PAUSE
# seconds, because a newer worker may be starting. After UNKNOWN_OFFERS times it is kept with the
# failed tasks, or in a queue of its own.
UNKNOWN_PAUSE = 10
UNKNOWN_OFFERS = 60


class Consumer(consumer.Consumer):
    """Celery's consumer, which keeps messages for tasks that it does not know.

    Celery's own consumer discards these messages. In a rolling deploy an old worker would discard
    tasks of the new code. Seen in celery 5.7.0 (not reported yet). Once fixed, delete
    `on_unknown_task` and the methods that it calls.
    """

    connection_errors: tuple[type[Exception], ...]
    qos: Any
    task_buckets: dict[str, Any]
    is_stopping = False  # True after SIGTERM: the worker takes no more messages
    steps: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.on_received: Callable[[], None] = lambda: None
        self.pauses: list[Any] = []  # entries of the timer
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
        for request in self._continuing():
            keep_started(request.message)
        return_recent()
        super().on_connection_error_after_connected(exc)

    def _continuing(self) -> set[Any]:
        """The requests whose tasks run, or will run: a pool cannot drop what a process has."""
        continuing = {*state.reserved_requests}
        if isinstance(self.pool, prefork.TaskPool):
            continuing = {request for request in continuing if is_in_process(request)}
        return continuing | {*state.active_requests}

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
        for pause in self.pauses:
            return_unstarted(pause.args[0])
            self.timer.cancel(pause)
        self.pauses.clear()
        super().on_close()
        for request in continuing:
            state.task_reserved(request)  # else a worker that stops would not wait for it

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Message) -> None:
            self.on_received()
            token = ids.message.set(message.headers or {})
            try:
                handle(message)
            finally:
                ids.message.reset(token)

        return on_task_received

    def on_unknown_task(self, body: Any, message: Message, exc: BaseException) -> None:
        headers: dict[str, Any] = message.headers
        offers = headers.get("offers", 0) + 1
        text = "Task %s[%s] is not registered in this worker (delivery %d of %d)"
        logger.warning(text, headers.get("task"), headers.get("id"), offers, UNKNOWN_OFFERS)
        if queues.is_delayed_by_broker(self.app, message.delivery_info):
            self._offer_again(message, offers)
            return
        self.qos.increment_eventually()  # the message must not reduce the prefetch limit
        arguments = (message, offers)
        pause = self.timer.call_after(UNKNOWN_PAUSE, self._offer_after_pause, arguments)
        self.pauses.append(pause)

    def _offer_after_pause(self, message: Message, offers: int) -> None:
        del self.pauses[0]  # they end in the order in which they began
        try:
            self._offer_again(message, offers)
        finally:
            self.qos.decrement_eventually()

    def _offer_again(self, message: Message, offers: int) -> None:
        is_last = offers >= UNKNOWN_OFFERS
        if is_last and self._keep("UNKNOWN", message, "No worker knows this task."):
            message.ack()
            return
        try:
            self._send_again(message, offers)
        except OperationalError as error:
            logger.warning("Returning a message, because it cannot be sent again: %s", error)
            try:
                message.requeue()
            except self.connection_errors:
                return_unstarted(message)
        else:
            message.ack()

    def _send_again(self, message: Message, offers: int) -> None:
        """Send a message after a pause, or to UNKNOWN_QUEUE. Raises kombu's OperationalError."""
        info = message.delivery_info
        destination = {"exchange": info["exchange"], "routing_key": info["routing_key"]}
        if offers >= UNKNOWN_OFFERS:
            queue = self.app.amqp.queues.new_missing(queues.UNKNOWN_QUEUE)
            destination = {"exchange": queue.exchange, "routing_key": queue.name}
            destination |= {"declare": [queue]}
        elif queues.is_delayed_by_broker(self.app, info):
            destination = queues.delayed(info["routing_key"], UNKNOWN_PAUSE)
        headers = message.headers | {"offers": offers}
        with self.app.producer_or_acquire() as producer:
            producer.publish(
                message.body,
                compression=headers.pop("compression", None),  # the body is no longer compressed
                headers=headers,
                priority=message.properties.get("priority"),
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                correlation_id=message.properties.get("correlation_id"),
                reply_to=message.properties.get("reply_to"),
                retry=True,
                retry_policy=RETRY_POLICY,
                **destination,
            )
        if offers >= UNKNOWN_OFFERS:
            logger.error("Moved an unknown task to the queue %s: %s", queue.name, info)

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        self._keep("UNREADABLE", message, str(exc))
        super().on_decode_error(message, exc)

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:
        self._keep("UNREADABLE", message, str(exc))
        super().on_invalid_task(body, message, exc)

    def on_unknown_message(self, body: Any, message: Message) -> None:
        self._keep("UNREADABLE", message, "This is not the message of a task.")
        super().on_unknown_message(body, message)

    def _keep(self, reason: str, message: Message, error: str) -> bool:
        """Store a message with the failed tasks, if the project keeps them. No task was run."""
        if not apps.is_installed("apps.pipeline.failed"):
            return False
        from apps.pipeline.failed.models import Reason
        from apps.pipeline.failed.record import record_message

        queue = queues.queue_of(self.app, message.delivery_info) or ""
        # The event loop must not wait for the database.
        is_kept = record_message(Reason[reason], message, error, queue, in_task=True)
        if is_kept:
            logger.error("A message is kept with the failed tasks: %s", error)
        return is_kept
