"""The class with which the main process of a worker follows a task."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.worker import request

from apps.pipeline.broker.redis import acks
from apps.pipeline.logs.ids import about
from apps.pipeline.signals import task_event


class Request(request.Request):
    """Celery's request. Its lines in the log have the ids of its task.

    Handlers of `task_failure` can read `sender.request`. Celery hides it after a time limit, and if
    the task raised Reject. Seen in celery 5.7.0 (not reported yet). Delete `_current` once fixed.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Change the subclass that Celery makes for each task.

        Its `on_success` does not call `send_event` if Celery sends no events to the broker.
        """
        super().__init_subclass__(**kwargs)
        if cls.__module__ == request.__name__:
            cls.on_success = request.Request.on_success  # type: ignore[method-assign]
            own: Any = cls
            execute = own.execute_using_pool
            own.execute_using_pool = lambda *args, **kw: keep_hard_limit(execute(*args, **kw))

    def on_accepted(self, *args: Any) -> None:
        if not self.task.acks_late:
            acks.early.append(self.message.delivery_tag)
        super().on_accepted(*args)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """Celery calls this for each event of a task, even if it sends no events to the broker.

        If a process is killed, Celery's event names a wrapper instead of the error. Seen in celery
        5.7.0 (celery #7781). Delete the branch once fixed.
        """
        if str(fields.get("exception")).startswith("ExceptionWithTraceback("):
            fields["exception"] = fields["traceback"].strip().rpartition("\n")[2]
        task_event.send(sender=type, request=self, fields=fields)
        super().send_event(type, **fields)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        with about(self), self._current():
            super().on_timeout(soft, timeout)

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        with about(self), self._current():
            return super().on_failure(*args, **kwargs)

    @contextmanager
    def _current(self) -> Iterator[None]:
        own: Any = self  # celery-types does not know `_context`
        stack = own.task.request_stack
        stack.push(own._context)
        try:
            yield
        except Exception as error:  # each result backend raises its own
            # Celery keeps the message, and the process gets no other. Seen in celery 5.7.0 (not
            # reported yet). Delete this branch once fixed.
            request.logger.exception("The outcome is not stored")  # type: ignore[attr-defined]
            fields = {"task_id": own.id, "exception": error, "args": own.args, "kwargs": own.kwargs}
            signals.task_internal_error.send(sender=own.task, einfo=ExceptionInfo(), **fields)
            own.acknowledge()
        finally:
            stack.pop()


def keep_hard_limit(job: Any) -> Any:
    """Drop a soft time limit that is not below the hard one. It can be that of the project.

    With prefork Celery starts to count the hard limit when the soft one has passed. Seen in celery
    5.7.0 (not reported yet). Delete this and its call once fixed.
    """
    soft, hard = getattr(job, "_soft_timeout", None), getattr(job, "_timeout", None)
    if soft and hard and soft >= hard:
        job._soft_timeout = None
    return job


def is_in_process(request: Any, pool: Any) -> bool:
    """Whether a pool process has the task. It may run although its worker does not know it yet."""
    job = _job(request)
    process = getattr(job, "_write_to", None)
    if process is None or not process._is_alive() or job in pool.outbound_buffer:
        return False
    # Else Celery forgets the job when it loses the broker, and with kombu the task runs twice. Seen
    # in celery 5.7.0 (not reported yet). Delete this function and the next once fixed.
    job._accepted = True
    return True


def has_lost_process(request: Any) -> bool:
    """Whether the process that had the task has ended before it started it."""
    job = _job(request)
    if getattr(job, "_worker_pid", True) or job._write_to is None:
        return False
    job._accepted = False  # if the process ends later, Celery gives the task to another one
    if job._write_to._is_alive():
        return False
    job.discard()
    return True


def _job(request: Any) -> Any:
    """What the pool knows of the task. None if it has ended, or if the pool does not have it."""
    return request._apply_result and request._apply_result()  # a weak reference
