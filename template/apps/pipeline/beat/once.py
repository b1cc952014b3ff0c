"""A schedule that runs once, for schedulers that cannot disable a schedule after its run."""

from datetime import datetime
from typing import Any

from celery.schedules import schedstate
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.utils import NEVER_CHECK_TIMEOUT


class Once(clocked):
    """A schedule that is due once: at its time, or when Beat runs again after it.

    If its time has passed when Beat first reads it, it is not due. So a scheduler that has lost its
    store does not repeat it. `clocked` is due again after each restart. Seen in django-celery-beat
    2.9.0 (not reported yet). Delete this once `clocked` uses the last run.
    """

    def __init__(self, moment: datetime, *args: Any, **options: Any) -> None:
        super().__init__(moment, *args, **options)

    def remaining_estimate(self, last_run_at: datetime) -> Any:
        """The time until it is due, or None after its run."""
        return None if last_run_at >= self.clocked_time else self.clocked_time - self.now()

    def is_due(self, last_run_at: datetime) -> schedstate:
        if (remaining := self.remaining_estimate(last_run_at)) is None:
            return schedstate(is_due=False, next=NEVER_CHECK_TIMEOUT)
        seconds = remaining.total_seconds()
        if seconds > 0:
            return schedstate(is_due=False, next=seconds)
        return schedstate(is_due=True, next=NEVER_CHECK_TIMEOUT)
