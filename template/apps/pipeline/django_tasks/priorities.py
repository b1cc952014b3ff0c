"""Maps the priorities of Django's Tasks API to Celery's, for each broker.

Django's are -100 to 100, and the highest is first. 0 means the project's default priority, which
all other tasks have.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

from apps.pipeline.broker.errors import listed

REDIS = (0, 3, 6, 9)  # kombu's `priority_steps`
QUORUM = (5, 0)  # RabbitMQ 4.0 knows high and normal


def levels(app: Any, queue: str) -> Sequence[int]:
    """The priorities that the broker distinguishes in a queue, in the order of delivery."""
    scheme = listed(app.conf.broker_url or "")[0].partition(":")[0]
    if scheme in ("redis", "rediss", "redis+socket", "sentinel"):
        return REDIS
    arguments = app.amqp.queues[queue].queue_arguments or {}
    if scheme in ("amqp", "amqps", "pyamqp"):
        if arguments.get("x-queue-type") == "quorum":
            return QUORUM
        return range(arguments.get("x-max-priority", 0), -1, -1)
    return ()


def celery_priority(app: Any, queue: str, priority: int) -> int | None:
    """The priority of a message; None for 0. Raises LookupError if the broker has no such level."""
    if priority == 0 or str(app.conf.broker_url).startswith("memory:"):
        return None
    known = levels(app, queue)
    default = int(app.conf.task_default_priority or 0)
    place = known.index(max(level for level in known if level <= default)) if known else 0
    side = known[:place][::-1] if priority > 0 else known[place + 1 :]
    if not side:
        where, other = ("before", known[1:2]) if priority > 0 else ("after", known[-2:-1])
        hint = f" Set CELERY_TASK_DEFAULT_PRIORITY = {other[0]} for that." if other else ""
        raise LookupError(
            f"priority is {priority}, but in the queue {queue!r} the broker has no priority that "
            f"it delivers {where} the default.{hint}"
        )
    return side[ceil(abs(priority) * len(side) / 100) - 1]
