"""Checks of the outbox."""

from collections.abc import Iterator

from celery import current_app
from celery.utils.imports import symbol_by_name
from django.apps import apps
from django.conf import settings
from django.core import checks


def outbox() -> Iterator[checks.CheckMessage]:
    """Check that tasks can be stored, and that a Beat sends what is left."""
    if not settings.TASK_OUTBOX:
        return
    if not apps.is_installed("apps.pipeline.outbox"):
        text = "TASK_OUTBOX is on, but the outbox is not installed."
        hint = "Set TASK_OUTBOX in the environment or in .env, and not in the settings."
        yield checks.Error(text, hint, id="pipeline.E016")
    if not sends(current_app.conf.beat_scheduler):
        text = "TASK_OUTBOX is on, but this scheduler does not send what is left in the outbox."
        hint = "Set CELERY_BEAT_SCHEDULER to database, redbeat or file."
        yield checks.Error(text, hint, id="pipeline.E017")
    if others := sorted(settings.DATABASES.keys() - {"default"}):
        text = f"The outbox does not store tasks sent in a transaction on {others[0]!r} only."
        hint = "They are published at once. Send them in a transaction on 'default' too."
        yield checks.Warning(text, hint, id="pipeline.W003")


def sends(scheduler: str) -> bool:
    """Whether the scheduler is one of this package. If it cannot be imported, E007 reports it."""
    try:
        return hasattr(symbol_by_name(scheduler), "new_lock")
    except Exception:  # an import can raise anything
        return True
