"""Keeps schedules running when a clock that was ahead is set back."""

import logging
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from celery.beat import Scheduler
from celery.schedules import schedule
from celery.utils.time import maybe_make_aware
from django_celery_beat.clockedschedule import clocked

logger = logging.getLogger(__name__)

# How much the clocks of two machines may differ.
CLOCK_SKEW = timedelta(seconds=5)
# A time of day that was reached shortly before the clock was set back is not reached again.
CRONTAB_SKEW = timedelta(minutes=5)


class ClockMixin(Scheduler):
    """Mixin for a scheduler: a last run in the future counts as a run now, except for a small skew.

    Celery sends nothing until the clock is again where it was. Seen in celery 5.7.0 (not reported
    yet). Delete this mixin once fixed.
    """

    _offset = float("-inf")

    def tick(self, *args: Any, **kwargs: Any) -> float:
        offset = time.time() - time.monotonic()
        if self._offset - offset > CLOCK_SKEW.total_seconds():
            self.clock_was_set_back()
        self._offset = offset
        return super().tick(*args, **kwargs)

    def clock_was_set_back(self) -> None:
        self._heap = None  # and Celery calls `populate_heap`

    def correct_last_runs(self, entries: list[Any], now: datetime) -> None:
        """Count the last runs of these entries as now."""
        for entry in entries:
            entry.last_run_at = now

    def populate_heap(self, *args: Any, **kwargs: Any) -> None:
        self.correct_clock(self.schedule.values())
        super().populate_heap(*args, **kwargs)

    def correct_clock(self, entries: Iterable[Any]) -> None:
        """Count the last runs that are in the future as now."""
        now = maybe_make_aware(self.app.now())
        if ahead := [one for one in entries if is_ahead(one.schedule, one.last_run_at, now)]:
            text = "Counting the last run of %d schedules as now, because it is in the future: %s"
            logger.warning(text, len(ahead), ahead[0].name)
            self.correct_last_runs(ahead, now)


def is_ahead(when: object, last_run_at: datetime | None, now: datetime) -> bool:
    """Whether a last run has to be corrected."""
    # A schedule that runs once compares the last run with its time, and would run again.
    if last_run_at is None or isinstance(when, clocked):
        return False
    skew = CLOCK_SKEW if isinstance(when, schedule) else CRONTAB_SKEW
    return bool(maybe_make_aware(last_run_at) > now + skew)
