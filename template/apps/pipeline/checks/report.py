"""Registers the checks, and prints their messages before a worker or Beat starts."""

import sys
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage

from apps.pipeline.checks import (
    connections,
    django_tasks,
    failed,
    limits,
    names,
    outbox,
    queues,
    schedules,
    security,
)

EVERYWHERE = (
    names.names,
    limits.limits,
    limits.held_messages,
    limits.soft_shutdown,
    schedules.declarations,
    schedules.time_zones,
    queues.undeclared_queues,
    django_tasks.backend,
    schedules.scheduler,
    connections.result_backend,
    connections.broker,
    connections.databases,
    outbox.outbox,
    failed.notify,
    security.content,
)
IN_PRODUCTION = (security.encryption, security.eager)


@checks.register("pipeline")
def everywhere(**kwargs: Any) -> list[CheckMessage]:
    return [message for check in EVERYWHERE for message in check()]


@checks.register("pipeline", deploy=True)
def in_production(**kwargs: Any) -> list[CheckMessage]:
    return [message for check in IN_PRODUCTION for message in check()]


def messages() -> list[CheckMessage]:
    """The errors and warnings that are not silenced. Without DEBUG, include deployment checks."""
    found = checks.run_checks(tags=["pipeline"], include_deployment_checks=not settings.DEBUG)
    return [one for one in found if one.level >= checks.WARNING and not one.is_silenced()]


def as_line(message: CheckMessage) -> str:
    return " ".join(filter(None, [f"{message.id}:", message.msg, message.hint]))


def report_and_exit() -> None:
    """Print a line for each error and warning, and exit if there is an error."""
    found = messages()
    for message in found:
        print(as_line(message), file=sys.stderr)  # noqa: T201 - logging is not set up yet
    if any(message.is_serious() for message in found):
        sys.exit(1)
