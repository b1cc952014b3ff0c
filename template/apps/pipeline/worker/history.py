"""The last tasks of this worker, which the page asks for.

Celery passes each event of a task to the worker's dispatcher, even if events are not sent to the
broker. So the page works without events in the broker. A record takes some microseconds.
"""

import time
from collections import deque
from typing import Any

from celery.events.dispatcher import EventDispatcher
from celery.signals import task_received

from apps.pipeline.logs.ids import ADMIN_SCHEDULE, SCHEDULE, SENT_AT

DONE = 50  # the last tasks that have ended
UNDER_WAY = 500  # tasks that have not ended, for example because they wait for their ETA
TEXT = 3000  # characters of a result, an error or a traceback

ENDS = {"task-succeeded", "task-failed", "task-retried", "task-rejected", "task-revoked"}

# The attempts of each task. The next one can arrive before the end of this one is known.
under_way: dict[str, list[dict[str, Any]]] = {}
done: deque[dict[str, Any]] = deque(maxlen=DONE)


class Dispatcher(EventDispatcher):
    """Celery's dispatcher of events, which notes those of tasks before it sends or drops them."""

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002 - Celery's name
        if type == "task-started" or type in ENDS:
            note(type, fields)
        return super().send(type, *args, **fields)


@task_received.connect
def received(request: Any, **kwargs: Any) -> None:
    """Begin the record of a task. A task that is retried has a record for each attempt."""
    headers = request.request_dict
    sent_at = headers.get(SENT_AT)
    events = [("sent", sent_at)] if isinstance(sent_at, float) else []
    record = {
        "id": request.id,
        "name": request.name,
        "arguments": request.argsrepr,
        "keywords": request.kwargsrepr,
        "retries": headers.get("retries") or 0,
        "parent": request.parent_id,
        "root": request.root_id,
        "group": request.group,
        "schedule": headers.get(SCHEDULE) or headers.get(ADMIN_SCHEDULE),
        "events": [*events, ("received", time.time())],
    }
    others = [one for one in under_way.get(request.id, ()) if one["retries"] != record["retries"]]
    under_way[request.id] = [*others, record]
    if len(under_way) > UNDER_WAY:
        under_way.pop(next(iter(under_way)), None)


def note(event: str, fields: dict[str, Any]) -> None:
    """Add an event to the record of its task. If it ends this attempt, keep its outcome."""
    attempts = under_way.get(fields["uuid"])
    if not attempts:
        return
    record = attempts[0]
    record["events"].append((event.removeprefix("task-"), time.time()))
    if event in ENDS:
        attempts.remove(record)
        if not attempts:
            under_way.pop(record["id"], None)
        outcome = fields.get("result", fields.get("exception", ""))
        record["outcome"] = str(outcome)[:TEXT]
        record["traceback"] = str(fields.get("traceback") or "")[-TEXT:]
        done.append(record)


def last() -> tuple[str, float] | None:
    """The name of the task that ended last, and when, as a Unix time."""
    return (done[-1]["name"], done[-1]["events"][-1][1]) if done else None


def latest() -> list[dict[str, Any]]:
    """The records of the tasks that have ended, and of the newest that have not."""
    waiting = [record for attempts in [*under_way.values()][-DONE:] for record in attempts]
    return [*done, *waiting]
