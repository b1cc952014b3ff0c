"""The metrics of a worker: the tasks that it has run, and how busy it is.

The main process counts, because it also notices the end of a task whose process was killed.
"""

import time
from typing import Any

from celery.worker import state
from prometheus_client import Counter, Gauge, Histogram

from apps.pipeline.broker.queues import queue_of
from apps.pipeline.broker.redis import lease
from apps.pipeline.broker.sqs import lease as sqs_lease
from apps.pipeline.logs.ids import queue_wait
from apps.pipeline.signals import task_event
from apps.pipeline.worker.history import ENDS

# Seconds, from a short task to the default of CELERY_TASK_TIME_LIMIT.
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 900, 1800)

ENDED = Counter(
    "celery_tasks", "Attempts of tasks that have ended, by outcome.", ("task", "queue", "outcome")
)
WAITED = Histogram(
    "celery_task_queue_wait_seconds",
    "Time from when a task was sent, or from its ETA, until it was started.",
    ("queue",),
    buckets=BUCKETS,
)
RAN = Histogram(
    "celery_task_run_seconds",
    "Time from when a task was started until this attempt ended.",
    ("task",),
    buckets=BUCKETS,
)
PROCESSES = Gauge("celery_worker_processes", "Processes, threads or greenlets that run tasks.")
RUNNING = Gauge("celery_worker_tasks_running", "Tasks that run.")
HELD = Gauge(
    "celery_worker_messages_held",
    "Messages that the worker has taken and not acknowledged, with those that wait for their ETA.",
)
LEASE = Gauge(
    "celery_worker_lease_age_seconds",
    "Time since the worker renewed its lease in Redis. After 40 s others have taken its messages.",
)

SQS_LEASE = Gauge(
    "celery_worker_sqs_lease_age_seconds",
    "The longest time since a message of SQS was taken or renewed. After 120 s others take it.",
)


def connect(pool: Any) -> None:
    """Count from now on."""
    PROCESSES.set_function(lambda: pool.num_processes)
    RUNNING.set_function(lambda: len(state.active_requests))
    HELD.set_function(held)
    LEASE.set_function(lambda: lease.age() or 0)  # no lease on other brokers
    SQS_LEASE.set_function(sqs_lease.age)
    task_event.connect(on_event, weak=False, dispatch_uid="pipeline.metrics")


def held() -> int:
    waiting: Any = state.scheduled_requests  # type: ignore[attr-defined]
    return len(state.reserved_requests) + len(waiting)


def on_event(sender: str, request: Any, fields: dict[str, Any], **kwargs: Any) -> None:
    """Handle `task_event`."""
    queue = queue_of(request.app, request.delivery_info) or ""
    if sender == "task-started":
        wait = queue_wait(request.request_dict, request.time_start)
        if wait is not None:
            WAITED.labels(queue).observe(wait)
    elif sender in ENDS:
        ENDED.labels(request.name, queue, sender.removeprefix("task-")).inc()
        if request.time_start:
            ran = fields.get("runtime") or time.time() - request.time_start
            RAN.labels(request.name).observe(max(0, ran))
