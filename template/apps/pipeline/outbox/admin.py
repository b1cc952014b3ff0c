from django.contrib import admin
from django.http import HttpRequest

from apps.pipeline.outbox.models import Message


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin[Message]):
    """The tasks that wait in the outbox. A task that you delete is not sent."""

    list_display = ("name", "task_id", "key", "created_at", "last_error")
    search_fields = ("=task_id", "name", "=key")
    exclude = ("record",)  # it has the arguments

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return False
