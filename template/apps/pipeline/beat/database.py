"""Schedules in the database, edited in the admin; `sync_schedules` puts the declared ones there."""

import logging
from typing import Any

from django.db import DatabaseError, Error, close_old_connections, connection
from django_celery_beat import schedulers
from django_celery_beat.models import PeriodicTask

from apps.pipeline import lock
from apps.pipeline.beat import Leader, TakenError

logger = logging.getLogger(__name__)


class Entry(schedulers.ModelEntry):
    """A row of the schedule."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        try:
            super().__init__(model, app=app)
        except Error:
            raise
        except Exception as error:
            # The library leaves out what raises ValueError, and says nothing.
            logger.warning("Schedule %r is left out, it cannot be read: %s", model.name, error)
            raise ValueError(model.name) from error

    def take(self) -> bool:
        """Write down the run that this entry has just counted, if nobody else did or forbade it."""
        return self._replace(self.total_run_count - 1, enabled=True)

    def give_back(self) -> None:
        """Make the row again what it was before a run was taken."""
        self._replace(self.total_run_count + 1)

    def _replace(self, count: int, **conditions: Any) -> bool:
        rows = PeriodicTask.objects.filter(
            pk=self.model.pk, total_run_count=count, **conditions
        ).update(last_run_at=self.last_run_at, total_run_count=self.total_run_count)
        return rows == 1


class DatabaseScheduler(Leader, schedulers.DatabaseScheduler):
    """django-celery-beat's scheduler. Its rows tell apart who took a due time, even if two lead."""

    Entry = Entry
    away = (*Leader.away, Error)

    def new_lock(self) -> lock.Lock:
        return lock.for_database()

    def verify(self) -> None:
        # The library's own reading and writing swallows errors, with a traceback at each tick.
        close_old_connections()
        self.Changes.last_change()

    def explain(self, error: Exception) -> str:
        if isinstance(error, DatabaseError) and self._lacks_tables():
            return "the database has no tables for schedules yet. Run: python manage.py migrate"
        return super().explain(error)

    def enabled_models_qs(self) -> Any:
        """All: the library guesses which are far off, and so sends what is late at a wrong hour."""
        return self.Model.objects.enabled()

    def setup_schedule(self) -> None:
        self._initial_read = True
        self._last_timestamp = self.Changes.last_change()
        self._dirty.clear()
        super().setup_schedule()

    def reserve(self, entry: Any) -> Any:
        taken = super().reserve(entry)
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
