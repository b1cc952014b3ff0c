"""Schedules of the project's tasks. After a change run `just migrate`, or restart `just dev`."""

from datetime import timedelta

from apps.pipeline.schedules import Schedule

SCHEDULES = [
    Schedule(
        name="Cleanup inactive users",
        task="apps.tasks.tasks.cleanup_inactive_users_task",
        when=timedelta(minutes=30),
    ),
]
