"""The metrics that Beat serves: its schedule, the queues, the outbox and the failed tasks.

No single worker knows them. Each Beat reads them on each scrape, even while it stands by.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from celery.app import app_or_default
from django.apps import apps
from django.conf import settings
from django.db import connections
from prometheus_client import REGISTRY, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from apps.pipeline.broker.errors import short_reason
from apps.pipeline.signals import entry_sent
from apps.pipeline.status import outbox, parts, queues
from apps.pipeline.status.parts import Part

logger = logging.getLogger(__name__)

LEADS = Gauge("celery_beat_leads", "1 if this Beat sends due tasks, 0 if it stands by.")
LATENESS = Histogram(
    "celery_beat_lateness_seconds",
    "Time from when a run of a schedule was due until its task was sent.",
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
)


def connect(scheduler: Any) -> None:
    """Count from now on, and read the rest on each scrape."""
    LEADS.set_function(lambda: bool(scheduler.leads))
    entry_sent.connect(on_sent, weak=False, dispatch_uid="pipeline.metrics")
    REGISTRY.register(PipelineCollector())


def on_sent(entry: Any, **kwargs: Any) -> None:
    """Handle `entry_sent`."""
    with suppress(Exception):  # each kind of schedule raises its own errors
        remaining = entry.schedule.remaining_estimate(entry.last_run_at).total_seconds()
        LATENESS.observe(max(0, -remaining))


class PipelineCollector(Collector):
    """What the database and the broker know. A value that cannot be read is left out."""

    def describe(self) -> Iterator[Metric]:
        """Describe nothing. Without this method the registry calls `collect` when Beat starts."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        app_or_default().set_current()
        try:
            yield from self._collect()
        finally:
            connections.close_all()

    def _collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("celery_part_up", "1 if this part answers Beat.", labels=["part"])
        database, broker, results = parts.database(), parts.broker(), parts.results()
        for part in filter(None, (database, broker, results)):
            up.add_metric([part.name], bool(part.ok))
        yield up
        yield from _read(_queues, needs=broker)
        if settings.TASK_OUTBOX:
            yield from _read(_outbox, needs=database)
        if apps.is_installed("apps.pipeline.failed"):
            yield from _read(_failed, needs=database)


def _read(read: Callable[[], Iterator[Metric]], *, needs: Part) -> list[Metric]:
    if needs.ok:
        try:
            return [*read()]
        except Exception as error:  # broker and database raise many kinds
            logger.warning("Some metrics are missing: %s", short_reason(error))
    return []


def _queues() -> Iterator[Metric]:
    messages = _per_queue("celery_queue_messages", "Messages that wait.")
    oldest = _per_queue(
        "celery_queue_oldest_timestamp_seconds", "When the oldest message was sent."
    )
    consumed = _per_queue("celery_queue_consumed", "1 if a worker consumes the queue, 0 if not.")
    for queue in queues.waiting()[1]:
        messages.add_metric([queue.name], queue.backlog.messages)
        if queue.backlog.oldest_sent_at is not None:
            oldest.add_metric([queue.name], queue.backlog.oldest_sent_at)
        if queue.consumed is not None:
            consumed.add_metric([queue.name], queue.consumed)
    yield from (messages, oldest, consumed)


def _per_queue(name: str, words: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=["queue"])


def _outbox() -> Iterator[Metric]:
    seen = outbox.outbox()
    yield GaugeMetricFamily("celery_outbox_tasks", "Tasks in the outbox.", seen.waiting)
    yield GaugeMetricFamily(
        "celery_outbox_oldest_seconds", "Age of the oldest task in the outbox.", seen.oldest
    )


def _failed() -> Iterator[Metric]:
    from apps.pipeline.failed.models import FailedTask

    count = FailedTask.objects.filter(run_again_as="").count()
    yield GaugeMetricFamily("celery_failed_tasks", "Failed tasks that were not run again.", count)
