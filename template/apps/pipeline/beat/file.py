"""Schedules from the code alone; a file remembers what ran last."""

from celery import beat

from apps.pipeline.beat import Heartbeat
from apps.pipeline.schedules import as_beat_schedule


class PersistentScheduler(Heartbeat, beat.PersistentScheduler):
    """Celery's own scheduler, with the declared schedules as its entries."""

    def setup_schedule(self) -> None:
        self.app.conf.beat_schedule.update(as_beat_schedule())
        super().setup_schedule()
