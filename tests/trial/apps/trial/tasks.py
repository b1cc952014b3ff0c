"""Tasks that leave a trace outside of broker and database: a line for each event."""

import socket
import time
from pathlib import Path

from apps.users.models import User
from celery import current_task, shared_task
from django.db import OperationalError

LEDGER = Path("/ledger")
VERSION = "first"


def note(event: str, what: object) -> None:
    """Add a line that says when, where and what; whole lines, from however many processes."""
    with (LEDGER / event).open("a") as lines:
        lines.write(f"{time.time()} {socket.gethostname()} {what}\n")


@shared_task
def work(number: int, seconds: float = 0.02) -> None:
    """Take a while."""
    note("started", number)
    time.sleep(seconds)
    note("done", number)


@shared_task
def hold(number: int) -> None:
    """Run until the test lets go."""
    note("started", number)
    while not (LEDGER / "released").exists():
        time.sleep(0.1)
    note("done", number)


@shared_task(autoretry_for=[OperationalError], default_retry_delay=1, max_retries=60)
def count_users(number: int) -> None:
    """Need the database."""
    User.objects.count()
    note("done", number)


@shared_task
def tick() -> None:
    """What Beat sends each second."""
    note("ticks", current_task.request.id)


@shared_task
def version() -> None:
    """Say which code runs."""
    note("versions", VERSION)
