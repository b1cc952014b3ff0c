"""The class of every task of this project."""

from inspect import signature
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from celery.contrib.django import task
from celery.exceptions import Retry
from django.db.models import Model, QuerySet
from kombu.exceptions import EncodeError, OperationalError
from kombu.utils.json import dumps

from apps.pipeline.broker import queues
from apps.pipeline.broker.errors import short_reason, without_passwords
from apps.pipeline.outbox.direct import directly, is_used

# In the error that a result backend raises: see logs/corrections.py and broker/redis/results.py.
NO_ANSWER = "result backend does not answer"

if TYPE_CHECKING:
    DjangoTask = task.DjangoTask[Any, Any]
else:
    DjangoTask = task.DjangoTask  # has no type parameters at run time


def unencodable(task: Any, args: Any, kwargs: Any) -> str | None:
    """Say which argument of a task is not JSON serializable, and what to pass instead."""
    names = [*signature(task.run).parameters]
    given = zip_longest(names, args or (), fillvalue=None)
    for name, value in [*given, *(kwargs or {}).items()]:
        try:
            dumps(value)
        except (TypeError, ValueError):
            problem = f"{name or 'an argument'} is a {type(value).__name__}"
            advice = "Pass numbers, text, lists and dicts."
            if isinstance(value, Model):
                advice = f"Pass its primary key, {name}.pk, and fetch it in the task."
            elif isinstance(value, QuerySet):
                advice = "Pass a list of primary keys, and fetch them in the task."
            elif isinstance(value, list | tuple | dict):
                problem += " with a value"
            return f"{task.name}: {problem}, which is not JSON serializable. {advice}"
    return None


class Task(DjangoTask):
    """Celery's task class for Django. Its errors say why a task cannot be sent."""

    # Seconds until a retry, also after the process of a task was killed. A task can override it.
    default_retry_delay = 10
    # If True, arguments are not in logs and events, and are not kept when the task fails.
    hide_arguments = False

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task.

        Raises kombu's EncodeError, which names the argument that is not JSON serializable, or
        kombu's OperationalError, which names the broker or result backend that does not answer. In
        both cases the task is not sent. Celery raises RuntimeError for a result backend. Seen in
        celery 5.7.0 (not reported yet). Delete the code for RuntimeError once fixed.
        """
        if queues.is_quorum(self.app):
            delay = queues.whole_seconds(self.app, options.get("countdown"), options.get("eta"))
            options |= {"countdown": delay, "eta": None}
        try:
            return super().apply_async(*args, **options)
        except EncodeError as error:
            given = dict(zip(("args", "kwargs"), args, strict=False)) | options
            problem = unencodable(self, given.get("args"), given.get("kwargs"))
            raise EncodeError(problem or str(error)) from error
        except (OperationalError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and NO_ANSWER not in str(error):
                raise
            url, results = without_passwords(self.app.conf.broker_url), self.app.conf.result_backend
            if isinstance(error, RuntimeError) and results != self.app.conf.broker_url:
                url += f" with results at {without_passwords(results)}"
            reason = short_reason(error.__cause__ or error.__context__ or error)
            raise OperationalError(f"{url} did not accept {self.name}: {reason}") from error

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        send = self.delay if self._is_stored() else super().delay_on_commit
        send(*args, **kwargs)

    def apply_async_on_commit(self, *args: Any, **options: Any) -> None:  # type: ignore[override]
        send = self.apply_async if self._is_stored() else super().apply_async_on_commit
        send(*args, **options)

    def _is_stored(self) -> bool:
        """Whether the outbox stores the task in the transaction, and sends it after the commit."""
        return is_used() and not self.app.conf.task_always_eager

    def retry(self, *args: Any, **options: Any) -> Any:
        # It raises Retry. This rolls back a transaction around it, and with it the outbox.
        with directly():
            return super().retry(*args, **options)

    def replace(self, *args: Any, **options: Any) -> Any:
        with directly():  # as in `retry`
            return super().replace(*args, **options)

    def apply(self, *args: Any, **options: Any) -> Any:
        """Run the task in this process, as tests do, with its retries at once.

        If the errors of eager tasks propagate, Celery raises Retry instead. Seen in celery
        5.7.0 (celery #2164, #8367). Delete this once fixed.
        """
        try:
            return super().apply(*args, **options)
        except Retry as error:
            retry: Any = error  # celery-types does not know `sig`
            if retry.sig is None:
                raise
            count = (options.get("retries") or 0) + 1
            return retry.sig.apply(retries=count, throw=options.get("throw"))

    def signature_from_request(self, request: Any = None, *args: Any, **options: Any) -> Any:
        """The signature of a retry, which is sent to the queue of the task.

        After a delay in RabbitMQ, Celery does not know this queue. Seen in celery 5.7.0 (not
        reported yet; celery #10111 is another fault). Delete this method once fixed.
        """
        place = (request or self.request).delivery_info
        options["queue"] = options.get("queue") or queues.queue_of(self.app, place)
        return super().signature_from_request(request, *args, **options)
