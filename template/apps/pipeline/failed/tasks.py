"""Tasks that keep failed tasks: store one later, call FAILED_TASK_NOTIFY, delete old ones."""

import logging
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.conf import settings
from django.db import DatabaseError, DataError, InterfaceError, router
from django.utils import timezone
from django.utils.module_loading import import_string

from apps.pipeline.failed import record
from apps.pipeline.failed.models import FailedTask

logger = logging.getLogger(__name__)


@shared_task(
    name=record.STORE,
    autoretry_for=(DatabaseError, InterfaceError),
    dont_autoretry_for=(DataError,),  # the database refuses the row, now and later
    retry_backoff=2,
    retry_backoff_max=300,
    max_retries=None,
    ignore_result=True,
)
def store(row: dict[str, Any]) -> None:
    """Store a failed task that was not stored when it failed."""
    record.store(row)


@shared_task(name=record.NOTIFY, ignore_result=True)
def notify(pk: int) -> None:
    """Call the function that the setting FAILED_TASK_NOTIFY names."""
    rows = FailedTask.objects.using(router.db_for_write(FailedTask))  # a replica may be late
    if failed := rows.filter(pk=pk).first():
        try:
            import_string(str(settings.FAILED_TASK_NOTIFY))(failed)
        except Exception:  # else this task would be recorded, and notify again
            logger.exception("FAILED_TASK_NOTIFY failed for %s", failed)


@shared_task(name="apps.pipeline.failed.tasks.delete_old", ignore_result=True)
def delete_old() -> None:
    """Delete the failed tasks that are older than FAILED_TASK_DAYS."""
    limit = timezone.now() - timedelta(days=settings.FAILED_TASK_DAYS)
    deleted, _ = FailedTask.objects.filter(failed_at__lt=limit).delete()
    logger.info("Deleted %d failed tasks", deleted)
