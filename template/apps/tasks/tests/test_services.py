from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.tasks.services import register_periodic_task

PATH = "apps.tasks.tasks.example_task"
needs_database_scheduler = pytest.mark.skipif(
    "django_celery_beat" not in settings.INSTALLED_APPS,
    reason="Beat does not read the database",
)


def interval(row: Any) -> tuple[int, str]:
    return row.interval.every, row.interval.period


@needs_database_scheduler
class TestRegisterPeriodicTask:
    def test_makes_a_row_that_beat_reads(self, db: None) -> None:
        row = register_periodic_task(name="Example", task_path=PATH, every=10)
        assert row.task == PATH
        assert interval(row) == (10, "minutes")
        assert row.enabled

    def test_called_again_changes_the_same_row(self, db: None) -> None:
        first = register_periodic_task(name="Example", task_path=PATH, every=10)
        again = register_periodic_task(
            name="Example", task_path=PATH, every=2, period="hours", enabled=False
        )
        assert again.pk == first.pk
        assert interval(again) == (2, "hours")
        assert not again.enabled

    def test_refuses_an_unregistered_task_and_proposes_a_similar_name(self, db: None) -> None:
        with pytest.raises(ValueError, match=f"Did you mean {PATH}"):
            register_periodic_task(name="Example", task_path=f"{PATH}s", every=10)

    @pytest.mark.parametrize(
        ("every", "period"), [(0, "minutes"), (-1, "hours"), (1, "fortnights")]
    )
    def test_refuses_an_invalid_interval(self, db: None, every: int, period: str) -> None:
        with pytest.raises(ValueError, match=f"Every {every} {period} is not an interval: write"):
            register_periodic_task(name="Example", task_path=PATH, every=every, period=period)

    def test_replaces_another_kind_of_schedule(self, db: None) -> None:
        from django_celery_beat.models import CrontabSchedule

        row = register_periodic_task(name="Example", task_path=PATH, every=10)
        row.interval, row.crontab = None, CrontabSchedule.objects.create(hour="3")
        row.save()
        row = register_periodic_task(name="Example", task_path=PATH, every=10)
        assert (interval(row), row.crontab) == ((10, "minutes"), None)


@pytest.mark.skipif(
    "django_celery_beat" in settings.INSTALLED_APPS, reason="Beat reads the database"
)
def test_register_periodic_task_says_where_to_declare_instead() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"schedules\.py"):
        register_periodic_task(name="Example", task_path=PATH, every=10)
