"""When the project's tasks run. After a change: `just migrate`, which `just dev` does for you."""

from datetime import timedelta

from apps.pipeline.schedules import Schedule

SCHEDULES = [
    Schedule(
        name="Cleanup inactive users",
        task="apps.tasks.tasks.cleanup_inactive_users_task",
        when=timedelta(minutes=30),
    ),
]
