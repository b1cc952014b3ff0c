import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from pytest_django import Settings

from apps.pipeline import heartbeat
from apps.pipeline.embedded import free_port
from apps.pipeline.views import landing
from config.celery import app as project_app


@contextmanager
def broker_at(port: int) -> Iterator[None]:
    """The project's settings with a broker that somebody else answers for, or nobody."""
    app = Celery("elsewhere", set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.update(
        broker_url=f"redis://:secret@127.0.0.1:{port}/0",
        broker_use_ssl=None,
        broker_transport_options={"socket_timeout": 0.2, "socket_connect_timeout": 0.2},
    )
    app.set_current()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("CELERY_BROKER_URL", raising=False)  # Celery prefers it to `conf`
            yield
    finally:
        app.close()
        project_app.set_current()
        project_app.set_default()


@pytest.fixture
def broker_down() -> Iterator[None]:
    with broker_at(free_port()):
        yield


@pytest.fixture
def database_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OperationalError("no such host")

    monkeypatch.setattr(connection, "ensure_connection", refuse)


class TestHealthz:
    def test_answers_whatever_else_is_down(
        self, client: Client, broker_down: None, database_down: None
    ) -> None:
        response = client.get("/healthz")
        assert (response.status_code, response.content) == (200, b"ok")


class TestReadyz:
    def test_is_ready_when_database_and_broker_answer(self, client: Client, db: None) -> None:
        response = client.get("/readyz")
        assert response.status_code == 200
        assert response.json().keys() == {"database", "broker", "queues"}

    def test_names_the_broker_that_refuses_soon_and_without_its_password(
        self, client: Client, db: None, broker_down: None
    ) -> None:
        started = time.monotonic()
        response = client.get("/readyz")
        assert time.monotonic() - started < 10
        assert response.status_code == 503
        assert "does not answer" in response.json()["broker"]
        assert "does not answer" not in response.json()["database"]
        assert "secret" not in response.content.decode()

    def test_names_the_broker_that_takes_the_call_and_says_nothing(
        self, client: Client, db: None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute, broker_at(mute.getsockname()[1]):
            started = time.monotonic()
            response = client.get("/readyz")
            assert time.monotonic() - started < 10
        assert response.status_code == 503
        assert "does not answer" in response.json()["broker"]

    def test_names_the_database_that_is_down(self, client: Client, database_down: None) -> None:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["database"] == "does not answer: no such host"


class TestLanding:
    @pytest.fixture(autouse=True)
    def directory(self, settings: Settings, tmp_path: Path) -> None:
        settings.RUNTIME_DIR = tmp_path

    def test_shows_each_part_in_words(self, rf: RequestFactory, db: None) -> None:
        heartbeat.beat("worker")
        page = landing(rf.get("/")).content.decode()
        for part in ("database", "broker", "worker", "beat", "queues"):
            assert f"<th>{part}</th>" in page
        assert "ready for tasks" in page
        assert "not running, or still starting" in page

    def test_sends_no_task_to_a_broker_that_is_down(
        self, rf: RequestFactory, db: None, broker_down: None
    ) -> None:
        page = landing(rf.post("/")).content.decode()
        assert "does not answer" in page
        assert 'id="outcome"' not in page

    def test_says_that_its_task_is_not_there(
        self, rf: RequestFactory, db: None, settings: Settings
    ) -> None:
        settings.LANDING_TASK = "apps.nowhere.tasks.gone"
        page = landing(rf.post("/")).content.decode()
        assert "LANDING_TASK is apps.nowhere.tasks.gone, and there is no such task." in page

    def test_is_for_local_settings_only(self, client: Client) -> None:
        assert client.get("/").status_code == 404
