"""Is each part of the pipeline alive? What landing page, readiness probe and doctor show."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from celery import current_app
from celery.exceptions import TimeoutError as NoResultError
from celery.utils.imports import symbol_by_name
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import Error as DatabaseError
from kombu.exceptions import OperationalError

from apps.pipeline import heartbeat, takers
from apps.pipeline.queues import declared as declared_queues
from apps.pipeline.schedules import declared
from apps.pipeline.sync import sync
from apps.pipeline.task import address, reason
from apps.pipeline.tasks import ping


@dataclass(frozen=True)
class Part:
    """One part, whether it works, and that in plain words."""

    name: str
    ok: bool
    words: str


def database() -> Part:
    """Can this process reach the database?"""
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        return Part("database", False, f"does not answer: {error}")
    return Part("database", True, f"{connection.vendor} answers")


def migrations() -> Part:
    """Are the database's tables those of the code? Ask only a database that answers."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        return Part("migrations", False, f"{len(missing)} not applied, {missing[0][0]} the first")
    return Part("migrations", True, "all applied")


def broker() -> Part:
    """Can this process reach the broker?"""
    try:
        named = address(current_app.conf.broker_url)
        link: Any = current_app.connection_for_write()
    except (KeyError, ValueError):
        return Part("broker", False, "has a URL that cannot be read: see manage.py check")
    with link:
        try:
            link.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
            link.default_channel  # noqa: B018 - Redis is first spoken to when a channel opens
        except (OperationalError, *link.recoverable_connection_errors) as error:
            return Part("broker", False, f"{named} does not answer: {reason(error)}")
    return Part("broker", True, f"{named} answers")


def worker() -> Part:
    """Has a worker that this machine can see shown its heartbeat lately?"""
    return _process("worker", "ready for tasks")


def beat() -> Part:
    """Has a Beat that this machine can see ticked lately?"""
    return _process("beat", "ticked")


def queues() -> Part:
    """What waits, and whether a worker takes from it. Ask only a broker that answers."""
    words, abandoned = [], []
    for queue in waiting():
        words.append(f"{queue.messages} waiting in {queue.name}")
        if queue.taken is False:
            words[-1] += ", which no worker takes from"
            if queue.messages:
                abandoned.append(queue.name)
    return Part("queues", not abandoned, "; ".join(words) or "no queue")


@dataclass(frozen=True)
class Queue:
    """A queue of the settings, and whether a worker takes from it; None where nobody knows."""

    name: str
    messages: int
    taken: bool | None


def waiting() -> list[Queue]:
    """What waits in each queue of the settings. Ask only a broker that answers."""
    found = []
    here = heartbeat.words("worker")
    link: Any = current_app.connection_for_read()
    with link:
        everywhere = takers.taken(link)
        for name in declared_queues(current_app.conf):
            messages, consumers = 0, 0
            # A channel each, as a broker closes the one that asks for a queue nobody has made yet.
            with suppress(*link.channel_errors), link.channel() as channel:
                messages, consumers = channel.queue_declare(name, passive=True)[1:]
            if link.transport.driver_type == "amqp":
                taken: bool | None = consumers > 0
            elif everywhere is not None:
                taken = name in everywhere
            else:
                taken = name in here or None
            found.append(Queue(name, messages, taken))
    return found


def round_trip(timeout: float) -> Part | None:
    """Send a task and fetch its result; None where no result backend is set. Seconds."""
    if current_app.conf.result_backend in (None, "disabled://"):
        return None
    started = time.monotonic()
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


def leader() -> Part | None:
    """Does a Beat, on whatever machine, hold the lock? None where the scheduler has no lock.

    Asking takes a free lock for a moment: a Beat that starts in it is a second late.
    """
    scheduler = symbol_by_name(current_app.conf.beat_scheduler)
    if not hasattr(scheduler, "new_lock"):
        return None
    lock = scheduler(current_app, lazy=True).new_lock()
    try:
        free = lock.hold()
    finally:
        lock.release()
    return Part("leader", not free, "none leads" if free else "one leads")


def schedules() -> Part:
    """Does Beat run what the code declares? Ask only a database that has its tables."""
    if not apps.is_installed("django_celery_beat"):
        return Part("schedules", True, f"{len(declared())} declared, read when Beat starts")
    changes = sync(dry_run=True)
    if changes:
        return Part("schedules", False, f"the database differs from the code: {'; '.join(changes)}")
    return Part("schedules", True, f"{len(declared())} declared, in sync with the database")


def _process(role: str, does: str) -> Part:
    age = heartbeat.age(role)
    if age is None:
        return Part(role, False, "not running, or still starting")
    if age > heartbeat.STALE_AFTER:
        return Part(role, False, f"silent for {age:.0f} s: it hangs, or it was killed")
    return Part(role, True, f"{does} {age:.0f} s ago")
