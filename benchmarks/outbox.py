"""Measures the outbox: the latency of a transaction that sends a task, and a backlog that is sent.

uv run benchmarks/outbox.py                  on a PostgreSQL and a Valkey of its own
uv run benchmarks/outbox.py --sqlite

The transactions with and without the outbox are run in turn, in the process of one client.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

TEMPLATE = Path(__file__).resolve().parent.parent / "template"
sys.path.insert(0, str(TEMPLATE))

from apps.pipeline.broker.embedded import end_with_parent  # noqa: E402
from tests.faults.servers import PostgreSQL, Valkey  # noqa: E402


def start(stack: ExitStack, sqlite: bool) -> None:
    """Start the servers, and Django with the outbox."""
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="outbox-")))
    directory.chmod(0o755)
    broker = stack.enter_context(Valkey(directory / "broker"))
    if sqlite:
        database = f"sqlite:///{directory / 'db.sqlite3'}"
    else:
        database = stack.enter_context(PostgreSQL(directory / "database")).url
    os.environ |= {
        "CELERY_BEAT_SCHEDULER": "file",
        "CELERY_BROKER_URL": broker.url,
        "CELERY_RESULT_BACKEND": broker.url,
        "DATABASE_URL": database,
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
        "DJANGO_ALLOWED_HOSTS": "localhost",
        "DJANGO_SECRET_KEY": "only-for-this-benchmark-fifty-characters-and-more",
        "LOG_LEVEL": "ERROR",
        "TASK_OUTBOX": "on",
        "TIME_ZONE": "UTC",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


@contextmanager
def worker() -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-q", "-A", "config", "worker", "-c", "1"]
    process = subprocess.Popen(
        end_with_parent(command),
        cwd=TEMPLATE,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def transaction_with_task() -> tuple[float, float]:
    """Seconds until a transaction that sends a task is over, and until its result is there."""
    from celery.result import AsyncResult
    from django.contrib.auth.models import Group
    from django.db import transaction

    from apps.pipeline.tasks import ping

    task_id, began = str(uuid4()), time.perf_counter()
    with transaction.atomic():
        Group.objects.create(name=task_id)
        ping.apply_async_on_commit(task_id=task_id)
    sent = time.perf_counter() - began
    AsyncResult(task_id).get(timeout=60)
    return sent, time.perf_counter() - began


def latency(count: int) -> None:
    from django.conf import settings

    times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for number in range(2 * count + 100):
        settings.TASK_OUTBOX = bool(number % 2)
        seconds = transaction_with_task()
        if number >= 100:  # warm
            times[settings.TASK_OUTBOX].append(seconds)
    for place, what in enumerate(("of the transaction", "until the result")):
        without, through = (
            1000 * median(seconds[place] for seconds in times[used]) for used in (False, True)
        )
        print(f"| {what}, without the outbox, p50, ms | {without:.2f} |")
        print(f"| {what}, with the outbox, p50, ms | {through:.2f} |")
        print(f"| {what}, ratio | {through / without:.2f} |")


def backlog(count: int) -> None:
    from celery import current_app
    from django.conf import settings
    from django.db import connection, transaction
    from django.utils import timezone

    from apps.pipeline.outbox import publishing
    from apps.pipeline.outbox.models import Message
    from apps.pipeline.outbox.relay import relay
    from apps.pipeline.tasks import ping

    settings.TASK_OUTBOX = True
    with transaction.atomic():
        ping.delay()
        sample = Message.objects.get()
        sample.delete()
    fields = {"name": sample.name, "record": sample.record, "due_at": timezone.now()}
    for first in range(0, count, 1000):
        chunk = range(first, min(first + 1000, count))
        Message.objects.bulk_create(Message(task_id=str(number), **fields) for number in chunk)
    held: list[float] = []
    claim = publishing.claim

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return claim(*arguments)
        finally:
            held.append(time.perf_counter() - began)

    publishing.claim = timed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, ticks = time.monotonic(), 1
    while relay(current_app._get_current_object()):
        ticks += 1
    seconds = time.monotonic() - began
    if left := Message.objects.count():
        sys.exit(f"{left} tasks are left")
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"| backlog of {count:,} tasks, s | {seconds:.0f} |")
    print(f"| tasks per second | {count / seconds:,.0f} |")
    print(f"| ticks of Beat, of 1 s | {ticks} |")
    print(f"| longest transaction, ms | {1000 * max(held):.0f} |")
    print(f"| memory more at the peak, MiB | {more:.0f} |")
    print(f"| database | {connection.vendor} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sqlite", action="store_true", help="use SQLite, not PostgreSQL")
    parser.add_argument("--transactions", type=int, default=1000)
    parser.add_argument("--backlog", type=int, default=100_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        start(stack, arguments.sqlite)
        print("| measured | |\n|---|---|")
        with worker():
            latency(arguments.transactions)
        backlog(arguments.backlog)


if __name__ == "__main__":
    main()
