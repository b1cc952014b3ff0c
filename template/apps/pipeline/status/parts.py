"""The parts of the pipeline, with a function for the status of each part."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import current_app
from celery.utils.imports import symbol_by_name
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import Error as DatabaseError

from apps.pipeline.broker.errors import short_reason, without_passwords
from apps.pipeline.broker.redis.server import unsupported
from apps.pipeline.liveness import heartbeat
from apps.pipeline.schedules import declared

TO_DO = {
    "configuration": "Change the settings or the environment. docs/checks.md explains each id.",
    "database": "Start it, or correct DATABASE_URL.",
    "migrations": "Run `just migrate`.",
    "broker": "Start it, or correct CELERY_BROKER_URL. `just dev` starts an embedded broker.",
    "results": "Start it, or correct CELERY_RESULT_BACKEND.",
    "worker": "Start it with `just dev`, `just up` or `celery -A config worker`. Read its log.",
    "outbox": "Start the broker and Beat, which sends what waits. The admin lists the tasks.",
    "queues": "Start a worker that consumes the queue. Without --queues a worker consumes all.",
    "round trip": "Start a worker if none runs, or wait for a free process. Read the worker's log.",
    "Beat": "Start it with `just dev`, `just up` or `celery -A config beat`. Read its log.",
    "schedules": "Run `just migrate`, which writes the declared schedules to the database.",
}


@dataclass(frozen=True)
class Part:
    """A part of the pipeline: whether it works (None: not known), and an explanation."""

    name: str
    ok: bool | None
    words: str

    @property
    def to_do(self) -> str:
        """What to do if it does not work."""
        return TO_DO.get(self.name, "") if self.ok is False else ""

    @property
    def to_do_pieces(self) -> list[str]:
        """Text and commands in turn, the commands without their backticks."""
        return self.to_do.split("`")


def attempt(name: str, check: Callable[[], Part | None]) -> Part:
    """The status of a part. An error of any kind means that the part does not work."""
    try:
        part = check()
    except Exception as error:
        reason = short_reason(error).strip().splitlines() or [""]
        return Part(name, False, f"{type(error).__name__}: {reason[0]}")
    unset = Part(name, None, "not checked, because no result backend is set")
    return Part(name, part.ok, part.words) if part else unset


def database() -> Part:
    """Can this process connect to the database?"""
    try:
        with connection.cursor() as cursor:  # a connection that is kept may be broken
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return Part("database", False, f"does not answer: {error}")
    return Part("database", True, f"{connection.vendor} answers")


def migrations() -> Part:
    """Are all migrations applied? Call this only if the database answers."""
    executor = MigrationExecutor(connection)
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return Part("migrations", False, f"{len(plan)} not applied, the first is {plan[0][0]}")
    return Part("migrations", True, "all applied")


def broker() -> Part:
    """Can this process connect to the broker?"""
    try:
        url = without_passwords(current_app.conf.broker_url)
        broker_connection: Any = current_app.connection_for_write()
    except (KeyError, ValueError):
        return Part("broker", False, "has a URL that cannot be read: see manage.py check")
    with broker_connection:
        try:
            broker_connection.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, timeout=2
            )
            broker_connection.default_channel  # noqa: B018 - connects to a Redis
        except Exception as error:  # also those of a refused login, which differ for each broker
            return Part("broker", False, f"{url} does not answer: {short_reason(error)}")
        if problem := unsupported(broker_connection):
            return Part("broker", False, f"{url} {problem}")
    return Part("broker", True, f"{url} answers")


def results() -> Part | None:
    """Can this process read from the result backend? None without one."""
    url = current_app.conf.result_backend
    if url in (None, "disabled://"):
        return None
    shown = without_passwords(url)
    if url.startswith("rpc"):
        return Part("results", True, "come back through the broker")
    try:
        current_app.AsyncResult("of no task").state  # noqa: B018 - reads it
    except Exception as error:  # the result backend's own errors, of many kinds
        return Part("results", False, f"{shown} does not answer: {short_reason(error)}")
    return Part("results", True, f"{shown} answers")


def worker() -> Part:
    """Is there a recent heartbeat of a worker on this machine?"""
    return _process("worker", "ready for tasks")


def beat() -> Part:
    """Is there a recent heartbeat of a Beat on this machine?"""
    return _process("beat", "ticked")


def leader() -> Part | None:
    """Does a Beat on any machine hold the lock? None if there is no lock, or none that it shares.

    This takes the lock for a short time if it is free. A Beat that starts meanwhile waits a second.
    """
    scheduler = symbol_by_name(current_app.conf.beat_scheduler)
    if not hasattr(scheduler, "new_lock"):
        return None
    lock = scheduler(current_app, lazy=True).new_lock()
    if not getattr(lock, "is_used", True):
        return None
    try:
        free = lock.hold()
    finally:
        lock.release()
    return Part("leader", not free, "no Beat leads" if free else "a Beat leads")


def schedules() -> Part:
    """Are the declared schedules in sync? Call this only if all migrations are applied."""
    if not apps.is_installed("django_celery_beat"):
        return Part("schedules", True, f"{len(declared())} declared, read when Beat starts")
    from apps.pipeline.beat.sync import sync

    if changes := sync(dry_run=True):
        return Part("schedules", False, f"the database differs from the code: {'; '.join(changes)}")
    return Part("schedules", True, f"{len(declared())} declared, in sync with the database")


def _process(role: str, event: str) -> Part:
    if (age := heartbeat.age(role)) is None:
        return Part(role, False, "not running, or still starting")
    if age > heartbeat.STALE_AFTER:
        return Part(role, False, f"no heartbeat for {age:.0f} s: it hangs, or it was killed")
    return Part(role, True, f"{event} {age:.0f} s ago")
