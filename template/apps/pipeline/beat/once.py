"""A single moment, for schedulers that have no row to switch off after it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery.schedules import schedstate
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.utils import NEVER_CHECK_TIMEOUT


class Once(clocked):
    """Due at its moment, or as soon after it as Beat runs, unless there was a run since.

    A new entry counts as run when it is first read: a moment that is past by then stays past. So a
    scheduler that lost its memory repeats nothing.
    """

    def __init__(
        self, moment: datetime, nowfun: Callable[[], datetime] | None = None, app: Any = None
    ) -> None:
        super().__init__(moment, nowfun=nowfun, app=app)

    def remaining_estimate(self, last_run_at: datetime) -> Any:
        """The time until it is due; None when it was."""
        if last_run_at >= self.clocked_time:
            return None
        return self.clocked_time - self.now()

    def is_due(self, last_run_at: datetime) -> schedstate:
        remaining = self.remaining_estimate(last_run_at)
        if remaining is None:
            return schedstate(is_due=False, next=NEVER_CHECK_TIMEOUT)
        seconds = remaining.total_seconds()
        if seconds > 0:
            return schedstate(is_due=False, next=seconds)
        return schedstate(is_due=True, next=NEVER_CHECK_TIMEOUT)
