"""Pytest fixtures that run tasks eagerly, or in a real worker on a real broker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery
from celery.contrib.testing.worker import TestWorkController, start_worker
from django.db import connection
from pytest_django import Settings

from apps.pipeline.broker import embedded
from apps.pipeline.checks.schedules import declarations
from apps.pipeline.conf import read_settings_directly
from config.celery import app as project_app

STOP_TIMEOUT = 60  # seconds


@pytest.fixture
def celery_app(settings: Settings) -> Celery:
    """The project's Celery app in eager mode: tasks run at once, and their errors are raised.

    Arguments are serialized to JSON, as for a real worker. Results are not.
    """
    settings.CELERY_TASK_ALWAYS_EAGER = True
    settings.CELERY_TASK_EAGER_PROPAGATES = True
    return project_app


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an embedded Valkey server, which runs until the test session ends."""
    with embedded.server(tmp_path_factory.mktemp("broker")) as url:
        yield url


def own_queues(declared: Any) -> dict[str, Any]:
    """Copies of the declared queues, without the exchange of the project, which has another type.

    Celery gives this exchange to the queues in the settings when the project first uses them.
    """
    named = declared.items() if isinstance(declared, Mapping) else [(q.name, q) for q in declared]
    queues = {name: copy(queue) for name, queue in named}
    for queue in queues.values():
        if getattr(queue, "exchange", None) == project_app.amqp.default_exchange:
            queue.exchange = None
    return queues


@pytest.fixture
def live_app(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A Celery app with the project's tasks on the embedded broker, without a worker."""
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        # Celery prefers these to `conf`. Seen in celery 5.7.0 (celery #4284). Delete once fixed.
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CELERY_SKIP_CHECKS", "1")  # Django's, which are not about the worker
    app = Celery(
        "live",
        amqp=project_app.amqp_cls,
        control=project_app.control_cls,
        task_cls=project_app.task_cls,
        set_as_current=False,
    )
    app.on_after_configure.connect(read_settings_directly)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.update(
        broker_url=broker_url,
        result_backend=broker_url,
        broker_use_ssl=None,
        task_default_exchange_type="direct",  # "topic" exchanges would conflict with other tests
        redis_backend_use_ssl=None,
        # A web process gives up after a second. The server of a busy machine can take longer.
        redis_socket_connect_timeout=60,
        redis_socket_timeout=60,
        # Seconds until the worker checks whether it has to stop.
        broker_transport_options={"polling_interval": 0.1},
        task_send_sent_event=True,
        worker_send_task_events=True,
    )
    if declared := project_app.conf.task_queues:
        app.conf.task_queues = own_queues(declared)
    app.autodiscover_tasks()
    for task in project_app.tasks.values():
        for name in ("app", "_app"):  # a task of `@app.task` would be sent to the other broker
            monkeypatch.setattr(type(task), name, app)
    app.set_current()
    try:
        yield app
    finally:
        app.control.purge()
        app.close()
        project_app.set_current()
        project_app.set_default()


class Worker(TestWorkController):
    """A worker that stops at once. The event loop of an idle worker would wait for up to 1 s."""

    def on_consumer_ready(self, consumer: Any) -> None:
        ready = partial(super().on_consumer_ready, consumer)
        if consumer.hub:
            consumer.hub.call_repeatedly(0.05, lambda: None)
            # The first iteration of the event loop subscribes to commands, for example `ping`.
            consumer.hub.call_soon(consumer.hub.call_soon, ready)
        else:
            ready()


@contextmanager
def worker_thread(
    app: Celery, worker_class: type[Worker] = Worker, **options: Any
) -> Iterator[None]:
    """Run a worker in a thread of this process, with the pool solo if `options` name no other."""
    with start_worker(
        app,
        perform_ping_check=False,
        shutdown_timeout=STOP_TIMEOUT,
        WorkController=worker_class,
        **{"pool": "solo"} | options,
    ):
        yield


@pytest.fixture
def live_worker(live_app: Celery, transactional_db: None) -> Iterator[Celery]:
    """A real worker in a thread. It runs the tasks that `task.delay()` sends."""
    with worker_thread(live_app):
        yield live_app


def skip_if_no_worker_starts() -> None:
    """Skip a test if a schedule of the project keeps worker and Beat from starting.

    Another test fails then, with the same message.
    """
    for error in declarations():
        pytest.skip(error.msg)


@contextmanager
def running(*arguments: str, broker: str, directory: Path, **variables: str) -> Iterator[Path]:
    """Run a Celery command in a new process on the test database; yield the path of its log."""
    skip_if_no_worker_starts()
    log = directory / f"{arguments[0]}.log"
    environment = os.environ | {
        "CELERY_BROKER_URL": broker,
        "CELERY_RESULT_BACKEND": broker,
        "DATABASE_URL": _database_url(),
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
        "RUNTIME_DIR": str(directory),
        **variables,
    }
    command = [sys.executable, "-m", "celery", "-A", "config", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            embedded.end_with_parent(command),
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _database_url() -> str:
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    user, password, host = (quote(database[key], safe="") for key in ("USER", "PASSWORD", "HOST"))
    port = f":{database['PORT']}" if database["PORT"] else ""
    return f"{connection.vendor}://{user}:{password}@{host}{port}/{quote(database['NAME'])}"
