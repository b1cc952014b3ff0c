"""Stores a failed task in the database."""

import logging
from typing import Any

from celery import current_app, uuid
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone
from kombu import Message
from kombu.exceptions import OperationalError

from apps.pipeline.broker.queues import HIDDEN, UNKNOWN_QUEUE, hides_arguments
from apps.pipeline.failed.message import message
from apps.pipeline.failed.models import FailedTask, Reason

logger = logging.getLogger(__name__)

STORE = "apps.pipeline.failed.tasks.store"
NOTIFY = "apps.pipeline.failed.tasks.notify"
ERROR_LENGTH = 1000  # characters of an error; the traceback has all of it


def record(
    reason: Reason, request: Any, args: Any, kwargs: Any, *, in_task: bool = False, **fields: Any
) -> bool:
    """Store a failed task, and return whether it is stored or a task will store it.

    With `in_task`, or if the database does not answer, send a task that stores it. It never raises,
    because the worker has to acknowledge the message of the failed task.
    """
    task_id, name = fields["task_id"], fields["name"]
    try:
        row = {"reason": reason.value, "failed_at": timezone.now().isoformat(), **fields}
        try:
            row["message"] = message(name, args, kwargs, request)
        except Exception as error:  # NotKeptError, or headers that are not those of a task
            if reason == Reason.UNKNOWN:  # its message goes to UNKNOWN_QUEUE, or stays there
                text = "The unknown task %s[%s] is kept in the queue %s: %s"
                logger.warning(text, name, task_id, UNKNOWN_QUEUE, error)
                return False
            row |= {"message": "", "obstacle": str(error)}
        _store_or_send(row, in_task)
    except Exception:
        logger.exception("The failed task %s[%s] is not kept", name, task_id)
        return False
    return True


def record_message(
    reason: Reason, received: Message, error: str, queue: str = "", *, in_task: bool = False
) -> bool:
    """Store a message with which no task was run, as `record` does."""
    headers = received.headers or {}
    try:
        args, kwargs, embedded = received.decode()
        request = {**headers, **(embedded or {})}
    except Exception:
        args, kwargs, request = (), {}, {**headers, HIDDEN: True}
        if not headers.get(HIDDEN) and not hides_arguments(current_app, headers.get("task", "")):
            error += f"\n{received.body!r}"[:ERROR_LENGTH]
    return record(
        reason,
        {**request, "delivery_info": received.delivery_info},
        args,
        kwargs,
        task_id=headers.get("id") or uuid(),
        name=headers.get("task") or "(none)",
        error=error,
        queue=queue,
        in_task=in_task,
    )


def store(row: dict[str, Any]) -> None:
    """Write the row. If the task failed before, update its row. Raises DatabaseError.

    Do nothing if this failure is stored: the task STORE can run twice, and the row can have been
    run again meanwhile.
    """
    values = {"failed_at": timezone.now(), **row, "run_again_as": "", "run_again_at": None}
    failed, is_new = FailedTask.objects.get_or_create(task_id=row["task_id"], defaults=values)
    older = FailedTask.objects.filter(pk=failed.pk, failed_at__lt=values["failed_at"])
    if not (is_new or older.update(**values)):
        return
    if settings.FAILED_TASK_NOTIFY:
        try:
            current_app.send_task(NOTIFY, [failed.pk], ignore_result=True)
        except OperationalError as error:
            logger.warning("FAILED_TASK_NOTIFY is not called for %s: %s", failed, error)


def _store_or_send(fields: dict[str, Any], in_task: bool) -> None:
    row = {key: _storable(key, value) for key, value in fields.items()}
    if in_task:
        try:
            current_app.send_task(STORE, [row], ignore_result=True)
        except OperationalError as error:
            text = "The broker does not accept the task that stores a failed task: %s"
            logger.warning(text, error)
        else:
            return
    _close_lost_connections()
    try:
        store(row)
    except (DatabaseError, InterfaceError) as error:
        text = "The failed task %s[%s] is stored later: %s"
        logger.warning(text, row["name"], row["task_id"], error)
        current_app.send_task(STORE, [row], ignore_result=True)
    finally:
        _close_lost_connections()


def _close_lost_connections() -> None:
    """Close them as Django does between requests: the database may have restarted."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def _storable(field: str, value: Any) -> Any:
    """The value without what a database refuses: NUL characters, surrogates, and a long text."""
    if not isinstance(value, str):
        return value
    text = value.replace("\0", "").encode("utf-8", "backslashreplace").decode()
    return text[: getattr(FailedTask._meta.get_field(field), "max_length", None)]
