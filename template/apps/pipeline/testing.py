"""Pytest fixtures for tasks: run in place, or by a real worker and a real Beat on a real broker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from django.db import connection
from pytest_django import Settings

from apps.pipeline import embedded
from config.celery import app as project_app


@pytest.fixture
def celery_app(settings: Settings) -> Celery:
    """The project's application; tasks that it sends run in place, and their errors are raised.

    Arguments and results pass through JSON, as they do on their way to a worker.
    """
    settings.CELERY_TASK_ALWAYS_EAGER = True
    settings.CELERY_TASK_EAGER_PROPAGATES = True
    return project_app


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real broker that lives as long as the test run: an embedded Valkey."""
    with embedded.server(tmp_path_factory.mktemp("broker")) as url:
        yield url


@pytest.fixture
def live_app(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The project's tasks in an application on the real broker: what is sent waits there."""
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.delenv(name, raising=False)  # Celery prefers these to `conf`
    app = Celery(
        "live", amqp=project_app.amqp_cls, set_as_current=False, task_cls=project_app.task_cls
    )
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.update(
        broker_url=broker_url,
        result_backend=broker_url,
        broker_use_ssl=None,
        task_default_exchange_type="direct",  # RabbitMQ's "topic" would mix with other tests'
        redis_backend_use_ssl=None,
        # A worker looks up from its queue this often, and so ends within it: seconds.
        broker_transport_options={"polling_interval": 0.1},
        task_send_sent_event=True,
        worker_send_task_events=True,
    )
    app.autodiscover_tasks()
    app.set_current()
    try:
        yield app
    finally:
        app.control.purge()
        app.close()
        project_app.set_current()
        project_app.set_default()


@pytest.fixture
def live_worker(live_app: Celery, transactional_db: None) -> Iterator[Celery]:
    """A real worker in a thread of the test: `task.delay()` goes to it, and `get()` returns."""
    with start_worker(live_app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield live_app


@contextmanager
def running(*arguments: str, broker: str, directory: Path, **variables: str) -> Iterator[Path]:
    """A Celery process of its own on the test database; gives its log."""
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
            embedded.leashed(command),
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
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _database_url() -> str:
    of = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{of['NAME']}"
    user, password, host = (quote(of[part], safe="") for part in ("USER", "PASSWORD", "HOST"))
    port = f":{of['PORT']}" if of["PORT"] else ""
    return f"{connection.vendor}://{user}:{password}@{host}{port}/{quote(of['NAME'])}"
