"""Starts a worker a second earlier if no other worker runs.

Celery's step Mingle asks the other workers which tasks were revoked, and waits a second for their
answers, even if no other worker runs.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from celery.worker.consumer.mingle import Mingle

from apps.pipeline.broker.redis.server import has_subscribers


def skip_if_alone(steps: Iterable[Any]) -> None:
    """Make the step Mingle ask only if another worker may answer."""
    for step in steps:
        if isinstance(step, Mingle):
            step.send_hello = partial(_hello, step)  # type: ignore[method-assign]


def _hello(step: Mingle, consumer: Any) -> Any:
    """The answers of the other workers by name."""
    return Mingle.send_hello(step, consumer) if has_subscribers(consumer.connection) else {}
