"""A row of the schedule in the database."""

import logging
from typing import Any

from celery.signals import beat_init
from django.db import Error, router
from django_celery_beat import schedulers
from django_celery_beat.models import PeriodicTask

logger = logging.getLogger(__name__)


@beat_init.connect
def read_what_was_written(**kwargs: Any) -> None:
    """Let Beat read from the database that it writes to.

    In a replica that is late a run is due again, and Beat would try to take it again and again.
    """
    vars(router)["db_for_read"] = router.db_for_write


class Entry(schedulers.ModelEntry):
    """A row of the schedule."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        try:
            super().__init__(model, app=app)
        except Error:
            raise
        except Exception as error:
            # The library skips a row that raises ValueError, and logs nothing. Seen in
            # django-celery-beat 2.9.0 (not reported yet). Delete this method once it logs it.
            logger.warning("Skipping schedule %r: %s", model.name, error)
            raise ValueError(model.name) from error

    def take(self) -> bool:
        """Save this run. Return False if another Beat has saved it, or if the row was disabled.

        The library does not check this. Seen in django-celery-beat 2.9.0 (django-celery-beat #337).
        Delete this once fixed.
        """
        return self._replace(self.total_run_count - 1, enabled=True)

    def give_back(self) -> None:
        """Undo `take`. Celery counts a run that was not sent: see LeaderMixin.apply_async.

        Seen in celery 5.7.0 (not reported yet). Delete this once fixed.
        """
        self._replace(self.total_run_count + 1)

    def _replace(self, count: int, **conditions: Any) -> bool:
        rows = PeriodicTask.objects.filter(pk=self.model.pk, total_run_count=count, **conditions)
        return rows.update(last_run_at=self.last_run_at, total_run_count=self.total_run_count) == 1
