"""The Celery task that runs each task of Django's Tasks API, and the data of its TaskResult.

The argument of the task is the call: path, arguments and options of the task. The result backend
keeps it with each state of the task, because it is the `meta` of the request.
"""

from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from traceback import format_exception
from typing import Any

from celery import shared_task, states
from django.core.exceptions import SuspiciousOperation
from django.utils.module_loading import import_string

from apps.pipeline.django_tasks import api, keeps_results
from apps.pipeline.worker import request

KEY = "django_task"  # the key of the call in `meta`

# A worker that cannot import a task retries it, because a newer worker may be starting.
UNKNOWN_PAUSE = 10  # seconds
UNKNOWN_RETRIES = 60

STATUS = {
    states.SUCCESS: api.TaskResultStatus.SUCCESSFUL,
    states.STARTED: api.TaskResultStatus.RUNNING,
    states.FAILURE: api.TaskResultStatus.FAILED,
    states.REVOKED: api.TaskResultStatus.FAILED,
    states.REJECTED: api.TaskResultStatus.FAILED,
}


class Request(request.Request):
    """The request of a task. It adds a killed process to the attempts that the result shows."""

    @cached_property
    def _context(self) -> Any:
        context: Any = super()._context  # type: ignore[misc] # celery-types does not know it
        [call] = context.args
        if self.time_start:
            call = attempted(call, self.hostname, datetime.fromtimestamp(self.time_start, UTC))
        context.args, context.meta = [call], {KEY: call}
        return context


@shared_task(bind=True, Request=f"{__name__}:Request")
def run(self: Any, call: dict[str, Any]) -> Any:
    """Run a task of Django's Tasks API, and return what it returns."""
    self.request.meta = {KEY: call}
    try:
        task = described(call)
    except ImportError as error:
        if (offers := call.get("offers", 0) + 1) > UNKNOWN_RETRIES:
            raise
        self.request.retries -= 1  # it uses none of the task's own retries
        raise self.retry(args=[call | {"offers": offers}], exc=error, countdown=UNKNOWN_PAUSE)
    call = attempted(call, self.request.hostname, datetime.now(UTC))
    self.request.meta = {KEY: call}
    if keeps_results(self.app.conf) and not self.request.is_eager:
        with suppress(Exception):  # the task runs also if the result backend does not answer
            self.backend.store_result(self.request.id, None, states.STARTED, request=self.request)
    result = task_result(task, call, self.request.id, {"status": states.STARTED})
    context = [api.TaskContext(task_result=result)] if task.takes_context else []
    sender = type(task.get_backend())
    api.signals.task_started.send(sender, task_result=result)
    try:
        value = api.normalize_json(task.call(*context, *call["args"], **call["kwargs"]))
    except Exception as error:
        meta = {"status": states.FAILURE, "result": error, "date_done": datetime.now(UTC)}
        meta["traceback"] = "".join(format_exception(error))
        result = task_result(task, call, self.request.id, meta)
        api.signals.task_finished.send(sender, task_result=result)
        raise
    meta = {"status": states.SUCCESS, "result": value, "date_done": datetime.now(UTC)}
    result = task_result(task, call, self.request.id, meta)
    api.signals.task_finished.send(sender, task_result=result)
    return value


def find(path: str) -> Any:
    """Import a task. Raises SuspiciousOperation if the path names something else."""
    task = import_string(path)
    if not isinstance(task, api.Task):
        raise SuspiciousOperation(f"{path} is not a task of Django's Tasks API.")
    return task


def attempted(call: dict[str, Any], worker: str, moment: datetime) -> dict[str, Any]:
    """The call after one more attempt."""
    times = {"started_at": call["started_at"] or moment.isoformat()}
    times["last_attempted_at"] = moment.isoformat()
    return call | times | {"worker_ids": [*call["worker_ids"], worker]}


def described(call: dict[str, Any]) -> Any:
    """The task of a call, with the options that it was enqueued with."""
    task, options = find(call["path"]), call["options"]
    with suppress(api.InvalidTask):  # the settings changed since then
        return task.using(**options | {"run_after": as_time(options["run_after"])})
    return task


def task_result(task: Any, call: dict[str, Any], result_id: str, meta: dict[str, Any]) -> Any:
    """Django's TaskResult of a call, from a result as Celery's backends return it."""
    status = STATUS.get(meta["status"], api.TaskResultStatus.READY)
    outcome, errors = meta.get("result"), []
    if isinstance(outcome, BaseException):
        name = f"{type(outcome).__module__}.{type(outcome).__qualname__}"
        # A killed process leaves no traceback.
        traceback = meta.get("traceback") or f"{name}: {outcome}"
        errors = [api.TaskError(exception_class_path=name, traceback=traceback)]
    result: Any = api.TaskResult(
        task=task,
        id=result_id,
        status=status,
        enqueued_at=as_time(call["enqueued_at"]),
        started_at=as_time(call["started_at"]),
        last_attempted_at=as_time(call["last_attempted_at"]),
        finished_at=as_time(meta["date_done"]) if meta["status"] in states.READY_STATES else None,
        args=call["args"],
        kwargs=call["kwargs"],
        backend=call["options"]["backend"],
        errors=errors,
        worker_ids=[*call["worker_ids"]],
    )
    if status == api.TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", outcome)
    return result


def as_time(value: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
