"""Receives Celery's events."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app

TIMEOUT = 0.2  # seconds


@contextmanager
def events(handle: Callable[[dict[str, Any]], None]) -> Iterator[Callable[[], bool]]:
    """Call the function for each event. Yield a function that waits up to TIMEOUT for one.

    It returns whether there was an event. SQS has none: a receiver would only create a queue, which
    nobody deletes.
    """
    with current_app.connection_for_read() as connection:
        if connection.transport.driver_type == "sqs":
            yield lambda: bool(time.sleep(TIMEOUT))  # type: ignore[func-returns-value]
            return
        receiver = current_app.events.Receiver(connection, handlers={"*": handle})
        with receiver.consumer_context(wakeup=False) as (event_connection, _, _):

            def wait() -> bool:
                try:
                    event_connection.drain_events(timeout=TIMEOUT)
                except TimeoutError:
                    return False
                return True

            yield wait
