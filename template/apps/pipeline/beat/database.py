"""The scheduler that reads the database, to which `sync` writes the declared schedules."""

import heapq
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, Error, close_old_connections, connection
from django.db.models import Q
from django_celery_beat import schedulers
from django_celery_beat.models import PeriodicTask

from apps.pipeline.beat import entries, lock
from apps.pipeline.beat.clock import CLOCK_SKEW, CRONTAB_SKEW
from apps.pipeline.beat.crontabs import parse_once
from apps.pipeline.beat.leader import RETRY_INTERVAL, LeaderMixin, TakenError
from apps.pipeline.beat.times import KINDS

# The library writes the date of the last change after it has saved a row. NOTE_DELAY is the longest
# time between this date and the row's `date_changed`.
NOTE_DELAY = timedelta(seconds=0.1)

parse_once()


class DatabaseScheduler(LeaderMixin, schedulers.DatabaseScheduler):
    """django-celery-beat's scheduler. Even without the lock, only one Beat takes a due time.

    It reads only the rows that changed. The library reads all rows again after each change and
    every five minutes, and compares all rows at each tick. Seen in django-celery-beat 2.9.0
    (django-celery-beat #454, #675, #786). Once fixed, delete `schedule`, `schedules_equal`,
    `all_as_schedule`, `_entries`, `_read`, `_differs`, `_saved_since` and this `_replace`.
    """

    Entry = entries.Entry
    outage_errors = (*LeaderMixin.outage_errors, Error)
    _schedule: Any
    _finalize: Any
    _changed_at: datetime | None = None
    _compared_at = 0.0
    _rows: int | None = None  # a hash of the rows when all were read; None if some were read later

    def new_lock(self) -> lock.Lock:
        return lock.for_database()

    def _lead(self) -> bool:
        """Confirm the lock and read changes once a second. Celery runs a tick for each due task."""
        if self.leads and time.monotonic() - self._confirmed_at < RETRY_INTERVAL:
            return True
        self._confirmed_at = time.monotonic()
        return super()._lead()

    def read_changes(self) -> None:
        # The library connects to the database in each tick. It swallows database errors, and logs a
        # traceback. Seen in django-celery-beat 2.9.0 (not reported yet). Once fixed, only read the
        # changes.
        changed_at = self.Changes.last_change()
        if self.leads:
            self._read(changed_at)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It would keep each scheduler in memory, and the page creates some. `close` calls `sync`.
        self._finalize.cancel()

    def correct_last_runs(self, entries: list[Any], now: datetime) -> None:
        super().correct_last_runs(entries, now)
        rows = PeriodicTask.objects.filter(clocked=None)
        intervals = Q(interval__isnull=False, last_run_at__gt=now + CLOCK_SKEW)
        rows.filter(intervals | Q(last_run_at__gt=now + CRONTAB_SKEW)).update(last_run_at=now)

    def _discard_schedule(self) -> None:
        super()._discard_schedule()
        close_old_connections()  # one of them may be lost

    @property
    def schedule(self) -> Any:  # type: ignore[override]
        return super().schedule if self._initial_read else self._schedule

    def schedules_equal(self, *args: Any) -> bool:
        return True  # if the schedule has changed, `_heap` is None

    def all_as_schedule(self) -> dict[str, Any]:
        self._compared_at, self._rows = time.monotonic(), self._hash()
        return self._entries(self.enabled_models())

    def _read(self, changed_at: datetime | None) -> None:
        """Read the rows that were saved since the last change, or all if none of them explains it.

        `QuerySet.update` and `bulk_create` note no change, and the change of a crontab or interval
        can come together with a saved row. These are found within five minutes: see `_differs`.
        """
        last, self._changed_at = self._changed_at, changed_at
        if changed_at != last and (rows := self._saved_since(last, changed_at)):
            self._replace(rows)
            self._rows = None
        elif changed_at != last or self._differs():
            self._initial_read, self._heap = True, None

    def _differs(self) -> bool:
        """Whether rows have changed that were not read. Compare every five minutes."""
        if time.monotonic() < self._compared_at + schedulers.SCHEDULE_SYNC_MAX_INTERVAL:
            return False
        self._compared_at = time.monotonic()
        return self._rows != self._hash()

    def _hash(self) -> int:
        columns = {field.attname for field in self.Model._meta.concrete_fields}
        columns -= {"last_run_at", "total_run_count"}  # Beat writes them
        return hash(frozenset(self.Model.objects.enabled().values_list(*sorted(columns))))

    def _saved_since(self, last: datetime | None, changed_at: datetime | None) -> list[Any]:
        """The rows that were saved since the last change, if one of them explains the new one."""
        if last is None or changed_at is None:
            return []
        since = min(changed_at, last) - CLOCK_SKEW
        rows = self.Model.objects.filter(date_changed__gte=since).prefetch_related(*KINDS)
        is_saved = any(abs(changed_at - row.date_changed) < NOTE_DELAY for row in rows)
        return list(rows) if is_saved else []

    def _replace(self, rows: list[PeriodicTask]) -> None:
        """Replace the entries of these rows."""
        keys = {row.pk for row in rows}
        others = {n: entry for n, entry in self.schedule.items() if entry.model.pk not in keys}
        entries = self._entries(row for row in rows if row.enabled)
        if self._heap is not None:
            events = [event for event in self._heap if event[2].model.pk not in keys]
            self._schedule = entries
            self.populate_heap()
            self._heap += events
            heapq.heapify(self._heap)
        self._schedule = others | entries

    def _entries(self, rows: Iterable[PeriodicTask]) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for row in rows:
            self._keep_lock()
            with suppress(ValueError):  # it was logged
                entries[row.name] = self.Entry(row, app=self.app)
        return entries

    def _when(self, *args: Any, **kwargs: Any) -> Any:
        self._keep_lock()  # Celery calls this for each row
        return super()._when(*args, **kwargs)  # type: ignore[misc]

    def explain(self, error: Exception) -> str:
        if isinstance(error, DatabaseError) and self._lacks_tables():
            return "the database has no tables for schedules yet. Run: python manage.py migrate"
        return super().explain(error)

    def enabled_models_qs(self) -> Any:
        """All enabled rows. The library skips rows for later hours, among them overdue rows.

        Seen in django-celery-beat 2.9.0 (django-celery-beat #956, #916). Delete this once fixed.
        """
        return self.Model.objects.enabled()

    def setup_schedule(self) -> None:
        self._initial_read, self._changed_at = True, self.Changes.last_change()
        self._dirty.clear()
        super().setup_schedule()

    def is_due(self, entry: Any) -> Any:
        """Whether it is due, and the seconds until the next look.

        The library disables a row that runs once when it looks at it again: up to five minutes
        later for a clocked row. Seen in django-celery-beat 2.9.0 (not reported yet). Delete this
        method once fixed.
        """
        due, delay = super().is_due(entry)
        return due, min(delay, 1) if due and entry.model.one_off else delay

    def reserve(self, entry: Any) -> Any:
        taken = super().reserve(entry)
        self._schedule[taken.name] = taken  # the library puts it only into the heap
        self._dirty.discard(taken.name)
        if not taken.take():
            raise TakenError
        return taken

    def give_back(self, entry: Any) -> None:
        entry.give_back()

    def _lacks_tables(self) -> bool:
        try:
            return PeriodicTask._meta.db_table not in connection.introspection.table_names()
        except Error:
            return False
