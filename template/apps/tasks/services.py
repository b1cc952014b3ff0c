"""Services for schedules that are created at run time. Declare all others in `schedules.py`."""

from typing import TYPE_CHECKING

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from apps.pipeline.schedules import unknown_task

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask


def register_periodic_task(
    *, name: str, task_path: str, every: int, period: str = "minutes", enabled: bool = True
) -> "PeriodicTask":
    """Register or update a periodic task with an interval schedule.

    The period is one of `IntervalSchedule.PERIOD_CHOICES`. A second call with the same name updates
    the row. If `schedules.py` declares the name, the next migrate undoes the change.
    Raises ValueError for an invalid interval or an unregistered task, and ImproperlyConfigured if
    Beat does not read its schedule from the database.
    """
    if not apps.is_installed("django_celery_beat"):
        raise ImproperlyConfigured(
            "register_periodic_task writes to the database, and this project's Beat does not read "
            "it. Declare the schedule in schedules.py instead."
        )
    if problem := unknown_task(task_path):
        raise ValueError(problem)

    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    periods = [value for value, _ in IntervalSchedule.PERIOD_CHOICES]
    if every < 1 or period not in periods:
        raise ValueError(
            f"Every {every} {period} is not an interval: write 1 or more {', '.join(periods)}."
        )
    schedule = IntervalSchedule.objects.filter(every=every, period=period).first()
    periodic_task, _ = PeriodicTask.objects.update_or_create(
        name=name,
        defaults={
            "task": task_path,
            "interval": schedule or IntervalSchedule.objects.create(every=every, period=period),
            "enabled": enabled,
            "one_off": False,
            **dict.fromkeys(("crontab", "solar", "clocked")),  # a row has one of the four
        },
    )
    return periodic_task
