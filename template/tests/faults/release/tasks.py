"""What only the workers of the next release can run."""

from celery import shared_task

from tests.faults.tasks import trace


@shared_task
def added(number: int) -> None:
    """Say that somebody knew it."""
    trace("done", number)
