"""The declared schedules, written to django-celery-beat's tables.

What code declares, code owns: its rows carry the declaration's name in their headers, and the admin
decides only whether they are switched on. Rows without that mark are never touched.
"""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.utils import timezone

from apps.pipeline.schedules import Crontab, Schedule, Solar, declared

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

MARK = "declared_as"
KINDS = ("interval", "crontab", "solar", "clocked")  # a row has one of them
NOTE = (
    "Declared in code, in schedules.py. Switching it on or off here stays; "
    "any other change is undone by the next migrate."
)


def sync(*, dry_run: bool = False, drop: bool = False) -> list[str]:
    """Make the rows match the declarations, or drop those; say what changed, a line each.

    A dry run says the same and changes nothing. Two at once take turns.
    """
    with transaction.atomic():
        _take_turns()
        changes = _apply({} if drop else declared())
        if dry_run:
            transaction.set_rollback(True)
    return changes


def after_migrate(sender: AppConfig, using: str, verbosity: int, **kwargs: Any) -> None:
    """Handle `post_migrate`: the tables are there once every app's migrations ran."""
    if using != DEFAULT_DB_ALIAS:
        return
    if "django_celery_beat_periodictask" not in connections[using].introspection.table_names():
        return  # this migrate stopped short of the tables
    for change in sync():
        if verbosity >= 1:
            print(f"  Schedule {change}")  # noqa: T201


def _take_turns() -> None:
    """Hold a lock until the transaction ends, so that two deploys do this one after the other."""
    from django_celery_beat.models import PeriodicTasks

    PeriodicTasks.objects.get_or_create(ident=1, defaults={"last_update": timezone.now()})
    PeriodicTasks.objects.select_for_update().get(ident=1)


def _apply(schedules: dict[str, Schedule]) -> list[str]:
    from django_celery_beat.models import PeriodicTask

    owned: dict[str, PeriodicTask] = {}
    for row in PeriodicTask.objects.filter(headers__contains=MARK).order_by("pk"):
        if isinstance(name := _headers(row).get(MARK), str):
            owned.setdefault(name, row)  # a copy that somebody made of it is theirs
    changes = []
    for name in sorted(owned.keys() - schedules.keys()):
        owned[name].delete()
        changes.append(f"removed: {name}")
    for name, schedule in schedules.items():
        own = owned.get(name)
        rows = PeriodicTask.objects.filter(name=name)
        if (rows.exclude(pk=own.pk) if own else rows).exists():
            changes.append(f"not written: {name} (a row of this name was made by hand: rename it)")
        elif own is None:
            PeriodicTask.objects.create(**_fields(schedule), enabled=_is_on(schedule))
            changes.append(f"added: {name}")
        elif differing := _update(own, schedule):
            changes.append(f"changed: {name} ({', '.join(differing)})")
    return changes


def _update(row: "PeriodicTask", schedule: Schedule) -> list[str]:
    fields = _fields(schedule)
    if _headers(row).get("declared_enabled") != schedule.enabled:
        fields["enabled"] = _is_on(schedule)  # the code changed its mind, not the admin
    if fields["clocked"] != row.clocked:
        fields |= {"enabled": _is_on(schedule), "total_run_count": 0}  # a new moment to run once
    if fields.get("enabled") and not row.enabled:
        fields["last_run_at"] = None  # what was due while it was off is not made up for
    differing = [name for name, value in fields.items() if getattr(row, name) != value]
    if differing:
        for name in differing:
            setattr(row, name, fields[name])
        row.save(update_fields=[*differing, "date_changed"])  # not what Beat writes meanwhile
    return differing


def _headers(row: "PeriodicTask") -> dict[str, Any]:
    """Those of the row; none where a person wrote something else there."""
    try:
        headers = json.loads(row.headers)
    except ValueError:
        return {}
    return headers if isinstance(headers, dict) else {}


def _is_on(schedule: Schedule) -> bool:
    """A moment that is past when it is first read stays past, as with every scheduler."""
    is_past = isinstance(schedule.when, datetime) and schedule.when <= timezone.now()
    return schedule.enabled and not is_past


def _fields(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "task": schedule.task,
        "args": json.dumps(list(schedule.args)),
        "kwargs": json.dumps(dict(schedule.kwargs)),
        "queue": schedule.queue,
        "expire_seconds": schedule.expires_after,
        "one_off": isinstance(schedule.when, datetime),
        "headers": json.dumps({MARK: schedule.name, "declared_enabled": schedule.enabled}),
        "description": NOTE,
        **dict.fromkeys(("exchange", "expires", "priority", "routing_key", "start_time")),
        **_when(schedule.when),
    }


def _when(when: timedelta | Crontab | Solar | datetime) -> dict[str, models.Model | None]:
    from django_celery_beat import models as tables

    columns: dict[str, models.Model | None] = dict.fromkeys(KINDS)
    match when:
        case timedelta():
            columns["interval"] = _first(tables.IntervalSchedule, **_interval(when))
        case Crontab():
            pattern = asdict(when)
            zone = pattern.pop("time_zone") or settings.TIME_ZONE
            columns["crontab"] = _first(tables.CrontabSchedule, timezone=zone, **pattern)
        case Solar():
            place = {axis: round(getattr(when, axis), 6) for axis in ("latitude", "longitude")}
            columns["solar"] = _first(tables.SolarSchedule, event=when.event, **place)
        case datetime():
            columns["clocked"] = _first(tables.ClockedSchedule, clocked_time=when)
    return columns


def _interval(every: timedelta) -> dict[str, object]:
    for period in ("days", "hours", "minutes", "seconds", "microseconds"):
        unit = timedelta(**{period: 1})
        if every % unit == timedelta(0):
            return {"every": every // unit, "period": period}
    raise AssertionError("a timedelta is a whole number of microseconds")


def _first(model: type[models.Model], **fields: object) -> models.Model:
    """The row with these fields, made if there is none; the tables allow several that are alike."""
    rows = model._default_manager
    return rows.filter(**fields).first() or rows.create(**fields)
