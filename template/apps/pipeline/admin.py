"""Lists results in the admin, with an action that runs failed tasks again."""

import json
from ast import literal_eval

from celery import current_app, states
from django.apps import apps
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from kombu.exceptions import OperationalError

if apps.is_installed("django_celery_results"):  # the environment can set another result backend
    from django_celery_results.admin import TaskResultAdmin
    from django_celery_results.models import TaskResult

    admin.site.unregister(TaskResult)

    @admin.register(TaskResult)
    class ResultAdmin(TaskResultAdmin):
        actions = ("run_again",)

        @admin.action(description="Run the selected failed tasks again", permissions=["change"])
        def run_again(self, request: HttpRequest, queryset: QuerySet[TaskResult]) -> None:
            """Send each failed task again, with the same arguments. Its row stays."""
            for failed in queryset.filter(status=states.FAILURE):
                try:
                    sent = send_again(failed)
                except (OperationalError, ValueError) as error:
                    self.message_user(request, f"{failed.task_id}: {error}", messages.ERROR)
                else:
                    self.message_user(request, f"{failed.task_name} is sent again, as {sent}.")


def send_again(failed: "TaskResult") -> str:
    """Send the task of this row, and return its new id.

    Raises ValueError if the task or its complete arguments are not known, and OperationalError if
    the broker does not accept the message.
    """
    task = current_app.tasks.get(failed.task_name)
    if task is None:
        raise ValueError(f"No task is registered as {failed.task_name!r}.")
    try:
        stored = [json.loads(text) for text in (failed.task_args, failed.task_kwargs)]
        args, kwargs = map(literal_eval, stored)
    except (SyntaxError, TypeError, ValueError):
        stored = ["..."]
    if any("..." in text for text in stored):  # Celery has shortened the arguments
        raise ValueError("The result does not have the complete arguments: send it from your code.")
    return str(task.apply_async(args, kwargs).id)
