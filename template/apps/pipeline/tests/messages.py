"""Queues of the tests on Redis, and messages in them."""

from typing import Any

from kombu import Connection, Exchange, Queue

QUEUE = Queue("celery", Exchange("celery"), routing_key="celery")
MAIL = Queue("mail", Exchange("mail"), routing_key="mail")


def send(
    connection: Connection, words: str = "hello", queue: Queue = QUEUE, **options: Any
) -> None:
    connection.Producer().publish(
        words, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue], **options
    )
