"""Records each task that failed for good, in the process of the worker that notices it."""

import logging
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery._state import get_current_worker_task
from celery.app.task import Context
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_failure, task_internal_error, task_revoked
from django.conf import settings

from apps.pipeline.broker.queues import queue_of
from apps.pipeline.failed.models import Reason
from apps.pipeline.failed.record import ERROR_LENGTH, NOTIFY, STORE, record

logger = logging.getLogger(__name__)


def connect() -> None:
    task_failure.connect(on_failure, weak=False, dispatch_uid="pipeline.failed")
    task_internal_error.connect(on_failure, weak=False, dispatch_uid="pipeline.internal")
    if settings.KEEP_REVOKED_TASKS:
        task_revoked.connect(on_revoked, weak=False, dispatch_uid="pipeline.revoked")


def on_failure(
    sender: Any, task_id: str, exception: Any, args: Any, kwargs: Any, einfo: Any, **others: Any
) -> None:
    """Handle `task_failure`: no retry is left, the process was killed, or a time limit passed.

    Also handle `task_internal_error`: the result backend did not store the outcome of the task.
    """
    request = Context(others["request"]) if others.get("request") else sender.request
    if request.is_eager or sender.name == STORE:
        return
    if sender.name == NOTIFY:  # each time it failed, it would be called again
        logger.error("FAILED_TASK_NOTIFY was stopped: %s", exception)
        return
    reason = Reason.ERROR
    if isinstance(exception, WorkerLostError):
        reason = Reason.KILLED
    elif isinstance(exception, TimeLimitExceeded | SoftTimeLimitExceeded):
        reason = Reason.TIME_LIMIT
    record(
        reason,
        request,
        args,
        kwargs,
        in_task=get_current_worker_task() is None,  # the event loop must not wait for the database
        task_id=task_id,
        error=f"{type(exception).__name__}: {exception}"[:ERROR_LENGTH],
        traceback=str(einfo.traceback) if einfo else "",
        **_about(sender, request),
    )


def on_revoked(sender: Any, request: Any, expired: bool, signum: Any, **others: Any) -> None:
    """Handle `task_revoked`. `request` is the Context that the worker has made for the task."""
    reason = Reason.EXPIRED if expired else Reason.REVOKED
    error = f"signal {signum}" if signum else ""
    fields = {"task_id": request.id, "error": error} | _about(sender, request)
    record(reason, request, request.args, request.kwargs, in_task=True, **fields)


def _about(task: Any, request: Any) -> dict[str, Any]:
    return {
        "name": task.name,
        "queue": queue_of(task.app, request.delivery_info) or "",
        "worker": request.hostname or "",
        "attempts": (request.retries or 0) + 1,
    }
