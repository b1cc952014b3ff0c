"""What every task of this project is; `config/celery.py` names it."""

from typing import TYPE_CHECKING, Any

from celery.contrib.django import task
from kombu.exceptions import OperationalError
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


class Task(DjangoTask):
    """Celery's task for Django, whose callers are told in words when it cannot be sent."""

    # Seconds until another try, where a task does not say: after its process was killed too.
    default_retry_delay = 10

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task.

        Raises kombu's OperationalError, which names the broker, when that does not take it, or the
        result backend: where nobody could hear of the result, nothing is sent.
        """
        if queues.is_quorum(self.app):
            delay = queues.whole_seconds(self.app, options.get("countdown"), options.get("eta"))
            options |= {"countdown": delay, "eta": None}
        try:
            return super().apply_async(*args, **options)
        except (OperationalError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "result store" not in str(error):
                raise
            to, results = address(self.app.conf.broker_url), self.app.conf.result_backend
            if isinstance(error, RuntimeError) and results != self.app.conf.broker_url:
                to += f" with results at {address(results)}"
            why = reason(error.__cause__ or error.__context__ or error)
            raise OperationalError(f"{to} does not take {self.name}: {why}") from error

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
