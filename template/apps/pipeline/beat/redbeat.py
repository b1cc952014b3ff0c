"""Schedules in Redis, for a Beat that no database stands behind."""

import redbeat

from apps.pipeline.beat import Heartbeat
from apps.pipeline.schedules import as_beat_schedule


class RedBeatScheduler(Heartbeat, redbeat.RedBeatScheduler):
    """redbeat's scheduler, with the declared schedules as its static entries."""

    def setup_schedule(self) -> None:
        self.app.conf.beat_schedule.update(as_beat_schedule())
        super().setup_schedule()
