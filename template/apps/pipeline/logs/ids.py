"""The ids in a log line: those of the web request, the task, its parent, its root, the schedule.

The id of the request and the name of the schedule travel in the headers of messages. A task passes
them on to the tasks that it sends.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, TypeVar

from celery import _state

REQUEST_ID = "request_id"
SCHEDULE = "schedule"
ADMIN_SCHEDULE = "periodic_task_name"  # django-celery-beat's, also if the admin sends the task

# When a task was sent, and when a process of a worker began to run it, as Unix times.
SENT_AT = "sent_at"
STARTED_AT = "started_at"

T = TypeVar("T")

request_id: ContextVar[str] = ContextVar(REQUEST_ID, default="")
# With it, Beat adds the name of a schedule to its lines and to the message that it sends.
schedule: ContextVar[str] = ContextVar(SCHEDULE, default="")

# The headers of the message that the main process of a worker handles.
message: ContextVar[Mapping[str, Any]] = ContextVar("message", default={})  # noqa: B039 - not changed


def current_message() -> Mapping[str, Any]:
    """The headers of the message of the current task, and `started_at`. Empty without a task."""
    task: Any = _state.get_current_worker_task()
    headers: Mapping[str, Any] = vars(task.request) if task else message.get()
    return headers


def ids() -> dict[str, str]:
    """The ids of the current task or web request, without those that are unknown."""
    headers = current_message()
    found = {
        "request_id": headers.get(REQUEST_ID) or request_id.get(),
        "task_id": headers.get("id"),
        "task_name": headers.get("task"),
        "parent_id": headers.get("parent_id"),
        "root_id": headers.get("root_id"),
        "schedule": headers.get(SCHEDULE) or headers.get(ADMIN_SCHEDULE) or schedule.get(),
    }
    return {name: str(value) for name, value in found.items() if value}


def headers_to_send() -> dict[str, str]:
    """The headers of a message that is sent now."""
    current = ids()
    return {name: current[name] for name in (REQUEST_ID, SCHEDULE) if name in current}


def queue_wait(headers: Mapping[str, Any], started_at: float | None) -> float | None:
    """Seconds from when a task was sent, or from its ETA, until it was started. None if unknown."""
    sent_at, eta = headers.get(SENT_AT), headers.get("eta")
    if not sent_at or started_at is None:
        return None
    due_at: float = max(sent_at, datetime.fromisoformat(eta).timestamp()) if eta else sent_at
    return max(0, started_at - due_at)  # the clocks of two machines differ


@contextmanager
def holding(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set a variable, and reset it at the end of the block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def about(request: Any) -> AbstractContextManager[None]:
    """Add the ids of a task to the lines that the main process of a worker logs about it."""
    return holding(message, {**request.request_dict, STARTED_AT: request.time_start})


def on_start(task: Any, **kwargs: Any) -> None:
    """Handle `task_prerun`: note the time."""
    task.request.started_at = time.time()
