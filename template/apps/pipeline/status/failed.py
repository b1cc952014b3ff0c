"""The failed tasks on the page: which of them can run again, and how many wait."""

from dataclasses import dataclass
from typing import Any

from django.apps import apps
from kombu.exceptions import OperationalError

PERMISSION = "pipeline_failed.run_again"


def are_kept() -> bool:
    return apps.is_installed("apps.pipeline.failed")


@dataclass(frozen=True)
class FailedTasks:
    """How many failed tasks were not run again, and which of the given ids can run again."""

    count: int = 0
    can_run_again: frozenset[str] = frozenset()


def about(ids: list[str]) -> FailedTasks:
    """Read the table. Raises DatabaseError."""
    if not are_kept():
        return FailedTasks()
    from apps.pipeline.failed.models import FailedTask

    rows = FailedTask.objects.filter(run_again_as="")
    runnable = rows.filter(task_id__in=ids).exclude(message="")
    return FailedTasks(rows.count(), frozenset(runnable.values_list("task_id", flat=True)))


def run_again(task_id: str, user: Any) -> str:
    """Send a failed task again. Return why it was not sent; empty if it was."""
    from apps.pipeline.failed.again import run_again as send
    from apps.pipeline.failed.models import FailedTask

    failed = FailedTask.objects.filter(task_id=task_id).first()
    try:
        if failed:
            send(failed, user if user.is_authenticated else None)
    except (OperationalError, ValueError) as error:
        return f"{failed} was not sent again: {error}"
    return "" if failed else "The row of this failed task was deleted."
