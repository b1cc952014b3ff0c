"""An empty Redis, settings that do not depend on the project, and what a test leaves behind."""

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from celery import current_app
from django.apps import apps
from django.conf import settings as project
from django.core.management.commands import flush
from django.core.management.sql import emit_post_migrate_signal
from django.db import connections, transaction
from django.utils import translation
from kombu import Connection
from pytest_django import Settings
from redis import Redis, utils

from apps.pipeline.broker.redis import acks, unacked
from apps.pipeline.tests.users import create_user

SITE: dict[str, Any] = {
    "AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "ROOT_URLCONF": "apps.pipeline.tests.urls",
    "SESSION_ENGINE": "django.contrib.sessions.backends.db",
    "STATIC_URL": "/static/",
    "STORAGES": {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    },
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ],
            },
        },
    ],
    "USE_THOUSAND_SEPARATOR": False,
}
"""Settings of tests that request the page and the admin. Those of the project can be others."""


# Otherwise redis-py looks for its version in the files of its package for each connection.
utils.get_lib_version = cache(utils.get_lib_version)

initial_rows: dict[str, list[list[Any]]] = {}


def insert_initial_rows(verbosity: int, interactive: bool, database: str) -> None:
    """Insert the content types, permissions and schedules that the first flush created again."""
    if database not in initial_rows:
        emit_post_migrate_signal(verbosity, interactive, database)
        options = [model._meta for model in apps.get_models(include_auto_created=True)]
        tables = [one.model for one in options if one.can_migrate(database) and not one.parents]
        initial_rows[database] = [[*model._base_manager.using(database)] for model in tables]
        return
    with connections[database].constraint_checks_disabled(), transaction.atomic(database):
        for rows in filter(None, initial_rows[database]):
            type(rows[0])._base_manager.using(database).bulk_create(rows)


@pytest.fixture(scope="module", autouse=True)
def fast_flush() -> Iterator[None]:
    """Flush the database after a test with transactions in less than half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "emit_post_migrate_signal", insert_initial_rows)
        yield


@pytest.fixture
def redis(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def connection(broker_url: str, redis: Redis) -> Iterator[Connection]:
    with Connection(broker_url) as connection:
        yield connection


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Forget the messages that channels of earlier tests have left. Later channels return them."""
    acks.broker = None
    acks.recent.clear()
    acks.early.clear()
    acks.to_acknowledge.clear()
    unacked.to_return.clear()


@pytest.fixture(autouse=True)
def unchanged_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a test changes in Celery's configuration. A scheduler of redbeat updates it."""
    changes: dict[str, object] = vars(current_app.conf)["changes"]
    before = changes.copy()
    yield
    monkeypatch.undo()
    changes.clear()
    changes.update(before)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """Texts of Django and its packages in English, also if LANGUAGE_CODE is another language."""
    with translation.override("en-us", deactivate=True):
        yield


@pytest.fixture(autouse=True)
def own_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests read lines for which the project has handlers of its own.

    A worker configures the loggers again when it starts.
    """
    for name, options in project.LOGGING.get("loggers", {}).items():
        if name.startswith(("apps", "celery")):
            monkeypatch.setitem(options, "propagate", True)
            monkeypatch.setattr(logging.getLogger(name), "propagate", True)


@pytest.fixture
def no_own_errors(settings: Settings) -> None:
    """Silence the error of a schedule of the project whose task was deleted."""
    own = getattr(settings, "SILENCED_SYSTEM_CHECKS", [])
    settings.SILENCED_SYSTEM_CHECKS = [*own, "pipeline.E005"]


@pytest.fixture
def site(settings: Settings) -> None:
    """The page and the admin, with these settings instead of those of the project."""
    for name, value in SITE.items():
        setattr(settings, name, value)


@pytest.fixture
def admin_user(db: None) -> Any:
    """The user of `admin_client`."""
    return create_user("admin", is_staff=True, is_superuser=True)
