"""Tasks as a user writes them; a file notes what they return, also where no result is kept."""

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
    """Fail at first; return how many retries it took."""
    if not self.request.retries:
        raise self.retry(countdown=1)
    return self.request.retries


@shared_task(bind=True)
def nap(self: "Task[Any, Any]", seconds: float) -> None:
    """Note the end itself: Celery's signal comes only when the result could be stored."""
    time.sleep(seconds)
    note(self, None)


@shared_task
def echo(word: str) -> str:
    return word


@task_success.connect
def note(sender: "Task[Any, Any]", result: object, **kwargs: object) -> None:
    line = json.dumps([sender.request.id, sender.name, result, time.time()])
    with Path(os.environ["PROBE_NOTES"]).open("a") as notes:
        notes.write(f"{line}\n")
