from django.db import models
from django.utils import timezone


class Reason(models.TextChoices):
    ERROR = "error", "error"
    TIME_LIMIT = "time limit", "time limit"
    KILLED = "killed", "process was killed"
    UNKNOWN = "unknown", "unknown task"
    UNREADABLE = "unreadable", "unreadable message"
    REVOKED = "revoked", "revoked"
    EXPIRED = "expired", "expired"


class FailedTask(models.Model):
    """A task that failed and will not be retried."""

    task_id = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255)
    reason = models.CharField(max_length=16, choices=Reason)
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    # The arguments and options of a new message, in kombu's JSON. Empty if it cannot run again.
    message = models.TextField(blank=True)
    obstacle = models.CharField(max_length=255, blank=True)  # why it cannot run again
    queue = models.CharField(max_length=255, blank=True)
    worker = models.CharField(max_length=255, blank=True)
    attempts = models.PositiveIntegerField(default=1)
    failed_at = models.DateTimeField(default=timezone.now, db_index=True)
    run_again_as = models.CharField(max_length=255, blank=True)  # the id of the new task
    run_again_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "failed task"
        ordering = ("-failed_at", "-pk")
        permissions = (("run_again", "Can run failed tasks again"),)

    def __str__(self) -> str:
        return f"{self.name}[{self.task_id}]"
