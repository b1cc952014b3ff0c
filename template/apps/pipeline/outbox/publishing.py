"""Claims messages, publishes them, and deletes them."""

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from celery import Celery
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from kombu.exceptions import OperationalError

from apps.pipeline.broker.errors import short_reason
from apps.pipeline.outbox.direct import directly
from apps.pipeline.outbox.models import GRACE_PERIOD, Message
from apps.pipeline.outbox.record import Record

logger = logging.getLogger(__name__)

BATCH = 500  # messages that a process claims in one step, or keeps in memory for a transaction
CLAIM_TIME = timedelta(seconds=60)  # after which others send the messages of a killed process
PAUSE = 5  # seconds for which a process leaves messages to Beat if the broker did not answer
RETRY_DELAY = timedelta(seconds=10)  # until a message that was refused is sent again

Row = tuple[Message, Record]

_paused_until = 0.0


def keep(record: Record, name: str, alias: str, error: Exception) -> None:
    """Store a message that the broker did not accept. If that fails too, raise its error."""
    try:
        create(record, name, alias, RETRY_DELAY, last_error=_words(error))
    except Exception:  # the database does not answer, or an event loop runs
        raise error from error.__cause__


def create(
    record: Record, name: str, alias: str, delay: timedelta = GRACE_PERIOD, **fields: Any
) -> Message:
    fields |= {"key": record.key, "record": record.dumps(), "due_at": after(delay, alias)}
    rows = Message.objects.using(alias)
    return rows.create(task_id=record.headers["id"], name=name, **fields)


def after(delay: timedelta, alias: str) -> Any:
    """The time after this delay, by the clock of PostgreSQL, or of this machine.

    MySQL's clock depends on the time zone of a session.
    """
    is_postgresql = transaction.get_connection(alias).vendor == "postgresql"
    return (Now() if is_postgresql else timezone.now()) + delay


def claim(rows: "QuerySet[Message]") -> list[Message]:
    """Claim the oldest of these messages for this process. Other processes skip them."""
    with transaction.atomic(using=rows.db):
        skips = transaction.get_connection(rows.db).features.has_select_for_update_skip_locked
        found = list(rows.select_for_update(skip_locked=skips).order_by("pk")[:BATCH])
        update(found, CLAIM_TIME)
    return found


def due(alias: str) -> "QuerySet[Message]":
    """The messages that may be sent now. A message waits for earlier ones with the same key."""
    rows = Message.objects.using(alias)
    earlier = rows.filter(key=OuterRef("key"), pk__lt=OuterRef("pk"))
    return rows.filter(Q(key="") | ~Exists(earlier), due_at__lte=after(timedelta(0), alias))


def send(
    app: Celery, rows: Iterable[Row], until: float = float("inf"), producer: Any = None
) -> None:
    """Publish messages and delete them, until the broker does not answer or the time is over."""
    waiting, sent, stuck = [*rows], list[Message](), set[str]()
    try:
        with directly(), app.producer_or_acquire(producer) as producer:
            while waiting and time.monotonic() < until:
                message, record = waiting[0]
                if message.key in stuck:
                    pass  # an earlier message with this key was refused
                elif _publish(app, producer, message, record):
                    sent.append(message)
                elif message.key:
                    stuck.add(message.key)
                del waiting[0]
    except OperationalError as error:
        pause()
        logger.warning("%s waits in the outbox: %s", waiting[0][0], _words(error))
        update([waiting.pop(0)[0]], RETRY_DELAY, last_error=_words(error))
    finally:
        _delete(sent)
        update([message for message, _ in waiting])


def _publish(app: Celery, producer: Any, message: Message, record: Record) -> bool:
    """Publish a message. Return whether to delete its row.

    Raises OperationalError if the broker does not answer.
    """
    try:
        record.publish(app, producer)
    except OperationalError:
        raise
    except Exception as error:  # the fault is in this message, and not in the connection
        refuse(message, error)
        return False
    return True


def refuse(message: Message, error: Exception) -> None:
    """Log that a message cannot be sent, and leave it in the outbox for a later attempt."""
    logger.error("%s cannot be sent", message, exc_info=error)
    update([message], 6 * RETRY_DELAY, last_error=_words(error))


def update(messages: list[Message], delay: timedelta = timedelta(0), **fields: Any) -> None:
    """Make the messages due after this delay."""
    if messages:
        rows = rows_of(messages)
        rows.update(due_at=after(delay, rows.db), **fields)


def _delete(messages: list[Message]) -> None:
    if not messages:
        return
    rows: Any = rows_of(messages)
    connection = transaction.get_connection(rows.db)
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        # Do not wait for the disk: if a crash undoes the delete, the message is only sent again.
        # The two statements are one transaction, because they are sent together.
        table, ids = Message._meta.db_table, ", ".join(str(message.pk) for message in messages)
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET LOCAL synchronous_commit = off; DELETE FROM {table} WHERE id IN ({ids})"  # noqa: S608
            )
    else:
        rows.delete()


def rows_of(messages: list[Message]) -> Any:
    rows = Message.objects.using(messages[0]._state.db)
    return rows.filter(pk__in=[message.pk for message in messages])


def is_paused() -> bool:
    """Whether this process leaves messages to Beat."""
    return time.monotonic() < _paused_until


def pause() -> None:
    """Leave messages to Beat for a moment, because the broker did not answer."""
    global _paused_until
    _paused_until = time.monotonic() + PAUSE


def _words(error: Exception) -> str:
    return short_reason(error)[:1000]
