import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from django.db import OperationalError, connection
from django.test import Client
from pytest_django import Settings

from apps.pipeline.broker.embedded import free_port
from config.celery import app as project_app

ANSWERED_WITHIN = 30  # seconds; it takes one on a machine that is not busy


@contextmanager
def broker_at(port: int) -> Iterator[None]:
    """Use a broker at another URL, which a test server or no server answers."""
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
            patch.delenv("CELERY_BROKER_URL", raising=False)  # it overrides `conf`
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

    monkeypatch.setattr(connection, "cursor", refuse)


class TestHealthz:
    def test_answers_while_database_and_broker_are_down(
        self, client: Client, broker_down: None, database_down: None
    ) -> None:
        response = client.get("/healthz")
        assert (response.status_code, response.content) == (200, b"ok")


class TestReadyz:
    def test_is_ready_when_database_and_broker_answer(self, client: Client, db: None) -> None:
        response = client.get("/readyz")
        assert response.status_code == 200
        assert response.json().keys() == {"database", "broker", "queues"}

    def test_logs_a_broker_that_refuses_connections_without_its_password(
        self, client: Client, db: None, broker_down: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        started = time.monotonic()
        response = client.get("/readyz")
        assert time.monotonic() - started < ANSWERED_WITHIN
        assert response.status_code == 503
        assert response.json() == {"database": True, "broker": False}
        assert "Not ready: broker redis://:**@127.0.0.1" in caplog.text
        assert "does not answer" in caplog.text
        assert "secret" not in caplog.text

    def test_names_a_broker_that_accepts_connections_but_does_not_answer(
        self, client: Client, db: None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute, broker_at(mute.getsockname()[1]):
            started = time.monotonic()
            response = client.get("/readyz")
            assert time.monotonic() - started < ANSWERED_WITHIN
        assert response.status_code == 503
        assert response.json()["broker"] is False

    def test_names_the_database_that_is_down(
        self, client: Client, database_down: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["database"] is False
        assert "Not ready: database does not answer: no such host" in caplog.text

    def test_names_a_broker_that_refuses_the_login(
        self, client: Client, db: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any, **options: Any) -> None:
            raise RuntimeError("login was refused")  # each client has a class of its own

        monkeypatch.setattr("kombu.Connection.ensure_connection", refuse)
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"database": True, "broker": False}

    def test_is_ready_if_the_queues_cannot_be_read(
        self,
        client: Client,
        db: None,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def refuse() -> None:
            raise RuntimeError("sqs:GetQueueAttributes is not allowed")

        monkeypatch.setattr("apps.pipeline.status.views.queues", refuse)
        response = client.get("/readyz")
        assert (response.status_code, response.json()["queues"]) == (200, False)
        assert "Ready, but: queues " in caplog.text

    def test_the_answer_contains_no_address(self, client: Client, db: None) -> None:
        assert set(client.get("/readyz").json().values()) <= {True, False}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_answer_by_any_address_and_without_tls(
    client: Client, db: None, settings: Settings, path: str
) -> None:
    settings.ALLOWED_HOSTS = ["shop.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path, headers={"host": "10.0.0.7"}).status_code == 200
    assert client.get("/nowhere/", headers={"host": "10.0.0.7"}).status_code == 400
    assert client.get("/nowhere/healthz", headers={"host": "10.0.0.7"}).status_code == 400
