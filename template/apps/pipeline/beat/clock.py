"""Sends tasks on time after a clock that was ahead has been corrected."""

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from celery.beat import Scheduler
from celery.utils.time import maybe_make_aware
from django_celery_beat.clockedschedule import clocked

logger = logging.getLogger(__name__)

# The clocks of two machines may differ by so much.
CLOCK_SKEW = timedelta(seconds=5)


class ClockMixin(Scheduler):
    """Mixin for a scheduler: a last run in the future counts as a run now.

    Celery sends nothing until the clock is again where it was. Seen in celery 5.7.0 (not reported
    yet). Delete this mixin once fixed.
    """

    _offset = float("-inf")

    def tick(self, *args: Any, **kwargs: Any) -> float:
        offset = time.time() - time.monotonic()
        if self._offset - offset > CLOCK_SKEW.total_seconds():  # the clock was set back
            self._heap = None
        self._offset = offset
        return super().tick(*args, **kwargs)

    def correct_last_runs(self, entries: list[Any], now: datetime) -> None:
        """Count the last runs of these entries as now."""
        for entry in entries:
            entry.last_run_at = now

    def populate_heap(self, *args: Any, **kwargs: Any) -> None:
        ahead: list[Any] = []
        now = maybe_make_aware(self.app.now())
        entry: Any
        for entry in self.schedule.values():
            # A schedule that runs once compares the last run with its time, and would run again.
            is_ahead = maybe_make_aware(entry.last_run_at) > now + CLOCK_SKEW
            if is_ahead and not isinstance(entry.schedule, clocked):
                ahead.append(entry)
        if ahead:
            text = "Counting the last run of %d schedules as now, because it is in the future: %s"
            logger.warning(text, len(ahead), ahead[0].name)
            self.correct_last_runs(ahead, now)
        super().populate_heap(*args, **kwargs)
