"""Checks the backend of Django's Tasks API, if TASKS names it."""

from collections.abc import Iterator

from celery import current_app
from django.core.checks import CheckMessage, Error, Info

from apps.pipeline import django_tasks
from apps.pipeline.broker import queues
from apps.pipeline.checks.queues import declaration


def backend() -> Iterator[CheckMessage]:
    """Check that the API is there, the queues are declared and results can be read."""
    known = queues.declared(current_app.conf)
    for alias, entry in django_tasks.entries().items():
        if not django_tasks.is_available():
            message = f"TASKS[{alias!r}] needs the package django-tasks before Django 6.0."
            yield Error(message, "Install it: uv add django-tasks", id="pipeline.E015")
        for name in entry.get("QUEUES", ()):
            if name not in (*known, "default"):  # Django's "default" is Celery's default queue
                message = f"TASKS[{alias!r}] names the queue {name!r}, "
                message += "which CELERY_TASK_QUEUES does not declare."
                yield Error(message, declaration(name, known), id="pipeline.E015")
        if not django_tasks.keeps_results(current_app.conf):
            message = f"TASKS[{alias!r}]: get_result() needs a result backend that keeps results."
            hint = "Set CELERY_RESULT_BACKEND to redis or django-db if you need it."
            yield Info(message, hint, id="pipeline.I002")
