"""Stores messages, publishes them after the commit, and deletes them."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from celery import Celery
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError

from apps.pipeline.broker.errors import short_reason
from apps.pipeline.outbox.direct import directly
from apps.pipeline.outbox.models import OWN_TIME, Message
from apps.pipeline.outbox.record import ExpiredError, Record

logger = logging.getLogger(__name__)

BATCH = 500  # messages that a process claims in one step, or keeps in memory for a transaction
CLAIM = timedelta(seconds=60)  # after which others send the messages of a killed process
PAUSE = 5  # seconds for which a process leaves messages to Beat if the broker did not answer
AGAIN = timedelta(seconds=10)  # until a message that was refused is sent again

Row = tuple[Message, Record]

_away_until = 0.0


class Batch:
    """The messages of a transaction."""

    def __init__(self, app: Celery, alias: str, hooks: object) -> None:
        self.app, self.alias, self.hooks = app, alias, hooks
        self.rows: list[Row] = []

    def publish(self, producer: Any = None) -> None:
        """Publish the messages, after the commit. Only the first call has something to publish."""
        rows, self.rows = self.rows, []
        if rows and not is_away() and (rows := self._unblocked(self._kept(rows))):
            send(self.app, rows, time.monotonic() + OWN_TIME.total_seconds(), producer)

    def _kept(self, rows: list[Row]) -> list[Row]:
        """The rows that no savepoint has rolled back and no Beat has claimed. Claim several."""
        # SQLite reuses the primary key of a row that was rolled back, so compare ids of tasks too.
        ids = [message.task_id for message, _ in rows]
        found = _rows([message for message, _ in rows]).filter(task_id__in=ids)
        if len(rows) == 1 and rows[0][0].created_at > timezone.now() - OWN_TIME / 2:
            return rows if found.exists() else []
        kept = {row.pk for row in claim(found.filter(due_at__lte=timezone.now() + OWN_TIME))}
        return [row for row in rows if row[0].pk in kept]

    def _unblocked(self, rows: list[Row]) -> list[Row]:
        """The rows whose key has no earlier row in the table. Beat sends the others in order."""
        first: dict[str, int] = {}
        for message, _ in rows:
            if message.key:
                first.setdefault(message.key, message.pk)
        earlier = Message.objects.using(self.alias)
        blocked = {key for key, pk in first.items() if earlier.filter(key=key, pk__lt=pk).exists()}
        _set([row for row, _ in rows if row.key in blocked], due_at=timezone.now())
        return [row for row in rows if row[0].key not in blocked]


def store(app: Celery, record: Record, name: str, alias: str, producer: Any) -> None:
    """Store a message in the transaction, and publish it after the commit. Without one, at once."""
    message = _create(record, name, alias)
    connection: Any = transaction.get_connection(alias)
    batch = vars(connection).get("outbox")
    # Django replaces `run_on_commit` after a commit and after a rollback, even of a savepoint.
    if batch is None or batch.hooks is not connection.run_on_commit or batch.app is not app:
        batch = connection.outbox = Batch(app, alias, connection.run_on_commit)
    if len(batch.rows) < BATCH:  # Beat sends the rest
        batch.rows.append((message, record))
    held = None if connection.in_atomic_block else producer
    transaction.on_commit(partial(batch.publish, held), using=alias, robust=True)


def keep(record: Record, name: str, alias: str, error: Exception) -> None:
    """Store a message that the broker did not take."""
    _create(record, name, alias, last_error=_words(error), due_at=timezone.now() + AGAIN)


def _create(record: Record, name: str, alias: str, **fields: Any) -> Message:
    fields |= {"key": record.key, "record": record.dumps()}
    rows = Message.objects.using(alias)
    return rows.create(task_id=record.headers["id"], name=name, **fields)


def claim(rows: "QuerySet[Message]") -> list[Message]:
    """Claim the oldest of these messages for this process. Other processes skip them."""
    with transaction.atomic(using=rows.db):
        skips = transaction.get_connection(rows.db).features.has_select_for_update_skip_locked
        found = list(rows.select_for_update(skip_locked=skips).order_by("pk")[:BATCH])
        _set(found, due_at=timezone.now() + CLAIM)
    return found


def due(alias: str) -> "QuerySet[Message]":
    """The messages that may be sent now. A message waits for earlier ones with the same key."""
    rows = Message.objects.using(alias)
    earlier = rows.filter(key=OuterRef("key"), pk__lt=OuterRef("pk"))
    return rows.filter(Q(key="") | ~Exists(earlier), due_at__lte=timezone.now())


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
        _set([waiting.pop(0)[0]], last_error=_words(error), due_at=timezone.now() + AGAIN)
    finally:
        _delete(sent)
        _set([message for message, _ in waiting], due_at=timezone.now())


def _publish(app: Celery, producer: Any, message: Message, record: Record) -> bool:
    """Publish it. Return whether to delete it. Raises OperationalError if the broker is away."""
    try:
        record.publish(app, producer)
    except ExpiredError:
        drop_expired(app, record, message.name)
    except OperationalError:
        raise
    except Exception as error:  # the fault is in this message, and not in the connection
        logger.exception("%s cannot be sent", message)
        _set([message], last_error=_words(error), due_at=timezone.now() + 6 * AGAIN)
        return False
    return True


def drop_expired(app: Celery, record: Record, name: str) -> None:
    """Say in the log and in the result that the task is not sent."""
    task_id = record.headers["id"]
    logger.warning("%s[%s] has expired before the broker took it: it is not sent", name, task_id)
    if not record.headers.get("ignore_result"):
        with suppress(Exception):  # the backend is away, or stores results only for workers
            app.backend.mark_as_revoked(task_id, "expired", store_result=True)


def _set(messages: list[Message], **fields: Any) -> None:
    if messages:
        _rows(messages).update(**fields)


def _delete(messages: list[Message]) -> None:
    if not messages:
        return
    rows: Any = _rows(messages)
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


def _rows(messages: list[Message]) -> Any:
    rows = Message.objects.using(messages[0]._state.db)
    return rows.filter(pk__in=[message.pk for message in messages])


def is_away() -> bool:
    """Whether the broker did not answer this process a moment ago."""
    return time.monotonic() < _away_until


def pause() -> None:
    """Leave messages to Beat for a moment, because the broker did not answer."""
    global _away_until
    _away_until = time.monotonic() + PAUSE


def _words(error: Exception) -> str:
    return short_reason(error)[:1000]
