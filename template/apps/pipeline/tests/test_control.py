"""Commands for workers, while the broker stops."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from apps.pipeline.broker.embedded import server
from apps.pipeline.testing import Worker, worker_thread
from config.celery import app as project_app

WAIT_TIMEOUT = 60  # seconds


@pytest.mark.parametrize("command", ["ping", "revoke"])
def test_a_command_fails_if_the_broker_has_stopped(tmp_path: Path, command: str) -> None:
    errors = list[Exception]()

    def send() -> None:
        try:
            app.control.ping() if command == "ping" else app.control.revoke("the-id")
        except Exception as error:  # each client library has its own errors
            errors.append(error)

    with ExitStack() as broker:
        url = broker.enter_context(server(tmp_path))
        app = Celery("commands", broker=url, control=project_app.control_cls, set_as_current=False)
        app.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0}
        assert app.control.ping(timeout=0.1) == []
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(WAIT_TIMEOUT)
    assert not thread.is_alive()
    assert len(errors) == 1
    app.close()


@pytest.fixture
def own_task() -> Iterator[Any]:
    """A task that belongs to the app of the project, and is no shared task."""

    @project_app.task(name="shop.price")
    def price(product: str) -> int:
        return len(product)

    yield price
    project_app.tasks.unregister("shop.price")


def test_a_worker_of_a_test_runs_the_tasks_of_the_app(own_task: Any, live_worker: Celery) -> None:
    assert own_task.delay("bread").get(timeout=WAIT_TIMEOUT) == 5


class SlowWorker(Worker):
    def on_consumer_ready(self, consumer: Any) -> None:
        consumer.hub.call_soon(time.sleep, 0.5)
        super().on_consumer_ready(consumer)


def test_a_worker_of_a_test_answers_at_once(live_app: Celery, transactional_db: None) -> None:
    """Redis sends a command only to the workers that have subscribed."""
    with worker_thread(live_app, SlowWorker):
        assert live_app.control.ping(timeout=WAIT_TIMEOUT, limit=1)
