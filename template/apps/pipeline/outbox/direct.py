"""Decides whether a task goes through the outbox or directly to the broker."""

from contextlib import AbstractContextManager
from contextvars import ContextVar

from django.conf import settings

from apps.pipeline.logs.ids import holding

_direct: ContextVar[bool] = ContextVar("direct", default=False)


def directly() -> AbstractContextManager[None]:
    """Send the tasks of this context directly to the broker. Its errors are raised."""
    return holding(_direct, True)


def is_used() -> bool:
    """Whether a task that is sent here goes through the outbox."""
    return bool(settings.TASK_OUTBOX) and not _direct.get()
