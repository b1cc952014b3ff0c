"""The latest tasks: when each was sent, received and started, how it ended, and its relatives."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from celery import current_app, states
from django.apps import apps
from django.db.models.functions import Left

from apps.pipeline.status.parts import Part
from apps.pipeline.status.trace import Step, Trace, traced
from apps.pipeline.status.workers import Worker
from apps.pipeline.worker.history import TEXT

SHOWN = 50  # tasks

WORDS = {
    "sent": "sent to the broker",
    "received": "taken by the worker",
    "started": "started in a process",
    "succeeded": "finished",
    "failed": "failed",
    "retried": "failed, and sent again for the next attempt",
    "rejected": "rejected",
    "revoked": "revoked",
}
OK = {"succeeded": True, "failed": False, "rejected": False, "revoked": False}
LABELS = {"keywords": "keyword arguments"}  # of details, if not the key of the record
STATES = {"sent": "waits", "received": "waits", "started": "runs", "retried": "retries"}


@dataclass(frozen=True)
class Moment:
    """An event of a task, and the milliseconds since the event before it, if there is one."""

    words: str
    at: datetime
    milliseconds: float | None


@dataclass(frozen=True)
class Recent:
    """A task that was sent. None means not known."""

    task_id: str
    name: str
    ok: bool | None
    state: str
    at: datetime
    outcome: str
    took: float | None = None  # milliseconds in a process, in the last attempt
    retries: int | None = None
    history: tuple[Moment, ...] = ()
    steps: tuple[Step, ...] = ()  # if the button has sent it
    details: tuple[tuple[str, str], ...] = ()
    relatives: tuple[tuple[str, str, str], ...] = ()  # relation, id and name


def recent(known_workers: list[Worker] | None, database: Part) -> list[Recent]:
    """The latest tasks that the workers, the database with results and the button know."""
    found = {seen.task_id: _followed(seen) for seen in list(traced)}
    found |= {row.task_id: _stored(row) for row in _rows(database)}
    found |= {one.task_id: one for one in by_workers(known_workers or ())}
    shown = sorted(found.values(), key=lambda one: one.at, reverse=True)
    return shown[:SHOWN]


def by_workers(known_workers: Iterable[Worker]) -> list[Recent]:
    """The tasks in the records of the workers. Each attempt can have run in another worker."""
    attempts: dict[str, list[dict[str, Any]]] = {}
    for worker in known_workers:
        for record in worker.tasks:
            attempts.setdefault(record["id"], []).append(record | {"worker": worker.name})
    children: dict[str, list[dict[str, Any]]] = {}
    for records in attempts.values():
        records.sort(key=lambda record: record["retries"])
        last = records[-1]
        if (last["parent"] or last["id"]) != last["id"]:  # the parent of a retry is the task itself
            children.setdefault(last["parent"], []).append(last)
    return [_recorded(records, attempts, children) for records in attempts.values()]


def _recorded(
    records: list[dict[str, Any]],
    attempts: dict[str, list[dict[str, Any]]],
    children: dict[str, list[dict[str, Any]]],
) -> Recent:
    last = records[-1]
    events: list[tuple[str, float]] = []
    for record in records:
        for name, at in record["events"]:
            if name != "sent" or not events:  # "retried" says that it was sent again
                events.append((name, float(at)))
    events.sort(key=lambda event: event[1])
    name = last["events"][-1][0]
    ended = float(last["events"][-1][1])
    started = max((at for event, at in events if event == "started"), default=None)
    took = (ended - started) * 1000 if started is not None and name not in STATES else None
    relatives = [("child", one["id"], one["name"]) for one in children.get(last["id"], ())]
    parents = [record["parent"] for record in records]
    parent = next((one for one in parents if one and one != last["id"]), "")
    if parent:
        known = attempts.get(parent, [{"name": ""}])[0]
        relatives.insert(0, ("parent", parent, known["name"]))
    details = ("arguments", "keywords", "worker", "schedule", "group", "traceback")
    return Recent(
        last["id"],
        last["name"],
        OK.get(name),
        STATES.get(name, name),
        _time(ended),
        last.get("outcome", ""),
        took,
        last["retries"],
        _history(events),
        details=tuple((LABELS.get(key, key), str(last[key])) for key in details if last.get(key)),
        relatives=tuple(relatives),
    )


def _history(events: list[tuple[str, float]]) -> tuple[Moment, ...]:
    """The events in words. Clocks of two machines can differ, so a time is at least 0."""
    gaps = [None, *(max(0.0, until - since) * 1000 for (_, since), (_, until) in pairwise(events))]
    return tuple(
        Moment(WORDS.get(name, name), _time(at), gap)
        for (name, at), gap in zip(events, gaps, strict=True)
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _followed(one: Trace) -> Recent:
    state = {True: "succeeded", False: "failed", None: "runs"}[one.ok]
    took, steps = one.milliseconds, tuple(one.steps)
    return Recent(
        one.task_id, one.name, one.ok, state, one.at, one.outcome, took, one.retries, steps=steps
    )


def _rows(database: Part) -> list[Any]:
    in_database = str(current_app.conf.result_backend).startswith("django-db")
    if not (in_database and database.ok and apps.is_installed("django_celery_results")):
        return []
    from django_celery_results.models import TaskResult

    # They can be long, so the database cuts them.
    texts = ("result", "task_args", "task_kwargs", "traceback")
    rows = TaskResult.objects.defer("meta", *texts).order_by("-date_done")[:SHOWN]
    return [*rows.annotate(**{f"shown_{name}": Left(name, TEXT) for name in texts})]


def _stored(row: Any) -> Recent:
    details = {
        "arguments": row.shown_task_args,
        LABELS["keywords"]: row.shown_task_kwargs,
        "worker": row.worker,
        "schedule": row.periodic_task_name,
        "traceback": row.shown_traceback,
    }
    return Recent(
        row.task_id,
        row.task_name or "a task whose name is not stored",
        {states.SUCCESS: True, states.FAILURE: False}.get(row.status),
        {states.SUCCESS: "succeeded", states.FAILURE: "failed"}.get(row.status, row.status.lower()),
        row.date_done,
        str(row.shown_result),
        details=tuple((name, text) for name, text in details.items() if text),
    )
