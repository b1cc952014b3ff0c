"""Is each part of the pipeline alive? What the landing page and the readiness probe show."""

from dataclasses import dataclass

from celery import current_app
from django.db import connection
from django.db.utils import Error as DatabaseError
from kombu.exceptions import OperationalError
from kombu.utils.url import maybe_sanitize_url

from apps.pipeline import heartbeat


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


def broker() -> Part:
    """Can this process reach the broker?"""
    with current_app.connection_for_write() as link:
        address = maybe_sanitize_url(current_app.conf.broker_url)
        try:
            link.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
            link.default_channel  # noqa: B018 - Redis is first spoken to when a channel opens
        except (OperationalError, *link.recoverable_connection_errors) as error:
            return Part("broker", False, f"{address} does not answer: {error}")
    return Part("broker", True, f"{address} answers")


def worker() -> Part:
    """Has a worker that this machine can see shown its heartbeat lately?"""
    return _process("worker", "ready for tasks")


def beat() -> Part:
    """Has a Beat that this machine can see ticked lately?"""
    return _process("beat", "ticked")


def _process(role: str, does: str) -> Part:
    age = heartbeat.age(role)
    if age is None:
        return Part(role, False, "not running, or still starting")
    if age > heartbeat.STALE_AFTER:
        return Part(role, False, f"silent for {age:.0f} s: it hangs, or it was killed")
    return Part(role, True, f"{does} {age:.0f} s ago")
