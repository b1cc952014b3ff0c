"""Checks of time limits, of how long a worker can hold a message, and of the shutdown."""

from collections.abc import Iterator
from typing import Any

from celery import current_app
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error

from apps.pipeline import schedules
from apps.pipeline.checks.urls import AMQP, broker_urls, scheme

SQS_LIMIT = 12 * 60 * 60  # seconds after which AWS redelivers a message, even if it is renewed
STOP_TIME = 5  # seconds in which a worker stops after its soft shutdown; it takes about 3


def limits() -> Iterator[CheckMessage]:
    """Find soft time limits that are not below the hard ones."""
    conf = current_app.conf
    pairs = [("CELERY_TASK_SOFT_TIME_LIMIT", conf.task_soft_time_limit, conf.task_time_limit)]
    for task in own_tasks():
        hard = task.time_limit or conf.task_time_limit
        pairs.append((f"soft_time_limit of {task.name}", task.soft_time_limit, hard))
    for name, soft, limit in pairs:
        if soft and limit and soft >= limit:
            message = f"{name} is {soft} s, but the hard limit kills the task at {limit} s."
            yield Error(message, "Set the soft limit below the hard one.", id="pipeline.E002")


def held_messages() -> Iterator[CheckMessage]:
    """Find tasks that can take longer than a worker can hold their message.

    Tasks without a time limit are not reported, and neither are countdowns.
    """
    kind = scheme(broker_urls()[0])
    if kind == "sqs":
        longest, name = max([*time_limits(), *retry_delays()])
        if longest >= SQS_LIMIT:
            text = f"{name} is {longest} s, but SQS delivers a message again after {SQS_LIMIT} s."
            yield Error(text, "Lower it, or split the task.", id="pipeline.E003")
    elif kind in AMQP:
        limit = settings.RABBITMQ_CONSUMER_TIMEOUT
        longest, name = max(time_limits())
        if longest > limit:
            text = f"{name} is {longest} s, but RabbitMQ delivers a message again after {limit} s."
            hint = "Lower it, or raise the server's consumer_timeout and RABBITMQ_CONSUMER_TIMEOUT."
            yield checks.Warning(text, hint, id="pipeline.W002")


def own_tasks() -> list[Any]:
    schedules.import_tasks()
    return [task for name, task in current_app.tasks.items() if not name.startswith("celery.")]


def time_limits() -> Iterator[tuple[float, str]]:
    hard = current_app.conf.task_time_limit or 0
    yield hard, "CELERY_TASK_TIME_LIMIT"
    for task in own_tasks():
        yield task.time_limit or hard, f"time_limit of {task.name}"


def retry_delays() -> Iterator[tuple[float, str]]:
    """The longest delays of retries that tasks declare."""
    for task in own_tasks():
        yield task.default_retry_delay or 0, f"default_retry_delay of {task.name}"
        if getattr(task, "retry_backoff", False):
            yield getattr(task, "retry_backoff_max", 600), f"retry_backoff_max of {task.name}"


def soft_shutdown() -> Iterator[CheckMessage]:
    """Check that a worker can return its tasks to the queue before it is killed."""
    soft = current_app.conf.worker_soft_shutdown_timeout
    grace = getattr(settings, "STOP_GRACE", None)  # None: not known
    stop_time = STOP_TIME + current_app.conf.broker_transport_options.get("wait_time_seconds", 0)
    if soft and grace is not None and soft + stop_time > grace:
        message = f"CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT is {soft:g} s and STOP_GRACE is {grace} s: "
        message += "a worker that stops is killed before it has returned its tasks to the queue."
        least = f"{soft + stop_time:g} s"
        hint = f"Set STOP_GRACE, and your supervisor's grace period, to at least {least}."
        yield Error(message, hint, id="pipeline.E004")
