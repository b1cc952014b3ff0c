"""The declared queues: how many messages wait, for how long, and which workers consume them."""

import time
from dataclasses import dataclass
from typing import Any

from celery import current_app

from apps.pipeline.broker import consumers
from apps.pipeline.broker.backlog import Backlog, backlog
from apps.pipeline.broker.queues import declared
from apps.pipeline.liveness import heartbeat
from apps.pipeline.status.parts import Part

NO_CONSUMER = "which no worker consumes"

# The reasons why the age of messages is not known.
AGE_UNKNOWN = {
    "amqp": "The age of messages is not known on RabbitMQ.",
    "redis": "The age of messages that other programs sent is not known.",
    "sqs": "Only CloudWatch knows the age of messages: ApproximateAgeOfOldestMessage.",
}


@dataclass(frozen=True)
class Queue:
    """A declared queue, and whether a worker consumes it (None: not known)."""

    name: str
    backlog: Backlog
    consumed: bool | None
    consumers: str  # in words

    def __str__(self) -> str:
        age = ""
        if self.backlog.oldest_sent_at is not None:
            age = f"the oldest for {duration(time.time() - self.backlog.oldest_sent_at)}"
        waiting = f"{self.backlog.messages} waiting in {self.name}"
        return ", ".join(filter(None, [waiting, age, self.consumers]))


def waiting() -> tuple[str, list[Queue]]:
    """The broker's kind and the declared queues. Call this only if the broker answers."""
    on_this_machine = heartbeat.lines("worker")
    consumed: bool | None
    found = []
    connection: Any = current_app.connection_for_read()
    with connection:
        kind: str = connection.transport.driver_type
        names = consumers.by_queue(connection)
        for name in declared(current_app.conf):
            seen = backlog(connection, name)
            if names is not None:
                consumed, words = bool(names.get(name)), named(names.get(name, []))
            elif seen.consumers is not None:
                consumed, words = seen.consumers > 0, counted(seen.consumers)
            else:
                consumed, words = presumed(seen, name in on_this_machine)
            found.append(Queue(name, seen, consumed, words))
    return kind, found


def queues() -> Part:
    """Do workers consume the queues with messages? Call this only if the broker answers."""
    return as_part(*waiting())


def as_part(kind: str, found: list[Queue]) -> Part:
    """The status of the queues that `waiting` has found."""
    words = "; ".join(map(str, found)) or "no queue"
    if any(queue.backlog.messages and queue.backlog.oldest_sent_at is None for queue in found):
        words = " ".join(filter(None, [f"{words}.", AGE_UNKNOWN.get(kind)]))
    abandoned = [queue for queue in found if queue.backlog.messages and queue.consumed is False]
    return Part("queues", not abandoned, words)


def named(workers: list[str]) -> str:
    """The workers that consume a queue, on a broker that knows their names."""
    if not workers:
        return NO_CONSUMER
    first, *others = sorted(workers)
    if not others:
        return f"which {first} consumes"
    return f"which {first} and {others[0] if len(others) == 1 else f'{len(others)} more'} consume"


def counted(workers: int) -> str:
    """The number of workers that consume a queue, on a broker that counts them."""
    if not workers:
        return NO_CONSUMER
    return "which 1 worker consumes" if workers == 1 else f"which {workers} workers consume"


def presumed(seen: Backlog, on_this_machine: bool) -> tuple[bool | None, str]:
    """Whether a worker consumes a queue, and a text, on a broker that does not know workers.

    If messages wait and no message is taken, no worker on another machine consumes the queue.
    """
    if on_this_machine:
        return True, "which a worker on this machine consumes"
    if seen.messages and seen.in_flight == 0:
        return False, "which probably no worker consumes"
    return None, ""


def duration(seconds: float) -> str:
    """Seconds in one unit, rounded: 40 s, 5 min, 3 h, 2 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
