from typing import Any

from celery.signals import beat_init, worker_ready
from django.apps import AppConfig
from django.conf import settings


class MetricsConfig(AppConfig):
    name = "apps.pipeline.metrics"
    label = "pipeline_metrics"

    def ready(self) -> None:
        worker_ready.connect(serve_worker, weak=False, dispatch_uid="pipeline.metrics")
        beat_init.connect(serve_beat, weak=False, dispatch_uid="pipeline.metrics")


def serve_worker(sender: Any, **kwargs: Any) -> None:
    """Handle `worker_ready`."""
    from apps.pipeline.metrics import server, worker

    if server.serve(settings.METRICS_PORT):
        worker.connect(sender.pool)


def serve_beat(sender: Any, **kwargs: Any) -> None:
    """Handle `beat_init`."""
    from apps.pipeline.metrics import beat, server

    if server.serve(settings.METRICS_PORT):
        beat.connect(sender.scheduler)
