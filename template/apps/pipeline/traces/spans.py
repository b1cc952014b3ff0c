"""Traces of web requests and tasks, which OpenTelemetry sends to a collector."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery.signals import before_task_publish, worker_process_shutdown

FLUSH_TIMEOUT = 5000  # milliseconds in which a process that exits sends its last spans


def install() -> None:
    """Trace each web request, each task that it sends, and each run of a task.

    OpenTelemetry reads its own variables, which begin with OTEL_. In each process of a worker it
    starts its thread again.
    """
    # The import of DjangoInstrumentor reads this variable.
    os.environ.setdefault("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "healthz,readyz")
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument()
    celery: Any = CeleryInstrumentor  # has no types
    with keep_context():
        celery().instrument()

    def flush(**kwargs: Any) -> None:
        provider.force_flush(FLUSH_TIMEOUT)

    worker_process_shutdown.connect(flush, weak=False, dispatch_uid="pipeline.traces")


@contextmanager
def keep_context() -> Iterator[None]:
    """Keep the current span when a task is sent. The block has to connect OpenTelemetry's handlers.

    These make the span of the task the current span. If the task cannot be sent, they do not undo
    this, and the next requests in this thread become its children. Seen in
    opentelemetry-instrumentation-celery 0.66b2 (not reported yet). Delete this once fixed.
    """
    from opentelemetry import context

    kept: ContextVar[Any] = ContextVar("kept")

    def keep(**kwargs: Any) -> None:
        kept.set(context.get_current())

    def restore(**kwargs: Any) -> None:
        context.attach(kept.get())

    before_task_publish.connect(keep, weak=False, dispatch_uid="pipeline.keep")
    yield
    before_task_publish.connect(restore, weak=False, dispatch_uid="pipeline.restore")
