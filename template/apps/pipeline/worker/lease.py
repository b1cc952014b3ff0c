"""Holds a worker's lease on the messages from Redis or SQS while the worker runs.

Kombu has no leases. Seen in kombu 5.7.0 (kombu #337, celery #3270). Delete this once fixed.
"""

from typing import Any

from celery import bootsteps
from celery.signals import worker_shutdown

from apps.pipeline.broker.redis import lease as redis
from apps.pipeline.broker.sqs import lease as sqs


class Lease(bootsteps.StartStopStep):
    """Hold the lease from before the first message is taken until the last task has run."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        redis.start(parent.app)
        sqs.start(parent.app)
        worker_shutdown.connect(self.terminate, sender=parent)  # after a warm shutdown

    def terminate(self, parent: Any = None, **kwargs: Any) -> None:
        redis.stop()
        sqs.stop()
