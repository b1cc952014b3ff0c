from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

# For this time only the process that stored a message publishes it. After that, Beat may too.
GRACE_PERIOD = timedelta(seconds=10)


def after_own_time() -> datetime:
    return timezone.now() + GRACE_PERIOD


class Message(models.Model):
    """A message that the broker does not have yet."""

    task_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    key = models.CharField(max_length=255, blank=True, default="")
    record = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(default=after_own_time)  # when Beat may publish it
    last_error = models.TextField(blank=True, default="")

    class Meta:
        verbose_name = "waiting task"
        indexes = (models.Index(fields=["key", "id"], name="pipeline_outbox_key"),)

    def __str__(self) -> str:
        return f"{self.name}[{self.task_id}]"
