"""Tasks that record their runs outside of the broker: a file for each, with a line for each run."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import current_task, shared_task
from celery.worker.control import control_command
from django.contrib.auth import get_user_model
from django.db import OperationalError

RECORDS = Path(os.environ["FAULTS_RECORDS"])


def record(kind: str, name: object) -> Path:
    """Add a line to a task's file. Return its path."""
    directory = RECORDS / kind
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / str(name)
    with file.open("a") as lines:
        lines.write(f"{time.time()} {os.getpid()}\n")
    return file


@shared_task
def work(number: int, seconds: float = 0.02) -> int:
    """Run for some time. While it runs, a file has the id of its process."""
    running = record("running", os.getpid())
    time.sleep(seconds)
    record("done", number)
    running.unlink(missing_ok=True)
    return number


@shared_task
def hold(number: int) -> None:
    """Run until the test releases it."""
    running = record("running", os.getpid())
    while not (RECORDS / "released").exists():
        time.sleep(0.1)
    record("done", number)
    running.unlink(missing_ok=True)


@shared_task(ignore_result=True)
def no_op(number: int) -> None:
    """Return at once."""
    record("done", number)


@shared_task(autoretry_for=[OperationalError], default_retry_delay=1, max_retries=60)
def count_users(number: int) -> int:
    """Use the database."""
    users = get_user_model().objects.count()
    record("done", number)
    return users


@shared_task(bind=True, default_retry_delay=1)
def second_try(self: Any, number: int) -> None:
    """Fail at first, and succeed when it is retried."""
    if not self.request.retries:
        raise self.retry()
    record("done", number)


@shared_task
def refuse(number: int) -> None:
    """Fail at once."""
    raise ValueError(number)


@shared_task(default_retry_delay=1)
def poison(number: int) -> None:
    """Kill the process that runs it, each time."""
    record("poison", number)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
def tick() -> None:
    """Beat sends this task each second."""
    record("ticks", current_task.request.id)


@control_command()
def hang(state: Any) -> None:
    """Block the worker's event loop. The process continues to run."""
    time.sleep(3600)


@control_command()
def stop_consuming(state: Any) -> None:
    """Stop taking messages. The event loop continues to run."""
    state.consumer.task_consumer.cancel()
