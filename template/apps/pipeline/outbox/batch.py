"""The messages of a transaction: stored in it, and published after its commit."""

import time
from functools import partial
from typing import Any

from celery import Celery
from django.db import transaction
from django.utils import timezone

from apps.pipeline.outbox import publishing
from apps.pipeline.outbox.models import GRACE_PERIOD, Message
from apps.pipeline.outbox.publishing import Row
from apps.pipeline.outbox.record import Record


class Batch:
    """The messages of a transaction."""

    def __init__(self, app: Celery, alias: str, run_on_commit: list[Any]) -> None:
        self.app, self.alias, self.run_on_commit = app, alias, run_on_commit
        self.rows: list[Row] = []

    def publish(self, producer: Any = None) -> None:
        """Publish the messages, after the commit. Only the first call has something to publish."""
        rows, self.rows = self.rows, []
        if not rows or publishing.is_paused():
            return
        until = time.monotonic() + GRACE_PERIOD.total_seconds()
        if rows := self._unblocked(self._kept(rows)):
            publishing.send(self.app, rows, until, producer)

    def _kept(self, rows: list[Row]) -> list[Row]:
        """The rows that no savepoint has rolled back and no Beat has claimed.

        Claim them. A single new row needs no claim, because Beat waits for GRACE_PERIOD.
        """
        messages = [message for message, _ in rows]
        is_new = messages[0].created_at > timezone.now() - GRACE_PERIOD / 2
        if len(rows) == 1 and is_new and not self._may_be_rolled_back():
            return rows
        # SQLite reuses the primary key of a row that was rolled back, so compare ids of tasks too.
        ids = [message.task_id for message in messages]
        found = publishing.rows_of(messages).filter(task_id__in=ids)
        mine = publishing.claim(found.filter(due_at__lte=publishing.after(GRACE_PERIOD, found.db)))
        kept = {message.pk for message in mine}
        return [row for row in rows if row[0].pk in kept]

    def _may_be_rolled_back(self) -> bool:
        """Whether a savepoint was rolled back after the first row.

        Django removes a function from `run_on_commit` before it calls it. But when a savepoint is
        rolled back, Django continues with a copy of the list, so this list keeps the function.
        """
        functions = (function for _, function, *_ in self.run_on_commit)
        return any(getattr(function, "func", None) == self.publish for function in functions)

    def _unblocked(self, rows: list[Row]) -> list[Row]:
        """The rows whose key has no earlier row in the table. Beat sends the others in order."""
        first: dict[str, int] = {}
        for message, _ in rows:
            if message.key:
                first.setdefault(message.key, message.pk)
        earlier = Message.objects.using(self.alias)
        blocked = {key for key, pk in first.items() if earlier.filter(key=key, pk__lt=pk).exists()}
        publishing.update([row for row, _ in rows if row.key in blocked])
        return [row for row in rows if row[0].key not in blocked]


def store(app: Celery, record: Record, name: str, alias: str, producer: Any) -> None:
    """Store a message. Publish it after the commit, or at once if no transaction is open."""
    message = publishing.create(record, name, alias)
    connection: Any = transaction.get_connection(alias)
    batch = vars(connection).get("outbox")
    # Django replaces `run_on_commit` after a commit and after a rollback, even of a savepoint.
    if batch is None or batch.run_on_commit is not connection.run_on_commit or batch.app is not app:
        batch = connection.outbox = Batch(app, alias, connection.run_on_commit)
    if len(batch.rows) < publishing.BATCH:  # Beat sends the rest
        batch.rows.append((message, record))
    open_producer = None if connection.in_atomic_block else producer
    transaction.on_commit(partial(batch.publish, open_producer), using=alias, robust=True)
