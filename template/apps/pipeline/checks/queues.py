"""Checks the queues that tasks are sent to."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from celery import current_app
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from apps.pipeline import schedules
from apps.pipeline.broker import queues
from apps.pipeline.checks.suggestions import did_you_mean


def undeclared_queues() -> Iterator[CheckMessage]:
    """Find queues that a route, a task or a schedule names and that are not declared."""
    for queue in current_app.conf.task_queues or ():
        if isinstance(queue, str) and not isinstance(current_app.conf.task_queues, Mapping):
            text = f"CELERY_TASK_QUEUES has the string {queue!r} instead of a Queue."
            yield Error(text, f'Write Queue("{queue}") in its place.', id="pipeline.E014")
    schedules.import_tasks()
    conf, known = current_app.conf, queues.declared(current_app.conf)
    tasks, named = current_app.tasks.items(), list(_routed(conf.task_routes))
    named += [(f"The task {name}", getattr(task, "queue", None)) for name, task in tasks]
    for name, entry in conf.beat_schedule.items():
        named.append((f"Schedule {name!r}", (entry.get("options") or {}).get("queue")))
    with suppress(ImproperlyConfigured):  # E006 reports it
        named += [(f"Schedule {one.name!r}", one.queue) for one in schedules.declared().values()]
    for place, queue in named:
        name = getattr(queue, "name", queue)
        if name and name not in known:
            text = f"{place} names the queue {name!r}, which CELERY_TASK_QUEUES does not declare."
            yield Error(text, declaration(name, known), id="pipeline.E014")


def declaration(name: str, known: list[str]) -> str:
    """Say how to declare a queue, and which known name is similar."""
    others = known[1:]  # the first is the default queue, which is always declared
    every = ", ".join(f'Queue("{each}")' for each in [*others, name])
    code = f"from kombu import Queue; CELERY_TASK_QUEUES = [{every}]"
    hint = f"Declare it in config/settings/project.py: {code}"
    return " ".join(filter(None, [did_you_mean(name, known), hint]))


def _routed(routes: Any) -> Iterator[tuple[str, Any]]:
    """The queue of each route, except queues that a function returns."""
    if isinstance(routes, Mapping):
        for pattern, route in routes.items():
            queue = route.get("queue") if isinstance(route, Mapping) else route
            yield f"The route of {getattr(pattern, 'pattern', pattern)}", queue
    elif isinstance(routes, list | tuple):
        # A text is a pattern with its route in the next element, or the path of a function.
        match routes:
            case [str() | re.Pattern() as pattern, {"queue": _} as route]:
                routes = [{pattern: route}]
        for route in routes:
            is_pair = isinstance(route, tuple) and isinstance(route[0], str | re.Pattern)
            yield from _routed(dict([route]) if is_pair else route)
