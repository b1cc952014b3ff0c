"""A web request, its task and the task of this task are one trace in OpenTelemetry."""

import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.matrix import Cell, Servers
from support.probe_project import Project, production
from support.receiver import Receiver, receiving
from support.stacks import free_port
from support.waiting import WAIT_TIMEOUT

SECRET = "hunter2-of-a-customer"

TASKS = """
@shared_task
def outer(word: str) -> None:
    inner.delay(word)

@shared_task
def inner(word: str) -> None:
    raise LookupError("this shop is closed")
"""
VIEW = f"""
from django.http import HttpResponse
from apps.probe.tasks import outer
def order(request):
    outer.delay({SECRET!r})
    return HttpResponse("ordered")
urlpatterns.append(path("order/", order))
"""
EXPECTED = {
    "GET order/": "",
    "apply_async/apps.probe.tasks.outer": "GET order/",
    "run/apps.probe.tasks.outer": "apply_async/apps.probe.tasks.outer",
    "apply_async/apps.probe.tasks.inner": "run/apps.probe.tasks.outer",
    "run/apps.probe.tasks.inner": "apply_async/apps.probe.tasks.inner",
}
"""The spans, and the parent of each."""


def spans(collector: Receiver) -> list[Any]:
    """The spans that a collector of OpenTelemetry got."""
    return [
        span
        for body in [*collector.bodies]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


class Traced(Project):
    monitoring: ClassVar[list[str]] = ["opentelemetry"]


def variables(collector: Receiver) -> dict[str, str]:
    """The environment of a project whose traces go to this collector."""
    return {
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.host}",
        "OTEL_SERVICE_NAME": "shop",
    }


def get(address: str) -> str:
    """The answer of the web server, as soon as it has started."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while True:
        try:
            return requests.get(address, headers={"X-Forwarded-Proto": "https"}, timeout=30).text
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.5)


TWO_REQUESTS = """
from django.test import Client
client = Client(raise_request_exception=False, headers={"X-Forwarded-Proto": "https"})
for _ in range(2):
    assert client.get("/order/", HTTP_HOST="127.0.0.1").status_code == 500
"""


def test_a_task_that_cannot_be_sent_does_not_get_the_next_request_as_its_child(
    template: Path, tmp_path: Path
) -> None:
    with receiving() as received:
        project = Traced(
            template,
            tmp_path / "project",
            Cell("redis", "none", "file", "sqlite"),
            CELERY_BROKER_URL="redis://127.0.0.1:1/0",
            **production(tmp_path),
            **variables(received),
        )
        project.add("apps/probe/tasks.py", TASKS)
        project.add("config/urls.py", VIEW)
        project.run("python", "manage.py", "shell", "--verbosity", "0", "--command", TWO_REQUESTS)
    roots = [span for span in spans(received) if span.name == "GET order/"]
    assert [span.parent_span_id for span in roots] == [b"", b""]
    assert len({span.trace_id for span in roots}) == 2


@pytest.mark.live("redis-server")
def test_a_request_and_its_tasks_are_one_trace(
    template: Path, tmp_path: Path, servers: Servers
) -> None:
    cell = Cell("redis", "redis", "file", "sqlite")
    with receiving() as received:
        project = Traced(
            template,
            tmp_path / "project",
            cell,
            **servers.variables(cell),
            **production(tmp_path),
            **variables(received),
        )
        project.add("apps/probe/tasks.py", TASKS)
        project.add("config/urls.py", VIEW)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        port = free_port()
        web = ("python", "-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}")
        with (
            project.started("celery", "-A", "config", "worker", "-l", "info"),
            project.started(*web),
        ):
            assert get(f"http://127.0.0.1:{port}/healthz")
            assert get(f"http://127.0.0.1:{port}/order/") == "ordered"
            deadline = time.monotonic() + WAIT_TIMEOUT
            while not EXPECTED.keys() <= {span.name for span in spans(received)}:
                assert time.monotonic() < deadline, {span.name for span in spans(received)}
                time.sleep(0.2)
    found = {span.name: span for span in spans(received) if span.name in EXPECTED}
    names = {span.span_id: name for name, span in found.items()}
    parents = {name: names.get(span.parent_span_id, "") for name, span in found.items()}
    assert parents == EXPECTED
    assert len({span.trace_id for span in found.values()}) == 1
    [event] = found["run/apps.probe.tasks.inner"].events
    assert event.name == "exception"
    everything = b"".join(received.bodies)
    assert b"this shop is closed" in everything
    assert SECRET.encode() not in everything, "arguments stay here"
    assert b"healthz" not in everything
    assert b"shop" in everything
