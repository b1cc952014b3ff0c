"""A task that only workers of the next release can run."""

from celery import shared_task

from tests.faults.tasks import record


@shared_task
def added(number: int) -> None:
    """Record that a worker knows this task."""
    record("done", number)
