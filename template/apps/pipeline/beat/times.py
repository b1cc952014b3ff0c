"""Finds or creates rows in django-celery-beat's four tables of times. Schedules refer to them."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model
from django_celery_beat.models import PeriodicTask

from apps.pipeline.schedules import Crontab, Solar

Rows = dict[tuple[Any, ...], Any]

# The columns of a PeriodicTask that refer to the four tables. One of them is set.
KINDS = ("interval", "crontab", "solar", "clocked")


def columns_of(times: Iterable[object]) -> dict[object, dict[str, Model | None]]:
    """The values of these columns for each time. Create the rows of times that do not exist."""
    fields = {time: _fields(time) for time in times}
    columns: dict[object, dict[str, Model | None]] = {}
    for kind in KINDS:
        wanted = {time: values for time, (its_kind, values) in fields.items() if its_kind == kind}
        model: Any = PeriodicTask._meta.get_field(kind).related_model
        rows = _find_or_create(model, list(wanted.values()))
        for time, values in wanted.items():
            columns[time] = dict.fromkeys(KINDS) | {kind: rows[_key(model, values)]}
    return columns


def _fields(time: object) -> tuple[str, dict[str, Any]]:
    """The kind of a time, and the values of its row."""
    match time:
        case timedelta():
            return "interval", _interval(time)
        case Crontab():
            pattern = asdict(time)
            zone = pattern.pop("time_zone") or settings.TIME_ZONE
            return "crontab", pattern | {"timezone": zone}
        case Solar():
            place = {axis: round(getattr(time, axis), 6) for axis in ("latitude", "longitude")}
            return "solar", {"event": time.event, **place}
        case datetime():
            return "clocked", {"clocked_time": time.astimezone(UTC)}
    raise TypeError(f"{time!r} is not a timedelta, Crontab, Solar or datetime.")


def _interval(every: timedelta) -> dict[str, Any]:
    for period in ("days", "hours", "minutes", "seconds", "microseconds"):
        unit = timedelta(**{period: 1})
        if every % unit == timedelta(0):
            return {"every": every // unit, "period": period}
    raise AssertionError("a timedelta is a whole number of microseconds")


def _find_or_create(model: type[Model], wanted: list[dict[str, Any]]) -> Rows:
    rows = _find(model, wanted)
    missing = {_key(model, values): values for values in wanted if _key(model, values) not in rows}
    if missing:
        _rows(model).bulk_create(model(**values) for values in missing.values())
        rows = _find(model, wanted)  # MySQL does not return the keys of new rows
    return rows


def _find(model: type[Model], wanted: list[dict[str, Any]]) -> Rows:
    """The first row of each time. The tables can have several equal rows."""
    rows: Rows = {}
    if wanted:
        names = list(wanted[0])
        near = {f"{name}__in": {values[name] for values in wanted} for name in names}
        for row in _rows(model).filter(**near).order_by("pk"):
            rows.setdefault(_key(model, {name: getattr(row, name) for name in names}), row)
    return rows


def _rows(model: type[Model]) -> Any:
    """The rows in the database that the transaction writes to. A replica may not have them yet."""
    return model._default_manager.using(DEFAULT_DB_ALIAS)


def _key(model: type[Model], values: dict[str, Any]) -> tuple[Any, ...]:
    """The values of a row, in the form in which the database compares them."""
    columns = {field.name: field for field in model._meta.fields}
    return tuple(columns[name].get_prep_value(value) for name, value in values.items())
