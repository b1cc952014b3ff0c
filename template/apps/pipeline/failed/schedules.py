from apps.pipeline.schedules import Crontab, Schedule

SCHEDULES = [
    Schedule(
        name="Delete old failed tasks",
        task="apps.pipeline.failed.tasks.delete_old",
        when=Crontab(minute="17", hour="4"),
    ),
]
