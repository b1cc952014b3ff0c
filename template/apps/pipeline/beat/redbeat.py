"""Schedules in Redis, for a Beat that no database stands behind."""

from redbeat import schedulers

from apps.pipeline.beat import Heartbeat
from apps.pipeline.schedules import as_beat_schedule


class RedBeatScheduler(Heartbeat, schedulers.RedBeatScheduler):
    """redbeat's scheduler, with the declared schedules as its static entries."""

    def setup_schedule(self) -> None:
        self.app.conf.beat_schedule.update(as_beat_schedule())
        super().setup_schedule()
