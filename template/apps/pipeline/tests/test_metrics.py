"""What Prometheus reads from a worker and from Beat."""

import logging
import re
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.request import urlopen

import pytest
from celery import Celery, current_app
from celery.schedules import schedule
from pytest_django import Settings

from apps.pipeline.broker.embedded import free_port
from apps.pipeline.testing import running

pytest.importorskip("prometheus_client")

from prometheus_client import REGISTRY

from apps.pipeline.metrics import beat, server, worker

ECHO = "apps.pipeline.tasks.echo"
WAIT_TIMEOUT = 60  # seconds


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def read(port: int, condition: Callable[[str], bool]) -> str:
    """The metrics at a port as soon as they meet the condition."""
    deadline, text = time.monotonic() + WAIT_TIMEOUT, ""
    while not condition(text):
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            continue
    return text


@pytest.mark.django_db(transaction=True)
def test_worker_and_beat_serve_what_they_know(
    live_app: Celery, broker_url: str, tmp_path: Path
) -> None:
    for text in ("one", "two"):
        live_app.send_task(ECHO, [text])
    live_app.send_task(ECHO, ["too", "many"])
    live_app.send_task(ECHO, ["later"], countdown=600)
    ports = free_port(), free_port()
    with (
        running("worker", broker=broker_url, directory=tmp_path, METRICS_PORT=str(ports[0])),
        running("beat", broker=broker_url, directory=tmp_path, METRICS_PORT=str(ports[1])),
    ):
        queue = live_app.conf.task_default_queue
        labels = f'queue="{queue}",task="{ECHO}"'
        failed = f'celery_tasks_total{{outcome="failed",{labels}}} 1.0'
        succeeded = f'celery_tasks_total{{outcome="succeeded",{labels}}} 2.0'
        expected = {failed, succeeded, "messages_held 1.0"}
        seen = read(ports[0], lambda text: all(line in text for line in expected))
        assert f'celery_task_run_seconds_count{{task="{ECHO}"}} 3.0' in seen
        waited = re.search(rf'queue_wait_seconds_count\{{queue="{queue}"\}} (\S+)', seen)
        assert waited
        assert float(waited[1]) >= 3
        processes = re.search(r"^celery_worker_processes (\S+)", seen, re.MULTILINE)
        assert processes
        assert float(processes[1]) > 0
        lease = re.search(r"^celery_worker_lease_age_seconds (\S+)", seen, re.MULTILINE)
        assert lease
        assert 0 < float(lease[1]) < 30
        assert "celery_worker_sqs_lease_age_seconds 0.0" in seen
        assert "_created" not in seen

        expected = {
            "celery_beat_leads 1.0",
            'celery_part_up{part="database"} 1.0',
            f'celery_queue_consumed{{queue="{queue}"}} 1.0',
            f'celery_queue_messages{{queue="{queue}"}} 0.0',
        }
        read(ports[1], lambda text: all(line in text for line in expected))


def test_a_broker_that_is_away_is_0_and_the_rest_is_still_there(
    transactional_db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TASK_OUTBOX = True
    monkeypatch.setattr(current_app.conf, "broker_url", f"redis://127.0.0.1:{free_port()}")
    found = {metric.name: metric.samples for metric in beat.PipelineCollector().collect()}
    up = {sample.labels["part"]: sample.value for sample in found["celery_part_up"]}
    assert (up["database"], up["broker"]) == (1, 0)
    assert "celery_queue_messages" not in found
    assert found["celery_outbox_tasks"][0].value == 0


def test_a_killed_task_is_counted_without_a_time_of_its_own() -> None:
    queue = current_app.conf.task_default_queue
    request = SimpleNamespace(
        app=current_app,
        name="shop.pay",
        delivery_info={"routing_key": queue, "exchange": ""},
        request_dict={"sent_at": 1000.0},
        time_start=1002.0,
    )
    before = value("celery_task_queue_wait_seconds_sum", queue=queue)
    worker.on_event("task-started", request, {})
    worker.on_event("task-failed", request, {"exception": "WorkerLostError()"})
    assert value("celery_tasks_total", task="shop.pay", queue=queue, outcome="failed") == 1
    assert value("celery_task_queue_wait_seconds_sum", queue=queue) - before == 2
    assert value("celery_task_run_seconds_count", task="shop.pay") == 1


def test_a_port_that_is_taken_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        with caplog.at_level(logging.ERROR):
            assert not server.serve(port)
    assert f"METRICS_PORT={port} cannot be opened" in caplog.text


def test_metrics_are_served_over_ipv6_too(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Mock()
    monkeypatch.setattr(server, "start_http_server", start)
    monkeypatch.setattr("socket.has_dualstack_ipv6", Mock(side_effect=[True, False]))
    assert server.serve(9808)
    assert server.serve(9808)
    assert [call.args[1] == "::" for call in start.mock_calls] == [True, False]


def test_the_lateness_is_measured_from_the_last_run() -> None:
    before = value("celery_beat_lateness_seconds_sum")
    every = schedule(timedelta(minutes=5), app=current_app)
    beat.on_sent(SimpleNamespace(schedule=every, last_run_at=every.now() - timedelta(minutes=7)))
    assert 120 <= value("celery_beat_lateness_seconds_sum") - before < 120 + WAIT_TIMEOUT


def test_the_page_names_every_metric_and_the_files_name_no_other(settings: Settings) -> None:
    page = (settings.BASE_DIR / "docs" / "metrics.md").read_text()
    named = set(re.findall(r"^\| `(celery_\w+)` \|", page, re.MULTILINE))
    assert named
    source = "".join(
        file.read_text() for file in (settings.BASE_DIR / "apps/pipeline/metrics").glob("*.py")
    )
    defined = set(re.findall(r'"(celery_\w+)"', source))
    defined = {name + "_total" * (name == "celery_tasks") for name in defined}
    assert named == defined
    for file in ("alerts.yml", "dashboard.json"):
        text = (settings.BASE_DIR / "monitoring" / file).read_text()
        used = set(re.findall(r"celery_\w+", text))
        assert {re.sub("_bucket$", "", name) for name in used} <= named, file
    alerts = re.findall(r"alert: (\w+)", (settings.BASE_DIR / "monitoring/alerts.yml").read_text())
    assert alerts == re.findall(r"^\| `(Celery\w+)` \|", page, re.MULTILINE)
