"""Runs failed tasks again."""

from typing import TYPE_CHECKING, Any

from celery import current_app, uuid
from django.apps import apps
from django.db import router, transaction
from django.utils import timezone
from kombu.utils.json import loads

from apps.pipeline.failed.models import FailedTask
from apps.pipeline.schedules import unknown_task

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

HEADER = "run_again_of"  # the header of the new message with the id of the failed task


def run_again(failed: FailedTask, user: "AbstractBaseUser | AnonymousUser | None" = None) -> str:
    """Send the task again, with the same arguments, and return its new id. The row stays.

    The caller has to check the permission of the user. The log of the admin names the user.
    Raises ValueError if the task cannot run again or was run again before, and kombu's
    OperationalError if the broker does not answer. Then the row does not change.
    """
    if not failed.message:
        raise ValueError(failed.obstacle or "Its message was not kept.")
    if problem := unknown_task(failed.name):
        raise ValueError(problem)
    kept: dict[str, Any] = loads(failed.message)
    task, new_id = current_app.tasks[failed.name], uuid()
    options = kept["options"] | {"headers": {HEADER: failed.task_id}}
    if failed.queue:
        options["queue"] = failed.queue
    now = timezone.now()
    # If the process is killed before the commit, the row can be run again: nothing is lost.
    with transaction.atomic(using=router.db_for_write(FailedTask)):
        rows = FailedTask.objects.filter(pk=failed.pk, run_again_as="")
        if not rows.update(run_again_as=new_id, run_again_at=now):
            raise ValueError("It was already run again, or its row was deleted.")
        try:
            task.apply_async(kept["args"], kept["kwargs"], task_id=new_id, **options)
        except TypeError as error:  # its arguments do not fit the task
            raise ValueError(str(error)) from error
    failed.run_again_as, failed.run_again_at = new_id, now
    if user is not None and apps.is_installed("django.contrib.admin"):
        _log(failed, user)
    return str(new_id)


def _log(failed: FailedTask, user: Any) -> None:
    from django.contrib.admin.models import CHANGE, LogEntry

    words = f"Run again as {failed.run_again_as}."
    LogEntry.objects.log_actions(user.pk, [failed], CHANGE, words, single_object=True)
