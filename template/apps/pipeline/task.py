"""What every task of this project is; `config/celery.py` names it."""

from inspect import signature
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from celery.contrib.django import task
from celery.exceptions import Retry
from django.db.models import Model, QuerySet
from kombu.exceptions import EncodeError, OperationalError
from kombu.utils.json import dumps
from kombu.utils.url import maybe_sanitize_url

from apps.pipeline import queues

if TYPE_CHECKING:
    DjangoTask = task.DjangoTask[Any, Any]
else:
    DjangoTask = task.DjangoTask  # has no type parameters at run time


def address(urls: str) -> str:
    """The URL of a broker or a result backend, or its several ones, without passwords."""
    return ";".join(maybe_sanitize_url(url) for url in urls.split(";"))


def reason(error: object) -> str:
    """What a broker's client says, without the insides of it that Sentinels' clients add."""
    return str(error).partition(" : <")[0]


def unencodable(task: Any, args: Any, kwargs: Any) -> str | None:
    """Say which argument of a task JSON cannot carry, and what to pass instead."""
    names = [*signature(task.run).parameters]
    given = zip_longest(names, args or (), fillvalue=None)
    for name, value in [*given, *(kwargs or {}).items()]:
        try:
            dumps(value)
        except (TypeError, ValueError):
            words = f"{name or 'an argument'} is a {type(value).__name__}"
            advice = "Pass numbers, text, lists and dicts."
            if isinstance(value, Model):
                advice = f"Pass its primary key, {name}.pk, and fetch it in the task."
            elif isinstance(value, QuerySet):
                advice = "Pass a list of primary keys, and fetch them in the task."
            elif isinstance(value, list | tuple | dict):
                words += " that holds something"
            return f"{task.name}: {words}, which is not JSON serializable. {advice}"
    return None


class Task(DjangoTask):
    """Celery's task for Django, whose callers are told in words when it cannot be sent."""

    # Seconds until another try, where a task does not say: after its process was killed too.
    default_retry_delay = 10

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task.

        Raises kombu's EncodeError, which names the argument that JSON cannot carry, and its
        OperationalError, which names the broker, when that does not take it, or the
        result backend: where nobody could hear of the result, nothing is sent.
        """
        if queues.is_quorum(self.app):
            delay = queues.whole_seconds(self.app, options.get("countdown"), options.get("eta"))
            options |= {"countdown": delay, "eta": None}
        try:
            return super().apply_async(*args, **options)
        except EncodeError as error:
            given = [*args, None, None][:2]
            words = unencodable(
                self, options.get("args", given[0]), options.get("kwargs", given[1])
            )
            raise EncodeError(words or str(error)) from error
        except (OperationalError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "result store" not in str(error):
                raise
            to, results = address(self.app.conf.broker_url), self.app.conf.result_backend
            if isinstance(error, RuntimeError) and results != self.app.conf.broker_url:
                to += f" with results at {address(results)}"
            why = reason(error.__cause__ or error.__context__ or error)
            raise OperationalError(f"{to} does not take {self.name}: {why}") from error

    def apply(self, *args: Any, **options: Any) -> Any:
        """Run the task here, as in tests, with its retries, which do not wait.

        Celery itself raises Retry to the caller where the errors of eager tasks propagate.
        """
        try:
            return super().apply(*args, **options)
        except Retry as error:
            retry: Any = error  # celery-types do not know its `sig`
            if retry.sig is None:
                raise
            count = (options.get("retries") or 0) + 1
            return retry.sig.apply(retries=count, throw=options.get("throw"))

    def signature_from_request(
        self,
        request: Any = None,
        args: Any = None,
        kwargs: Any = None,
        queue: str | None = None,
        **options: Any,
    ) -> Any:
        """What a retry sends, to the queue that the task came from: RabbitMQ's delay hides that."""
        queue = queue or queues.queue_of(self.app, (request or self.request).delivery_info)
        return super().signature_from_request(request, args, kwargs, queue, **options)
