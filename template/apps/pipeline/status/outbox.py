"""The outbox: how many tasks wait, for how long, and why."""

from dataclasses import dataclass

from django.utils import timezone

from apps.pipeline.status.parts import Part
from apps.pipeline.status.queues import duration

# Seconds that a task may wait. If its own process does not send it, Beat's leader does in 15 s.
LIMIT = 60


@dataclass(frozen=True)
class Outbox:
    waiting: int
    oldest: float  # seconds
    error: str

    @property
    def part(self) -> Part:
        if not self.waiting:
            return Part("outbox", True, "nothing waits")
        words = f"{self.waiting} waiting, the oldest for {duration(self.oldest)}"
        return Part("outbox", self.oldest < LIMIT, ": ".join(filter(None, [words, self.error])))


def outbox() -> Outbox:
    """Read the table. Call this only if the project has one, and if the database answers."""
    from apps.pipeline.outbox.models import Message

    oldest = Message.objects.order_by("pk").first()
    failed = Message.objects.exclude(last_error="").order_by("pk").first()
    if oldest is None:
        return Outbox(0, 0, "")
    age = (timezone.now() - oldest.created_at).total_seconds()
    return Outbox(Message.objects.count(), age, failed.last_error if failed else "")


def part() -> Part:
    return outbox().part
