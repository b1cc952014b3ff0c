"""The schedules, with their last and next runs, and a switch for those in the database."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from celery.utils.imports import symbol_by_name
from django.apps import apps
from django.utils import timezone

from apps.pipeline.schedules import celery_schedule, declared

CHANGE_PERMISSION = "django_celery_beat.change_periodictask"
SHOWN = 50  # schedules; a page of thousands would be slow


@dataclass(frozen=True)
class Scheduled:
    """A schedule. A time is None if it is not known."""

    name: str
    task: str
    when: str
    owner: str
    enabled: bool
    last: datetime | None = None
    due: datetime | None = None
    key: str = ""  # of the row in the database


def in_database() -> bool:
    """Whether the scheduler is django-celery-beat's. Only its schedules can be switched here."""
    return apps.is_installed("django_celery_beat")


def scheduled() -> tuple[list[Scheduled], int]:
    """Up to SHOWN schedules, in the order in which they are due, and the number of all."""
    if in_database():
        found, count = _rows()
    else:
        found = _entries()
        count = len(found)
    later = timezone.now() + timedelta(days=365_000)
    found.sort(key=lambda one: (not one.enabled, one.due or later, one.name))
    return found[:SHOWN], count


def _rows() -> tuple[list[Scheduled], int]:
    from django_celery_beat.models import PeriodicTask

    from apps.pipeline.beat.sync import MARK

    rows = PeriodicTask.objects.select_related("interval", "crontab", "solar", "clocked")
    found = [
        Scheduled(
            row.name,
            row.task,
            str(row.scheduler),
            _owner(row.name, MARK in row.headers, "admin"),
            row.enabled,
            row.last_run_at,
            _next(row) if row.enabled else None,
            str(row.pk),  # a template would write a number with separators
        )
        for row in rows.order_by("-enabled", "name")[:SHOWN]  # SQL cannot tell when one is due
    ]
    return found, rows.count()


def switch(key: str, *, enable: bool, user_id: int | None) -> None:
    """Enable or disable a row, as the admin does. A sync of declared schedules keeps this.

    Beat reads the row within some seconds. The admin's history of the row has the change. A row
    that does not exist any more is ignored. Call this only if the schedules are in the database.
    """
    from django_celery_beat.models import PeriodicTask

    rows = PeriodicTask.objects.filter(enabled=not enable)
    row = rows.filter(pk=key).first() if key.isdecimal() else None
    if row is None:
        return
    row.enabled, now = enable, timezone.now()
    # Do not repeat the runs that were due while it was disabled. Without a last run, the library
    # runs a row with a start time at once if this time has passed.
    row.last_run_at = now if row.start_time and row.start_time < now else None
    # Beat may write the other fields.
    row.save(update_fields=["enabled", "date_changed", *(["last_run_at"] if enable else [])])
    if user_id is not None and apps.is_installed("django.contrib.admin"):
        from django.contrib.admin.models import CHANGE, LogEntry

        message = [{"changed": {"fields": ["Enabled"]}}]
        LogEntry.objects.log_actions(user_id, [row], CHANGE, message)


def _owner(name: str, in_code: bool, otherwise: str) -> str:
    """Who decides about the schedule. Celery adds one that deletes old results."""
    return "code" if in_code else "Celery" if name.startswith("celery.") else otherwise


def _entries() -> list[Scheduled]:
    """The schedules in redbeat's Redis, or with other schedulers those in code."""
    scheduler = symbol_by_name(current_app.conf.beat_scheduler)
    in_code = declared()
    if hasattr(scheduler, "stored"):
        entries: list[Any] = scheduler(current_app, lazy=True).stored()
        return [
            Scheduled(
                entry.name,
                entry.task,
                _words(entry.schedule),
                _owner(entry.name, entry.name in in_code, "redbeat"),
                entry.enabled,
                entry.last_run_at,
                _due(entry, entry.last_run_at),
            )
            for entry in entries
        ]
    return [
        Scheduled(name, one.task, _words(celery_schedule(one.when)), "code", one.enabled)
        for name, one in in_code.items()
    ]


def _next(row: Any) -> datetime | None:
    """When Beat sends the row next; None if it does not."""
    due = _due(row, row.last_run_at or row.date_changed)
    if due and row.start_time:
        due = max(due, row.start_time)
    return None if due and row.expires and due >= row.expires else due


def _due(entry: Any, last: datetime) -> datetime | None:
    """When it runs next; None if it cannot be computed, for example for a past time."""
    with suppress(Exception):  # each kind of schedule raises its own errors
        remaining: timedelta = entry.schedule.remaining_estimate(last)
        return timezone.now() + max(remaining, timedelta(0))
    return None


def _words(schedule: object) -> str:
    return str(schedule).strip("<>")
