"""Classes to declare schedules, for all schedulers.

An app lists its schedules in `SCHEDULES` of its module `schedules`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from importlib import import_module
from math import ceil
from typing import Any, Literal
from zoneinfo import ZoneInfo

from celery import current_app
from celery.schedules import BaseSchedule, crontab, solar
from celery.schedules import schedule as interval
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules, module_has_submodule
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.tzcrontab import TzAwareCrontab

Dawn = Literal["dawn_astronomical", "dawn_nautical", "dawn_civil"]
Dusk = Literal["dusk_civil", "dusk_nautical", "dusk_astronomical"]
SolarEvent = Literal[Dawn, "sunrise", "solar_noon", "sunset", Dusk]


@dataclass(frozen=True, kw_only=True)
class Crontab:
    """A crontab, in the project's time zone unless `time_zone` is set."""

    minute: str = "*"
    hour: str = "*"
    day_of_week: str = "*"
    day_of_month: str = "*"
    month_of_year: str = "*"
    time_zone: str | None = None


@dataclass(frozen=True, kw_only=True)
class Solar:
    """An event of the sun at a place. Degrees north and degrees east are positive.

    It needs the package ephem: `uv add ephem`.
    """

    event: SolarEvent
    latitude: float
    longitude: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A task and when it runs: at an interval, by a crontab, at an event of the sun, or once."""

    name: str
    task: str
    when: timedelta | Crontab | Solar | datetime
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    queue: str | None = None
    expires: timedelta | None = None
    enabled: bool = True

    @property
    def expires_after(self) -> int | None:
        """Seconds, rounded up because the database stores integers. None if it does not expire."""
        return None if self.expires is None else ceil(self.expires.total_seconds())


def declared() -> dict[str, Schedule]:
    """The schedules of all installed apps, by name.

    Raises ImproperlyConfigured if two schedules have the same name.
    """
    found: dict[str, Schedule] = {}
    for config in apps.get_app_configs():
        if config.module is None or not module_has_submodule(config.module, "schedules"):
            continue
        for schedule in getattr(import_module(f"{config.name}.schedules"), "SCHEDULES", ()):
            if schedule.name in found:
                raise ImproperlyConfigured(
                    f"Two schedules are named {schedule.name!r}: give one of them another name."
                )
            found[schedule.name] = schedule
    return found


def import_tasks() -> None:
    """Import the modules that a worker imports: `tasks` of each app, and CELERY_IMPORTS."""
    autodiscover_modules("tasks")
    for module in current_app.loader.default_modules:
        current_app.loader.import_task_module(module)


def unknown_task(path: Any) -> str | None:
    """The error if no task is registered under this path, with similar names; else None."""
    if not isinstance(path, str):
        name = getattr(path, "name", "apps.shop.tasks.pack")
        return f"`task` must be the path of a task, as a string: {name!r}, for example."
    if path not in current_app.tasks:
        import_tasks()
    if path in current_app.tasks:
        return None
    near = get_close_matches(path, current_app.tasks.keys())
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"No task is registered as {path!r}.{hint}"


def as_beat_schedule() -> dict[str, dict[str, object]]:
    """The enabled schedules as Celery's `beat_schedule`, for schedulers without a database."""
    return {one.name: _entry(one) for one in declared().values() if one.enabled}


def _entry(schedule: Schedule) -> dict[str, object]:
    options = {"queue": schedule.queue, "expires": schedule.expires_after}
    return {
        "task": schedule.task,
        "schedule": celery_schedule(schedule.when),
        "args": list(schedule.args),
        "kwargs": dict(schedule.kwargs),
        "options": {name: value for name, value in options.items() if value is not None},
    }


def celery_schedule(when: timedelta | Crontab | Solar | datetime) -> BaseSchedule:
    match when:
        case timedelta():
            return interval(when)
        case Crontab():
            pattern = asdict(when)
            zone = pattern.pop("time_zone")
            return TzAwareCrontab(**pattern, tz=ZoneInfo(zone)) if zone else crontab(**pattern)
        case Solar():
            return solar(when.event, when.latitude, when.longitude)
        case datetime():
            return clocked(when)
        case _:
            raise TypeError("`when` is not a timedelta, Crontab, Solar or datetime.")
