"""Remote control of workers that fails within seconds if the broker does not answer.

With Celery, `app.control.ping()`, `inspect()` and `result.revoke()` wait for ever if the broker
stops answering after the process has connected to it. Seen in celery 5.7.0 (celery #5067). Delete
this module once fixed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

from celery import Celery
from celery.app import control
from kombu import pidbox


class BoundedMailbox(pidbox.Mailbox):
    """A mailbox that publishes with the retry policy of tasks."""

    app: Celery

    @contextmanager
    def producer_or_acquire(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with super().producer_or_acquire(*args, **kwargs) as producer:
            policy = self.app.conf.task_publish_retry_policy
            yield SimpleNamespace(publish=partial(producer.publish, retry_policy=policy))


class Control(control.Control):
    Mailbox = BoundedMailbox
    mailbox: BoundedMailbox

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        self.mailbox.app = app
