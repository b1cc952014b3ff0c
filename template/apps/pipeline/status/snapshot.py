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
    served: bool | None
    oldest: str | None
    running: int | None
    workers: list[str] | None


def snapshot(*, with_results: bool) -> dict[str, Any]:
    """The context of the page. Without results it has no arguments, results or errors of tasks."""
    database, broker = parts.database(), parts.broker()
    no_queues: tuple[str, list[queues.Queue]] = ("", [])
    no_tasks: list[Recent] = []
    no_schedules: tuple[list[Scheduled], int] = ([], 0)
    kind, found = _read(queues.waiting, no_queues, needs=broker)
    asked = _read(lambda: workers.workers(with_tasks=with_results), None, needs=broker)
    stored = database if apps.is_installed("django_celery_beat") else broker
    schedules, count = _read(scheduled, no_schedules, needs=stored)
    version = f", version {settings.APP_VERSION}" if settings.APP_VERSION else ""
    web = Part("web", True, f"Django {django.get_version()} answers{version}")
    results = parts.results() or Part("results", None, "not stored: no result backend is set")
    served = [queues.as_part(kind, found)] if broker.ok else []
    named = [web, broker, workers.as_part(asked, broker), results, beat(broker), database]
    kept = _read(outbox.part, None, needs=database) if settings.TASK_OUTBOX else None
    extra = [*served, *([kept] if kept else [])]
    failed = [part for part in [*named, *extra] if part.ok is False]
    tasks = _read(lambda: recent(asked, database), no_tasks, needs=web) if with_results else None
    errors = [task.task_id for task in tasks or () if task.ok is False]
    return {
        "parts": named,
        "stuck": [part for part in extra if part.ok is False],
        "outbox": kept,
        "failed": [part.name for part in failed],
        "queues": [_row(queue, asked) for queue in found],
        "workers": asked,
        "schedules": schedules,
        "schedule_count": count,
        "next": next((one for one in schedules if one.enabled and one.due), None),
        "tasks": tasks,
        "failed_tasks": _read(lambda: failed_tasks.about(errors), None, needs=database),
        "version": settings.APP_VERSION,
        "other_version": any(one.is_other_version for one in asked or ()),
        "with_versions": any(one.version for one in asked or ()) or bool(settings.APP_VERSION),
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


def _row(queue: queues.Queue, asked: list[workers.Worker] | None) -> QueueRow:
    oldest, served = queue.backlog.oldest_sent_at, queue.consumed
    age = queues.duration(timezone.now().timestamp() - oldest) if oldest is not None else None
    if asked is None:
        return QueueRow(queue, served, age, queue.backlog.in_work, None)
    running = sum(worker.running.get(queue.name, 0) for worker in asked)
    names = [worker.name for worker in asked if queue.name in worker.queues]
    if served and not names and queue.backlog.consumers is None:
        served = None  # recorded by a worker that does not answer now
    return QueueRow(queue, served, age, running, names)
