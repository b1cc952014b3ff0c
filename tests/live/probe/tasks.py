"""Tasks as a user writes them. A file records their results, also without a result backend."""

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Task, shared_task
from celery.signals import task_success


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task(bind=True)
def unlucky(self: "Task[Any, Any]") -> int:
    """Fail at first. Return the number of retries."""
    if not self.request.retries:
        raise self.retry(countdown=1)
    return self.request.retries


@shared_task(bind=True)
def nap(self: "Task[Any, Any]", seconds: float) -> None:
    """Record the end, because Celery sends its signal only if the result could be stored."""
    time.sleep(seconds)
    note(self, None)


@shared_task(bind=True)
def stay(self: "Task[Any, Any]", directory: str) -> str:
    """Create a file when the task starts, and run until the test creates another file."""
    worker = str(self.request.hostname)
    Path(directory, f"{worker} runs").touch()
    while not Path(directory, f"{worker} may end").exists():
        time.sleep(0.1)
    return worker


@shared_task
def echo(word: str) -> str:
    return word


@task_success.connect
def note(sender: "Task[Any, Any]", result: object, **kwargs: object) -> None:
    line = json.dumps([sender.request.id, sender.name, result, time.time()])
    with Path(os.environ["PROBE_NOTES"]).open("a") as notes:
        notes.write(f"{line}\n")
