"""The last tasks of this worker, which the page asks for.

Both signals are sent even if the worker sends no events to the broker. A record takes some
microseconds.
"""

import time
from collections import deque
from typing import Any

from celery.signals import task_received

from apps.pipeline.logs.ids import ADMIN_SCHEDULE, SCHEDULE, SENT_AT
from apps.pipeline.signals import task_event

DONE = 50  # the last tasks that have ended
UNFINISHED = 500  # tasks that have not ended, for example because they wait for their ETA
TEXT = 3000  # characters of a result, an error or a traceback

ENDS = {"task-succeeded", "task-failed", "task-retried", "task-rejected", "task-revoked"}

# The attempts of each task. The next one can arrive before the end of this one is known.
unfinished: dict[str, list[dict[str, Any]]] = {}
done: deque[dict[str, Any]] = deque(maxlen=DONE)


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
    others = [one for one in unfinished.get(request.id, ()) if one["retries"] != record["retries"]]
    unfinished[request.id] = [*others, record]
    if len(unfinished) > UNFINISHED:
        unfinished.pop(next(iter(unfinished)), None)


@task_event.connect
def note(sender: str, request: Any, fields: dict[str, Any], **kwargs: Any) -> None:
    """Add an event to the record of its task. If it ends this attempt, keep its outcome."""
    attempts = unfinished.get(request.id)
    if not attempts or not (sender == "task-started" or sender in ENDS):
        return
    record = attempts[0]
    record["events"].append((sender.removeprefix("task-"), time.time()))
    if sender in ENDS:
        attempts.remove(record)
        if not attempts:
            unfinished.pop(record["id"], None)
        outcome = fields.get("result", fields.get("exception", ""))
        record["outcome"] = str(outcome)[:TEXT]
        record["traceback"] = str(fields.get("traceback") or "")[-TEXT:]
        done.append(record)


def last() -> tuple[str, float] | None:
    """The name of the task that ended last, and when, as a Unix time."""
    return (done[-1]["name"], done[-1]["events"][-1][1]) if done else None


def latest() -> list[dict[str, Any]]:
    """The records of the tasks that have ended, and of the newest that have not."""
    waiting = [record for attempts in [*unfinished.values()][-DONE:] for record in attempts]
    return [*done, *waiting]
