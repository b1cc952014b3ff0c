"""Runs the tasks of Django's Tasks API in Celery's workers. docs/django-tasks.md explains it.

The other modules are imported only if the setting TASKS names `backend.CeleryBackend`.
"""

from importlib.util import find_spec
from typing import Any

from django import VERSION
from django.conf import settings

BACKEND = "apps.pipeline.django_tasks.backend.CeleryBackend"

# The result backends that keep the data of Django's TaskResult.
RESULT_BACKENDS = ("redis", "rediss", "redis+socket", "sentinel", "django-db")


def entries() -> dict[str, dict[str, Any]]:
    """The entries of TASKS with this backend, by alias."""
    tasks = getattr(settings, "TASKS", {})
    return {alias: entry for alias, entry in tasks.items() if entry.get("BACKEND") == BACKEND}


def is_available() -> bool:
    """Whether Django or the package django-tasks has the Tasks API."""
    return VERSION >= (6, 0) or find_spec("django_tasks") is not None


def keeps_results(conf: Any) -> bool:
    """Whether the result backend of a Celery configuration keeps the data of a TaskResult."""
    return str(conf.result_backend).partition(":")[0] in RESULT_BACKENDS
