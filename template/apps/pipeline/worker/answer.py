"""The remote control command with which the page asks what each worker does."""

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery.worker import state as worker_state
from celery.worker.control import inspect_command
from django.conf import settings

from apps.pipeline.broker.queues import queue_of
from apps.pipeline.worker import history


@inspect_command()
def describe_worker(state: Any, with_tasks: bool = False, **kwargs: Any) -> dict[str, Any]:
    """The queues, processes, memory, version and running tasks of this worker.

    The records of its last tasks have arguments and results, so they are added only on request.
    """
    consumer = state.consumer
    running = Counter(
        queue_of(state.app, request.delivery_info) or "" for request in worker_state.active_requests
    )
    return {
        "queues": [*state.app.amqp.queues.consume_from],
        "running": running,
        "processes": consumer.pool.num_processes,
        "prefetch": consumer.qos.value,
        "version": settings.APP_VERSION,
        "last": history.last(),
        "tasks": history.latest() if with_tasks else [],
        "memory": memory({os.getpid(), *consumer.pool.info.get("processes", ())}),
    }


def memory(processes: Iterable[int]) -> int | None:
    """The memory of the processes in bytes, with each shared page once. None without /proc."""
    total = 0
    with suppress(OSError):
        for process in processes:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total or None
