"""One task followed through the pipeline, with the time that each leg took."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import Task, current_app, uuid
from celery.result import AsyncResult

ENDS = {"task-succeeded", "task-failed", "task-rejected", "task-revoked"}


@dataclass(frozen=True)
class Leg:
    """A part of the way, and how long it took in milliseconds."""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class Trace:
    """What became of a task, and the legs it got through."""

    ok: bool
    outcome: str
    legs: list[Leg]


def trace(task: "Task[Any, Any]", *args: object, timeout: float = 15) -> Trace:
    """Send the task, watch what client and worker report of it, and fetch its result.

    The timeout is in seconds. Times are those of the machines that report: across machines they
    are as good as their clocks agree. Call `status.broker()` first: this waits for the broker.
    """
    task_id = uuid()
    times: dict[str, float] = {}
    last: dict[str, Any] = {}

    def note(event: dict[str, Any]) -> None:
        if event.get("uuid") == task_id:
            times.setdefault(event["type"], event["timestamp"])
            last.update(event)

    with current_app.connection_for_read() as link:
        receiver = current_app.events.Receiver(link, handlers={"*": note})
        with receiver.consumer_context(wakeup=False) as (channel_link, _, _):
            with suppress(TimeoutError):  # Redis listens from the first look on
                channel_link.drain_events(timeout=0.2)
            times["clicked"] = time.time()
            result = task.apply_async(args, task_id=task_id)
            deadline = time.monotonic() + timeout
            while not ENDS & times.keys() and time.monotonic() < deadline:
                with suppress(TimeoutError):
                    channel_link.drain_events(timeout=0.2)

    if "task-succeeded" in times:
        ok, outcome = True, _fetch(result, last, times)
    elif ENDS & times.keys():
        ok, outcome = False, str(last.get("exception", f"{last['type']}: see the worker's log"))
    elif "task-received" in times:
        ok, outcome = False, f"A worker has it, and was not done with it after {timeout:.0f} s."
    else:
        ok, outcome = False, f"The broker has it, and no worker took it within {timeout:.0f} s."
    return Trace(ok, outcome, _legs(times))


def _fetch(result: "AsyncResult[Any]", event: dict[str, Any], times: dict[str, float]) -> str:
    if current_app.conf.result_backend == "disabled://":
        return f"{event['result']} (as the worker reports it: no result backend is set)"
    value = result.get(timeout=5)
    times["fetched"] = time.time()
    return str(value)


def _legs(times: dict[str, float]) -> list[Leg]:
    ways = [
        ("web to broker", "clicked", "task-sent"),
        ("broker to worker", "task-sent", "task-received"),
        ("wait for a free process", "task-received", "task-started"),
        ("the task itself", "task-started", "task-succeeded"),
        ("result back to web", "task-succeeded", "fetched"),
    ]
    return [
        Leg(name, max(0.0, times[end] - times[start]) * 1000)
        for name, start, end in ways
        if start in times and end in times
    ]
