"""Checks of the declared schedules and the scheduler."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any, get_args

from celery import current_app
from celery.utils.imports import load_extension_class_names, symbol_by_name
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from apps.pipeline import schedules
from apps.pipeline.checks.suggestions import did_you_mean
from apps.pipeline.checks.urls import REDIS, broker_urls, scheme

SECOND, HALF_AN_HOUR = timedelta(seconds=1), timedelta(minutes=30)


def declarations() -> Iterator[checks.CheckMessage]:
    """Check the schedules in each `schedules.py` and in CELERY_BEAT_SCHEDULE."""
    try:
        declared = schedules.declared()
    except ImproperlyConfigured as error:
        yield checks.Error(str(error), id="pipeline.E006")
        return
    tasks = {name: schedule.task for name, schedule in declared.items()}
    tasks |= {name: entry.get("task") for name, entry in current_app.conf.beat_schedule.items()}
    for name, task in tasks.items():
        if problem := schedules.unknown_task(task):
            yield checks.Error(f"Schedule {name!r}: {problem}", id="pipeline.E005")
    for name, schedule in declared.items():
        if problem := unusable(schedule):
            yield checks.Error(f"Schedule {name!r}: {problem}", id="pipeline.E006")


def unusable(schedule: schedules.Schedule) -> str | None:
    match schedule.when:
        case timedelta() as interval if interval <= timedelta(0):
            return "the interval is not positive."
        case timedelta() as interval if interval > HALF_AN_HOUR and interval % SECOND:
            return "an interval above half an hour must be a whole number of seconds."
        case datetime(tzinfo=None):
            return "the datetime has no time zone: add tzinfo=UTC, for example."
        case schedules.Solar(event=event) if event not in get_args(schedules.SolarEvent):
            hint = did_you_mean(event, get_args(schedules.SolarEvent))
            return f"{event!r} is not a solar event. {hint}"
        case schedules.Solar() if find_spec("ephem") is None:
            return "events of the sun need the package ephem: uv add ephem"
    if not isinstance(schedule.expires, timedelta | None):
        return "`expires` is not a timedelta."
    if schedule.expires is not None and schedule.expires <= timedelta(0):
        return "`expires` is not positive."
    try:
        schedules.celery_schedule(schedule.when)
        json.dumps([list(schedule.args), dict(schedule.kwargs)])
    except Exception as error:  # different kinds of schedules raise different errors
        return str(error.args[0] if error.args else error)
    return None


def time_zones() -> Iterator[checks.CheckMessage]:
    """Check that all times have a time zone, and that Celery and Django use the same one."""
    if not settings.USE_TZ:
        text = "USE_TZ is False, but Beat and the failed tasks need times with a time zone."
        yield checks.Error(text, "Remove it from config/settings/project.py.", id="pipeline.E019")
    zone = str(current_app.conf.timezone)
    if zone != settings.TIME_ZONE:
        text = f"CELERY_TIMEZONE is {zone}, but TIME_ZONE is {settings.TIME_ZONE}. Crontabs run "
        text += "in CELERY_TIMEZONE. The admin and rows of declared schedules use TIME_ZONE."
        hint = "Set TIME_ZONE in the environment or in .env, which sets both."
        yield checks.Warning(text, hint, id="pipeline.W004")


def scheduler() -> Iterator[checks.CheckMessage]:
    """Check the scheduler class of Beat."""
    conf = current_app.conf
    path, problem = conf.beat_scheduler, None
    name, choices = path, "database, redbeat or file"
    known: Any = load_extension_class_names("celery.beat_schedulers")
    try:
        symbol_by_name(path, dict(known))
    except Exception as error:  # an import can raise anything
        problem = f"cannot be imported ({error})."
    else:
        kind = scheme(conf.get("redbeat_redis_url") or broker_urls()[0])
        if "redbeat" in path.lower() and kind not in (*REDIS, "redis-sentinel", "unix"):
            problem = f"needs a Redis, but CELERY_REDBEAT_REDIS_URL has the scheme {kind}."
            choices = "database or file"
            if conf.get("redbeat_redis_url") in (None, conf.broker_url):  # as in the settings
                name = "redbeat"
                problem = f"needs a Redis broker, but the broker is {kind}."
    if problem:
        hint = f"Set CELERY_BEAT_SCHEDULER to {choices}."
        if "redbeat" in path and "No module" in problem:
            answer = "uvx copier update -r :current: --defaults -d beat_scheduler=redbeat"
            hint = f"To add RedBeat's code, change the answer: {answer}"
        yield checks.Error(f"The scheduler {name} {problem}", hint, id="pipeline.E007")
