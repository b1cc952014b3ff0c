"""Sends a task through the pipeline, and measures how long each step takes."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from celery import Task, current_app, uuid
from celery.exceptions import TimeoutError as NoResultError
from celery.result import AsyncResult

from apps.pipeline.outbox.direct import directly
from apps.pipeline.status.events import events
from apps.pipeline.status.parts import Part
from apps.pipeline.tasks import ping

FINAL_EVENTS = {"task-succeeded", "task-failed", "task-rejected", "task-revoked"}
NO_RESULT_BACKEND = (None, "disabled://")

# The part of the picture that has the task after an event, and the step that begins then.
STEPS = {
    "clicked": ("web", "web to broker"),
    "task-sent": ("broker", "broker to worker"),
    "task-received": ("worker", "wait for a free process"),
    "task-started": ("worker", "run the task"),
    "task-retried": ("broker", "wait for the next attempt"),
    "not reported": ("", "broker, worker and back, without events"),
    **dict.fromkeys(FINAL_EVENTS, ("results", "return the result to web")),
    "fetched": ("web", ""),
}


def round_trip(timeout: float) -> Part | None:
    """Send a task and fetch its result within `timeout` seconds. None without a result backend."""
    if current_app.conf.task_always_eager:
        words = "tasks run in this process: CELERY_TASK_ALWAYS_EAGER is on"
        return Part("round trip", False, words)
    if current_app.conf.result_backend in NO_RESULT_BACKEND:
        return None
    started = time.monotonic()
    with directly():
        result = ping.apply_async(expires=timeout)
    try:
        result.get(timeout=timeout)
    except NoResultError:
        return Part("round trip", False, f"a task has no result after {timeout:.0f} s")
    except Exception as error:  # the result backend's own errors, of many kinds
        return Part("round trip", False, f"the result backend fails: {error}")
    took = (time.monotonic() - started) * 1000
    result.forget()
    return Part("round trip", True, f"a task was sent, run and answered in {took:.0f} ms")


@dataclass(frozen=True)
class Step:
    """A step between two events of a task, and its duration in milliseconds."""

    name: str
    milliseconds: float


@dataclass
class Trace:
    """A task, its events so far, and its outcome; `ok` is None until it has one."""

    name: str
    task_id: str = ""
    ok: bool | None = None
    outcome: str = "on its way"
    events: list[tuple[str, float]] = field(default_factory=list)

    @property
    def steps(self) -> list[Step]:
        """The completed steps. Clocks of two machines can differ, so a time is at least 0."""
        return [
            Step(STEPS[event][1], max(0.0, until - since) * 1000)
            for (event, since), (_, until) in pairwise(self.events)
        ]

    @property
    def step(self) -> str:
        """The step that the task is in."""
        return STEPS[self.events[-1][0]][1]

    @property
    def place(self) -> str:
        """The part of the picture that has the task; empty if it is not known."""
        return STEPS[self.events[-1][0]][0] if self.events else ""

    @property
    def retries(self) -> int:
        return [name for name, _ in self.events].count("task-retried")

    @property
    def milliseconds(self) -> float:
        return sum(step.milliseconds for step in self.steps)

    @property
    def at(self) -> datetime:
        """When the task was sent."""
        return datetime.fromtimestamp(self.events[0][1], UTC)


traced: deque[Trace] = deque(maxlen=50)
"""The latest tasks that this process has traced; the newest is first."""


def follow(task: "Task[Any, Any]", *args: object, timeout: float = 15) -> Iterator[Trace]:
    """Send the task, and yield its trace after each event. At the end it has the outcome.

    The timeout is in seconds. Each time comes from the clock of the machine that sent the event.
    By default production sends no events, and then the steps in the worker are not known. Call this
    only if the broker answers.
    """
    seen = Trace(task.name, uuid())
    try:
        yield from _follow(seen, task, args, timeout)
    finally:
        if seen.ok is None:
            seen.outcome = "was not followed to its end"


def _follow(
    seen: Trace, task: "Task[Any, Any]", args: tuple[object, ...], timeout: float
) -> Iterator[Trace]:
    news: list[dict[str, Any]] = []
    last: dict[str, Any] = {}
    silent = 0

    def note(event: dict[str, Any]) -> None:
        if event.get("uuid") == seen.task_id and event["type"] in STEPS:
            news.append(event)

    with events(note) as wait:
        wait()  # on Redis this starts the subscription
        clicked = time.time()
        with directly():
            result = task.apply_async(args, task_id=seen.task_id)
        seen.events += [("clicked", clicked), ("task-sent", time.time())]
        traced.appendleft(seen)
        yield seen
        deadline = time.monotonic() + timeout
        while not FINAL_EVENTS & {last.get("type")} and time.monotonic() < deadline:
            if not wait():
                silent += not last and _is_stored(result)
                if silent > 2:  # the events of a busy worker can be late
                    break
            while news:
                event = news.pop(0)
                if event["type"] == "task-sent":
                    seen.events[1] = ("task-sent", event["timestamp"])
                    continue
                last = event
                seen.events.append((last["type"], last["timestamp"]))
                yield seen
    _conclude(seen, result, last, timeout)
    yield seen


def _is_stored(result: "AsyncResult[Any]") -> bool:
    return current_app.conf.result_backend not in NO_RESULT_BACKEND and result.ready()


def _conclude(
    seen: Trace, result: "AsyncResult[Any]", last: dict[str, Any], timeout: float
) -> None:
    event = seen.events[-1][0]
    if event == "task-succeeded" or (event == "task-sent" and _is_stored(result)):
        if not last:
            seen.events[-1] = ("not reported", seen.events[-1][1])
        seen.ok, seen.outcome = _fetch(result, last)
        seen.events.append(("fetched", time.time()))
        return
    seen.ok = False
    if event in FINAL_EVENTS:
        seen.outcome = str(last.get("exception", f"{event}: see the worker's log"))
    elif event == "task-sent":
        took = "reported" if current_app.conf.result_backend in NO_RESULT_BACKEND else "took"
        seen.outcome = f"The task is in the broker. No worker {took} it within {timeout:.0f} s."
    else:
        seen.outcome = f"A worker has the task, and did not finish it within {timeout:.0f} s."


def _fetch(result: "AsyncResult[Any]", last: dict[str, Any]) -> tuple[bool, str]:
    if current_app.conf.result_backend in NO_RESULT_BACKEND:
        return True, f"{last['result']} (as the worker reports it: no result backend is set)"
    value = result.get(timeout=5, propagate=False)
    return not result.failed(), repr(value) if result.failed() else str(value)
