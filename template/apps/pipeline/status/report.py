"""The status of all parts, in the order in which `manage.py doctor` shows them."""

import threading
from collections.abc import Callable, Iterator

from celery.app import app_or_default
from django.apps import apps
from django.conf import settings
from django.db import connections

from apps.pipeline.checks.report import as_line
from apps.pipeline.checks.report import messages as check_messages
from apps.pipeline.liveness import heartbeat
from apps.pipeline.status import outbox, parts
from apps.pipeline.status.parts import Part
from apps.pipeline.status.queues import queues
from apps.pipeline.status.trace import round_trip

STEP_TIMEOUT = 10  # seconds to wait for the status of a part
TRIP_TIMEOUT = 5  # seconds to wait for the result of a task


def all_parts() -> Iterator[Part]:
    """The status of each part. If a part does not work, parts that need it are not checked."""
    yield from configuration()
    yield (database := check_part("database", parts.database))
    yield (migrations := check_part("migrations", parts.migrations, needs=database))
    yield (broker := check_part("broker", parts.broker))
    if settings.TASK_OUTBOX:
        yield check_part("outbox", outbox.part, needs=migrations)
    yield from worker(broker)
    yield beat(broker)
    in_database = apps.is_installed("django_celery_beat")
    yield check_part("schedules", parts.schedules, needs=migrations if in_database else None)


def configuration() -> list[Part]:
    messages = check_messages()
    if errors := [as_line(message) for message in messages if message.is_serious()]:
        return [Part("configuration", False, error) for error in errors]
    warnings = "; ".join(as_line(message) for message in messages)
    return [Part("configuration", True, warnings or "nothing wrong")]


def worker(broker: Part) -> Iterator[Part]:
    """A worker on another machine has no heartbeat file here, but it runs the test task."""
    waiting = check_part("queues", queues, needs=broker)
    trip = check_part("round trip", lambda: round_trip(TRIP_TIMEOUT), needs=broker)
    seen = parts.worker()
    if trip.ok and not seen.ok:
        seen = Part("worker", True, "runs on another machine (it ran the test task)")
    yield seen
    yield waiting
    yield trip


def beat(broker: Part) -> Part:
    """A Beat on another machine has no heartbeat file here, but it holds the lock."""
    seen, lead = parts.beat(), check_part("Beat", parts.leader, needs=broker)
    if lead.ok is None:
        unknown = Part("Beat", None, "not known: it does not run on this machine")
        return unknown if heartbeat.age("beat") is None else Part("Beat", seen.ok, seen.words)
    if lead.ok and not seen.ok and "no heartbeat for" not in seen.words:
        return Part("Beat", True, "the leader runs on another machine")
    return Part("Beat", seen.ok and bool(lead.ok), f"{seen.words}, {lead.words}")


def check_part(name: str, check: Callable[[], Part | None], *, needs: Part | None = None) -> Part:
    """Check a part in a thread. After STEP_TIMEOUT the part fails, and the thread is abandoned."""
    if needs and not needs.ok:
        return Part(name, None, f"not checked, because the {needs.name} does not work")
    app = app_or_default()
    answers: list[Part] = []

    def run() -> None:
        app.set_current()
        try:
            answers.append(parts.attempt(name, check))
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(STEP_TIMEOUT)
    return answers[0] if answers else Part(name, False, f"no answer within {STEP_TIMEOUT} s")
