"""Results in the admin, where a failed task can be run again."""

import json
from ast import literal_eval

from celery import current_app, states
from django.apps import apps
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from kombu.exceptions import OperationalError

if apps.is_installed("django_celery_results"):  # the environment may say otherwise
    from django_celery_results.admin import TaskResultAdmin
    from django_celery_results.models import TaskResult

    admin.site.unregister(TaskResult)

    @admin.register(TaskResult)
    class ResultAdmin(TaskResultAdmin):
        actions = ("run_again",)

        @admin.action(description="Run the failed tasks among these again", permissions=["change"])
        def run_again(self, request: HttpRequest, queryset: QuerySet[TaskResult]) -> None:
            """Send each anew, with the arguments it had; the row of the failure stays."""
            for failed in queryset.filter(status=states.FAILURE):
                try:
                    sent = send_again(failed)
                except (OperationalError, ValueError) as error:
                    self.message_user(request, f"{failed.task_id}: {error}", messages.ERROR)
                else:
                    self.message_user(request, f"{failed.task_name} is sent again, as {sent}.")


def send_again(failed: "TaskResult") -> str:
    """Send the task of this row, and return its new id.

    Raises ValueError where what the row keeps is not enough, and OperationalError where the broker
    does not take it.
    """
    task = current_app.tasks.get(failed.task_name)
    if task is None:
        raise ValueError(f"No task is registered as {failed.task_name!r}.")
    try:
        kept = [json.loads(text) for text in (failed.task_args, failed.task_kwargs)]
        args, kwargs = map(literal_eval, kept)
    except (SyntaxError, TypeError, ValueError):
        kept = ["..."]
    if any("..." in text for text in kept):  # so Celery shortens what is long or deep
        raise ValueError("Its arguments were not kept whole: send it from your code.")
    return str(task.apply_async(args, kwargs).id)
