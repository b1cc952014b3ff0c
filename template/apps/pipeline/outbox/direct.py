"""Decides whether a task goes through the outbox or directly to the broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings

_direct: ContextVar[bool] = ContextVar("direct", default=False)


@contextmanager
def directly() -> Iterator[None]:
    """Send the tasks of this context directly to the broker. Its errors are raised."""
    token = _direct.set(True)
    try:
        yield
    finally:
        _direct.reset(token)


def is_used() -> bool:
    """Whether a task that is sent here goes through the outbox."""
    return bool(settings.TASK_OUTBOX) and not _direct.get()
