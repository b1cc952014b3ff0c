"""Sends what is left in the outbox. Beat's leader does this in each tick without a due task."""

import logging
import time

from celery import Celery
from django.db import Error, close_old_connections, router

from apps.pipeline.outbox import publishing
from apps.pipeline.outbox.models import Message
from apps.pipeline.outbox.record import Record

logger = logging.getLogger(__name__)

TIME_LIMIT = 1.0  # for the outbox, in each tick in which no task is due


def relay(app: Celery, seconds: float = TIME_LIMIT) -> bool:
    """Send the oldest messages, for at most `seconds`. Return whether more can be sent now.

    Several relays can run at once. No transaction is open while a message is published.
    """
    alias, until = router.db_for_write(Message), time.monotonic() + seconds
    try:
        close_old_connections()
        while not publishing.is_paused() and time.monotonic() < until:
            if not (found := publishing.claim(publishing.due(alias))):
                return False
            publishing.send(app, _readable(found), until)
    except Error as error:
        logger.warning("The outbox cannot be read: %s", error)
        return False
    return not publishing.is_paused()


def _readable(messages: list[Message]) -> list[publishing.Row]:
    """The messages with their records, without those of a release with other fields."""
    rows = []
    for message in messages:
        try:
            rows.append((message, Record.loads(message.record)))
        except Exception as error:
            publishing.refuse(message, error)
    return rows
