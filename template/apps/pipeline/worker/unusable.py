"""Keeps messages that cannot be run as tasks: unknown tasks, and messages that cannot be read."""

import logging
from typing import Any

from celery import signals
from celery.app.task import Context
from celery.exceptions import NotRegistered
from celery.worker import consumer
from django.apps import apps
from kombu import Message
from kombu.exceptions import OperationalError

from apps.pipeline.broker import queues
from apps.pipeline.broker.redis.transport import return_unstarted
from apps.pipeline.worker.timeouts import RETRY_POLICY

logger = logging.getLogger(__name__)

# A message for a task that this worker does not know returns to its queue after UNKNOWN_PAUSE
# seconds, because a newer worker may be starting. After UNKNOWN_OFFERS times it is kept with the
# failed tasks, or in a queue of its own.
UNKNOWN_PAUSE = 10
UNKNOWN_OFFERS = 60


class UnusableMixin(consumer.Consumer):
    """Mixin for a consumer: keep messages with which no task can be run.

    Celery's own consumer discards these messages. In a rolling deploy an old worker would discard
    tasks of the new code. Seen in celery 5.7.0 (not reported yet). Once fixed, delete this module.
    """

    connection_errors: tuple[type[Exception], ...]
    qos: Any
    pauses: list[tuple[Any, Message]]  # entries of the timer

    def on_unknown_task(self, body: Any, message: Message, exc: BaseException) -> None:
        headers: dict[str, Any] = message.headers
        if queues.is_broadcast(self.app, message.delivery_info):
            text = "Task %s[%s], which was sent to all workers, is not registered in this worker"
            logger.warning(text, headers.get("task"), headers.get("id"))
            message.ack_log_error(logger, self.connection_errors)
            return
        offers = headers.get("offers", 0) + 1
        text = "Task %s[%s] is not registered in this worker (delivery %d of %d)"
        logger.warning(text, headers.get("task"), headers.get("id"), offers, UNKNOWN_OFFERS)
        if queues.is_delayed_by_broker(self.app, message.delivery_info):
            self._offer_again(message, offers)
            return
        self.qos.increment_eventually()  # the message must not reduce the prefetch limit
        arguments = (message, offers)
        pause = self.timer.call_after(UNKNOWN_PAUSE, self._offer_after_pause, arguments)
        self.pauses.append((pause, message))

    def _offer_after_pause(self, message: Message, offers: int) -> None:
        del self.pauses[0]  # they end in the order in which they began
        try:
            self._offer_again(message, offers)
        finally:
            self.qos.decrement_eventually()

    def _offer_again(self, message: Message, offers: int) -> None:
        is_last = offers >= UNKNOWN_OFFERS
        if not (is_last and self._keep("UNKNOWN", message, "No worker knows this task.")):
            try:
                self._send_again(message, offers)
            except OperationalError as error:
                logger.warning("Returning a message, because it cannot be sent again: %s", error)
                self.return_to_queue(message)
                return
        message.ack()
        if is_last:
            self._fail_unknown(message)

    def _fail_unknown(self, message: Message) -> None:
        """Store the result and send the signal, as Celery does for an unknown task."""
        headers, properties = message.headers, message.properties
        name, task_id = headers.get("task"), headers.get("id")
        if not (name and task_id):
            return
        error = NotRegistered(name)
        request = Context(headers, errbacks=None, chord=None, reply_to=properties.get("reply_to"))
        try:
            self.app.backend.mark_as_failure(task_id, error, request=request)
        except Exception as reason:  # different result backends raise different errors
            logger.warning("The result of the unknown task %s was not stored: %s", name, reason)
        signals.task_unknown.send(self, message=message, exc=error, name=name, id=task_id)

    def return_to_queue(self, message: Message) -> None:
        """Return a message now, or when the broker answers again."""
        try:
            message.requeue()
        except self.connection_errors:
            return_unstarted(message)

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
        if is_kept := record_message(Reason[reason], message, error, queue, in_task=True):
            logger.error("A message is kept with the failed tasks: %s", error)
        return is_kept
