"""Tasks that write a line for each event to a file, outside of broker and database."""

import socket
import time
from pathlib import Path

from celery import current_task, shared_task
from django.db import OperationalError

from apps.users.models import User

LEDGER = Path("/ledger")
VERSION = "first"


def note(event: str, what: object) -> None:
    """Write a line with time, host and text. Several processes can write whole lines."""
    with (LEDGER / event).open("a") as lines:
        lines.write(f"{time.time()} {socket.gethostname()} {what}\n")


@shared_task
def work(number: int, seconds: float = 0.02) -> None:
    """Run for some time."""
    note("started", number)
    time.sleep(seconds)
    note("done", number)


@shared_task
def hold(number: int) -> None:
    """Run until the test releases the task."""
    note("started", number)
    while not (LEDGER / "released").exists():
        time.sleep(0.1)
    note("done", number)


@shared_task(autoretry_for=[OperationalError], default_retry_delay=1, max_retries=60)
def count_users(number: int) -> None:
    """Use the database."""
    User.objects.count()
    note("done", number)


@shared_task
def tick() -> None:
    """Beat sends this task each second."""
    note("ticks", current_task.request.id)


@shared_task
def version() -> None:
    """Write which version of the code runs."""
    note("versions", VERSION)
