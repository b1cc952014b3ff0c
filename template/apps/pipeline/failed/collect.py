"""Moves the messages of the queue `unknown-tasks` to the failed tasks."""

from celery import Celery

from apps.pipeline.broker.queues import UNKNOWN_QUEUE
from apps.pipeline.failed.models import Reason
from apps.pipeline.failed.record import record_message


def collect(app: Celery) -> int:
    """Store the messages of the queue, and return how many. Raises the broker's errors.

    A message whose arguments cannot be stored, for example hidden ones, stays in the queue.
    """
    collected, others = 0, []
    with app.connection_for_read() as connection, connection.channel() as channel:
        queue = app.amqp.queues.new_missing(UNKNOWN_QUEUE).bind(channel)
        queue.declare()
        while received := queue.get():
            if not record_message(Reason.UNKNOWN, received, "No worker knew this task."):
                others.append(received)
                continue
            received.ack()
            collected += 1
        for received in others:
            received.requeue()
    return collected
