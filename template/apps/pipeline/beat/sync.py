"""Writes the declared schedules to django-celery-beat's tables.

The rows of declared schedules have the name of the declaration in their headers. In the admin they
can only be enabled or disabled: a sync undoes other edits. A sync does not change other rows.
The library does not remove rows whose schedule was removed from the code. Seen in
django-celery-beat 2.9.0 (django-celery-beat #248, #654, #706). Keep this module once fixed, because
declared rows need the mark.
"""

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models.deletion import Collector
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from apps.pipeline.beat.times import KINDS, columns_of
from apps.pipeline.schedules import Schedule, declared

MARK = "declared_as"
NOTE = (
    "Declared in schedules.py. You can enable or disable it here. "
    "The next migrate undoes any other change."
)


def sync(*, dry_run: bool = False, drop: bool = False) -> list[str]:
    """Make the rows match the declarations. Return a line for each change.

    With `drop`, delete the rows of all declared schedules. A dry run changes nothing. Two
    concurrent syncs run one after the other.
    """
    with transaction.atomic():
        # Lock a row until the transaction ends, so that two deploys do not sync at the same time.
        PeriodicTasks.objects.get_or_create(ident=1, defaults={"last_update": timezone.now()})
        PeriodicTasks.objects.select_for_update().get(ident=1)
        changes = _apply({} if drop else declared())
        if dry_run:
            transaction.set_rollback(True)
    return changes


def after_migrate(sender: AppConfig, using: str, verbosity: int, **kwargs: Any) -> None:
    """Handle `post_migrate`, if the tables exist."""
    if using != DEFAULT_DB_ALIAS:
        return
    if "django_celery_beat_periodictask" not in connections[using].introspection.table_names():
        return  # this migrate has not created the tables
    for change in sync():
        if verbosity >= 1:
            print(f"  Schedule {change}")  # noqa: T201


def _apply(schedules: dict[str, Schedule]) -> list[str]:
    owned = _owned()
    changes = _remove({name: row for name, row in owned.items() if name not in schedules})
    names = _names_in_use(schedules.keys())
    columns = columns_of({schedule.when for schedule in schedules.values()})
    added: list[PeriodicTask] = []
    updated: dict[tuple[str, ...], list[PeriodicTask]] = {}
    for name, schedule in schedules.items():
        own = owned.get(name)
        fields = _fields(schedule) | columns[schedule.when]
        if names.get(name, names.get(name.casefold())) not in (None, own and own.pk):
            changes.append(f"not written: {name} (another row has this name: rename that row)")
        elif own is None:
            added.append(PeriodicTask(**fields, enabled=_is_enabled(schedule)))
            changes.append(f"added: {name}")
        elif differing := _update(own, schedule, fields):
            updated.setdefault(tuple(differing), []).append(own)
            changes.append(f"changed: {name} ({', '.join(differing)})")
    _write(added, updated)
    return changes


def _owned() -> dict[str, PeriodicTask]:
    """The rows of declared schedules, by the name of the declaration."""
    owned: dict[str, PeriodicTask] = {}
    marked = PeriodicTask.objects.using(DEFAULT_DB_ALIAS).filter(headers__contains=MARK)
    for row in marked.select_related(*KINDS).order_by("pk"):
        headers = _headers(row)
        name = headers.pop(MARK, None)
        if isinstance(name, str) and owned.setdefault(name, row) is not row:  # a user's copy
            type(row).objects.filter(pk=row.pk).update(headers=json.dumps(headers))
    return owned


def _remove(rows: dict[str, PeriodicTask]) -> list[str]:
    if rows:
        for row in rows.values():
            row.no_changes = True  # otherwise the library notes the change once for each row
        collector = Collector(using=DEFAULT_DB_ALIAS)
        collector.collect(list(rows.values()))
        collector.delete()
        PeriodicTasks.update_changed()
    return [f"removed: {name}" for name in sorted(rows)]


def _names_in_use(names: Collection[str]) -> dict[str, int]:
    """The keys of the rows that have these names. MySQL also finds a name in another case."""
    rows = PeriodicTask.objects.using(DEFAULT_DB_ALIAS).filter(name__in=names)
    found = rows.values_list("name", "pk")
    return {name if name in names else name.casefold(): pk for name, pk in found}


def _write(added: list[PeriodicTask], updated: dict[tuple[str, ...], list[PeriodicTask]]) -> None:
    """Write rows with few queries. A row's `save` takes five queries or more."""
    table = PeriodicTask.objects.using(DEFAULT_DB_ALIAS)
    for fields, rows in updated.items():  # Beat may write the other fields
        table.bulk_update(rows, [*fields, "date_changed"])
    table.bulk_create(added)
    if added or updated:
        PeriodicTasks.update_changed()


def _update(row: PeriodicTask, schedule: Schedule, fields: dict[str, Any]) -> list[str]:
    """Set the fields that differ, and return their names."""
    if _headers(row).get("declared_enabled") != schedule.enabled:
        fields["enabled"] = _is_enabled(schedule)  # the code has changed since the last sync
    if fields["clocked"] != row.clocked:
        fields |= {"enabled": _is_enabled(schedule), "total_run_count": 0}  # run it at the new time
    if fields.get("enabled") and not row.enabled:
        fields["last_run_at"] = None  # do not repeat the runs that were due while it was disabled
    differing = [name for name, value in fields.items() if getattr(row, name) != value]
    for name in differing:
        setattr(row, name, fields[name])
    row.date_changed = timezone.now()
    return differing


def _headers(row: PeriodicTask) -> dict[str, Any]:
    """The headers of the row; empty if they are not a JSON object."""
    try:
        headers = json.loads(row.headers)
    except ValueError:
        return {}
    return headers if isinstance(headers, dict) else {}


def _is_enabled(schedule: Schedule) -> bool:
    """Whether to enable the row. As in the other schedulers, a past time does not run."""
    is_past = isinstance(schedule.when, datetime) and schedule.when <= timezone.now()
    return schedule.enabled and not is_past


def _fields(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "task": schedule.task,
        "args": json.dumps(list(schedule.args)),
        "kwargs": json.dumps(dict(schedule.kwargs)),
        "queue": schedule.queue or None,
        "expire_seconds": schedule.expires_after,
        "one_off": isinstance(schedule.when, datetime),
        "headers": json.dumps({MARK: schedule.name, "declared_enabled": schedule.enabled}),
        "description": NOTE,
        **dict.fromkeys(("exchange", "expires", "priority", "routing_key", "start_time")),
    }
