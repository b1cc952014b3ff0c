"""The failed tasks in the admin."""

import json

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from kombu.exceptions import OperationalError

from apps.pipeline.failed.again import run_again
from apps.pipeline.failed.models import FailedTask


@admin.register(FailedTask)
class FailedTaskAdmin(admin.ModelAdmin[FailedTask]):
    list_display = ("name", "reason", "summary", "queue", "attempts", "failed_at", "run_again_at")
    was_run_again = ("run_again_as", admin.EmptyFieldListFilter)
    list_filter = ("reason", was_run_again, "failed_at", "queue", "name")
    search_fields = ("=task_id", "=run_again_as", "name", "error")
    actions = ("run_again",)
    fields = (
        *("name", "task_id", "reason", "error", "arguments", "obstacle", "traceback"),
        *("queue", "worker", "attempts", "failed_at", "run_again_as", "run_again_at"),
    )

    @admin.display(description="error", ordering="error")
    def summary(self, failed: FailedTask) -> str:
        return failed.error.partition("\n")[0][:80]

    @admin.display
    def arguments(self, failed: FailedTask) -> str:
        kept = json.loads(failed.message or "{}")
        words = [*map(json.dumps, kept.get("args", ()))]
        words += [f"{name}={json.dumps(value)}" for name, value in kept.get("kwargs", {}).items()]
        return ", ".join(words) or "-"

    @admin.action(description="Run the selected tasks again", permissions=["run_again"])
    def run_again(self, request: HttpRequest, queryset: QuerySet[FailedTask]) -> None:
        """Send each task again, with the same arguments and a new id. Its row stays."""
        for failed in queryset.order_by("failed_at"):
            try:
                sent = run_again(failed, request.user)
            except (OperationalError, ValueError) as error:
                self.message_user(request, f"Not sent: {failed}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"Sent {failed.name} again, as {sent}.")

    def has_run_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("pipeline_failed.run_again")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: FailedTask | None = None) -> bool:
        return False
