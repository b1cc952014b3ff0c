"""Reads all that the page shows. What needs a server that does not answer stays empty."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import django
from django.apps import apps
from django.conf import settings
from django.utils import timezone

from apps.pipeline.broker.errors import short_reason
from apps.pipeline.status import failed as failed_tasks
from apps.pipeline.status import outbox, parts, queues, workers
from apps.pipeline.status.parts import Part
from apps.pipeline.status.report import beat
from apps.pipeline.status.schedules import Scheduled, scheduled
from apps.pipeline.status.tasks import Recent, recent

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class QueueRow:
    """A queue, with what the workers say about it. None means not known."""

    queue: queues.Queue
    consumed: bool | None
    oldest: str | None
    running: int | None
    workers: list[str] | None


def snapshot(*, with_results: bool) -> dict[str, Any]:
    """The context of the page. Without results it has no arguments, results or errors of tasks."""
    database, broker = parts.database(), parts.broker()
    kind, found = _read(queues.waiting, ("", list[queues.Queue]()), needs=broker)
    known_workers = _read(lambda: workers.workers(with_tasks=with_results), None, needs=broker)
    stored = database if apps.is_installed("django_celery_beat") else broker
    schedules, count = _read(scheduled, (list[Scheduled](), 0), needs=stored)
    version = f", version {settings.APP_VERSION}" if settings.APP_VERSION else ""
    web = Part("web", True, f"Django {django.get_version()} answers{version}")
    results = parts.results() or Part("results", None, "not stored: no result backend is set")
    consumed = [queues.as_part(kind, found)] if broker.ok else []
    named = [web, broker, workers.as_part(known_workers, broker), results, beat(broker), database]
    kept = _read(outbox.part, None, needs=database) if settings.TASK_OUTBOX else None
    extra = [*consumed, *([kept] if kept else [])]
    due = [one for one in schedules if one.enabled and one.due]
    versions = {settings.APP_VERSION, *(one.version for one in known_workers or ())}
    tasks = None
    if with_results:
        tasks = _read(lambda: recent(known_workers, database), list[Recent](), needs=web)
    errors = [task.task_id for task in tasks or () if task.ok is False]
    return {
        "parts": named,
        "stuck": [part for part in extra if part.ok is False],
        "outbox": kept,
        "failed": [part.name for part in [*named, *extra] if part.ok is False],
        "queues": [_row(queue, known_workers) for queue in found],
        "workers": known_workers,
        "schedules": schedules,
        "schedule_count": count,
        "next": next((one for one in due if count == len(schedules)), None),
        "tasks": tasks,
        "failed_tasks": _read(lambda: failed_tasks.about(errors), None, needs=database),
        "version": settings.APP_VERSION,
        "other_version": any(one.is_other_version for one in known_workers or ()),
        "with_versions": any(versions),
        "now": timezone.now(),
    }


def _read(read: Callable[[], T], otherwise: T, *, needs: Part) -> T:
    """Read a part of the page. If that fails, the page goes without this part."""
    if needs.ok:
        try:
            return read()
        except Exception as error:  # broker, database and schedulers raise many kinds
            logger.warning("The page lacks a part: %s", short_reason(error))
    return otherwise


def _row(queue: queues.Queue, known_workers: list[workers.Worker] | None) -> QueueRow:
    oldest, consumed = queue.backlog.oldest_sent_at, queue.consumed
    age = queues.duration(timezone.now().timestamp() - oldest) if oldest is not None else None
    if known_workers is None:
        return QueueRow(queue, consumed, age, queue.backlog.in_flight, None)
    running = sum(worker.running.get(queue.name, 0) for worker in known_workers)
    names = [worker.name for worker in known_workers if queue.name in worker.queues]
    if consumed and not names and queue.backlog.consumers is None:
        consumed = None  # recorded by a worker that does not answer now
    return QueueRow(queue, consumed, age, running, names)
