"""The workers, asked over the broker, from this machine and from others."""

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from celery import current_app
from django.conf import settings

from apps.pipeline.broker import consumers
from apps.pipeline.liveness import heartbeat
from apps.pipeline.status import parts
from apps.pipeline.status.parts import Part

ANSWER_TIMEOUT = 1  # seconds; the page takes this long if the number of workers is not known


@dataclass(frozen=True)
class Worker:
    """A worker and what it has answered. `answers` is False without a usable answer."""

    name: str
    answers: bool = False
    queues: list[str] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)  # tasks of each queue
    processes: int = 0
    prefetch: int = 0
    memory: int | None = None  # bytes
    version: str = ""
    last: tuple[str, float] | None = None  # the task that ended last, and when
    tasks: list[dict[str, Any]] = field(default_factory=list)  # see worker/history.py

    @property
    def busy(self) -> int:
        return sum(self.running.values())

    @property
    def is_other_version(self) -> bool:
        """Whether it runs other code than this process, because a deploy did not reach it."""
        return self.answers and self.version != settings.APP_VERSION

    @property
    def last_at(self) -> datetime | None:
        return datetime.fromtimestamp(self.last[1], UTC) if self.last else None


def workers(*, with_tasks: bool = False) -> list[Worker] | None:
    """All workers. Call this only if the broker answers. None if the broker cannot ask them.

    On Redis the names of the workers are known, so this waits only for one that does not answer.
    """
    connection: Any = current_app.connection_for_read()
    with connection:
        if connection.transport.driver_type == "sqs":
            return None
        known = consumers.by_queue(connection) or {}
    names = set().union(*known.values())
    found = {name: Worker(name) for name in names}
    replies = current_app.control.broadcast(
        "describe_worker",
        arguments={"with_tasks": with_tasks},
        reply=True,
        timeout=ANSWER_TIMEOUT,
        limit=len(names) or None,
    )
    known_fields = {one.name for one in fields(Worker)}
    for reply in replies or ():
        for name, answer in reply.items():
            told = {key: answer[key] for key in answer.keys() & known_fields}
            # A worker without the command answers with an error.
            found[name] = Worker(name, answers="error" not in answer, **told)
    return sorted(found.values(), key=lambda worker: worker.name)


def as_part(found: list[Worker] | None, broker: Part) -> Part:
    """Does a worker answer? If none can, the heartbeats of this machine count."""
    seen, age = parts.worker(), heartbeat.age("worker")
    if answered := [worker for worker in found or () if worker.answers]:
        busy = sum(worker.busy for worker in answered)
        processes = sum(worker.processes for worker in answered)
        many = "1 worker answers" if len(answered) == 1 else f"{len(answered)} workers answer"
        return Part("worker", True, f"{many}, {busy} of {processes} processes busy")
    if age is None and (found is None or not broker.ok):
        words = "not known: it does not run on this machine"
        return Part("worker", None, words if broker.ok else f"{words}, and the broker is down")
    if seen.ok and broker.ok and found is not None and (age or 0) > heartbeat.INTERVAL + 1:
        return Part("worker", False, f"does not answer, and had its last heartbeat {age:.0f} s ago")
    return seen
