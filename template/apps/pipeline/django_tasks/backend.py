"""The backend that TASKS names: it validates tasks, sends them to Celery and reads results."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from celery import current_app, states
from celery.app.task import Context
from kombu.exceptions import OperationalError

from apps.pipeline.broker import queues
from apps.pipeline.broker.errors import short_reason, without_passwords
from apps.pipeline.django_tasks import api, keeps_results, running
from apps.pipeline.django_tasks.priorities import celery_priority


class CeleryBackend(api.BaseTaskBackend):
    """Runs tasks in the project's workers.

    The queues are those of Celery, and Django's queue "default" is the project's default queue.
    """

    supports_async_task = True
    supports_defer = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        if "QUEUES" not in params:
            self.queues |= {*queues.declared(current_app.conf)}

    @property
    def supports_get_result(self) -> bool:  # type: ignore[override]
        return keeps_results(current_app.conf)

    def validate_task(self, task: Any) -> None:
        """Raise InvalidTask if the queue or another option of a task cannot be used."""
        super().validate_task(task)
        self.route(task)

    def route(self, task: Any) -> dict[str, Any]:
        """Celery's options for the queue and the priority of a task."""
        known = queues.declared(current_app.conf)
        queue = task.queue_name if task.queue_name in known else None
        if queue is None and task.queue_name != api.DEFAULT_TASK_QUEUE_NAME:
            raise api.InvalidTask(f"Queue '{task.queue_name}' is not in CELERY_TASK_QUEUES.")
        try:
            priority = celery_priority(current_app, queue or known[0], task.priority)
        except LookupError as error:
            raise api.InvalidTask(error.args[0]) from None
        options = {"queue": queue, "priority": priority, "eta": task.run_after}
        return {name: value for name, value in options.items() if value is not None}

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Send a task at once, even inside a transaction, if the outbox is off.

        Raises kombu's OperationalError if broker or result backend do not answer, as `delay` does.
        """
        self.validate_task(task)
        options = {"backend": self.alias, "priority": task.priority, "queue_name": task.queue_name}
        call = {
            "path": task.module_path,
            "args": api.normalize_json(args),
            "kwargs": api.normalize_json(kwargs),
            "options": options | {"run_after": task.run_after and task.run_after.isoformat()},
            "enqueued_at": datetime.now(UTC).isoformat(),
            "started_at": None,
            "last_attempted_at": None,
            "worker_ids": [],
        }
        result_id = str(uuid4())
        self.send(task, call, result_id)
        result = running.task_result(task, call, result_id, {"status": states.PENDING})
        api.signals.task_enqueued.send(type(self), task_result=result)
        return result

    def send(self, task: Any, call: dict[str, Any], result_id: str) -> None:
        """Store the call, and then send it: a worker may store the next state right after that."""
        results = current_app.backend
        if self.supports_get_result:
            name, args, meta = running.run.name, [call], {running.KEY: call}
            try:
                if hasattr(results, "store_pending"):  # Redis
                    results.store_pending(result_id, name, args, meta)
                else:
                    request = Context(task=name, args=args, meta=meta)
                    results.store_result(result_id, None, states.PENDING, request=request)
            except Exception as error:  # each result backend raises its own
                url = without_passwords(current_app.conf.result_backend)
                message = f"{url} did not accept {task.module_path}: {short_reason(error)}"
                raise OperationalError(message) from error
        try:
            running.run.apply_async(
                args=[call],
                task_id=result_id,
                shadow=task.module_path,  # its name in logs and events
                ignore_result=not self.supports_get_result,
                **self.route(task),
            )
        except OperationalError:
            with suppress(Exception):
                results.forget(result_id)
            raise

    def get_result(self, result_id: str) -> Any:
        """Read a result. Raises TaskResultDoesNotExist if it is unknown or expired."""
        if not self.supports_get_result:
            return super().get_result(result_id)
        meta = current_app.backend.get_task_meta(result_id, cache=False)
        if running.KEY not in meta:
            raise api.TaskResultDoesNotExist(result_id)
        call = meta[running.KEY]
        return running.task_result(running.described(call), call, result_id, meta)
