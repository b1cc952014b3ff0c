"""What every task of this project is; `config/celery.py` names it."""

from typing import TYPE_CHECKING, Any

from celery.contrib.django import task
from kombu.exceptions import OperationalError
from kombu.utils.url import maybe_sanitize_url

if TYPE_CHECKING:
    DjangoTask = task.DjangoTask[Any, Any]
else:
    DjangoTask = task.DjangoTask  # has no type parameters at run time


class Task(DjangoTask):
    """Celery's task for Django, whose callers are told in words when it cannot be sent."""

    # Seconds until another try, where a task does not say: after its process was killed too.
    default_retry_delay = 10

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task.

        Raises kombu's OperationalError, which names the broker, when that does not take it.
        """
        try:
            return super().apply_async(*args, **kwargs)
        except (OperationalError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "result store" not in str(error):
                raise
            reason = error.__cause__ or error.__context__ or error
            url = maybe_sanitize_url(self.app.conf.broker_url)
            raise OperationalError(f"{url} does not take {self.name}: {reason}") from error
