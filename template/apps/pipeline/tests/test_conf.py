"""Celery reads the current values of Django's settings."""

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
from celery import Celery
from django.conf import LazySettings, settings
from django.test import override_settings

from apps.pipeline.conf import lazy_settings, read_settings_directly


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("conf", set_as_current=False) as app:
        app.on_after_configure.connect(read_settings_directly)
        app.config_from_object("django.conf:settings", namespace="CELERY")
        assert app.conf.task_acks_late is True
        yield app


def test_a_setting_is_read_without_djangos_lookup(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError(args)

    monkeypatch.setattr(LazySettings, "__getattr__", refuse)
    assert app.conf.result_expires == 24 * 60 * 60
    assert app.conf.worker_concurrency is None  # Celery's own default


def test_an_override_is_used_while_it_is_active(app: Celery) -> None:
    with override_settings(CELERY_TASK_ALWAYS_EAGER=True, CELERY_TASK_ACKS_LATE=False):
        assert app.conf.task_always_eager is True
        assert app.conf.task_acks_late is False
        with override_settings(CELERY_TASK_ALWAYS_EAGER=False):
            assert app.conf.task_always_eager is False
        assert app.conf.task_always_eager is True
    assert app.conf.task_always_eager is False
    assert app.conf.task_acks_late is True


def test_an_application_that_is_configured_during_an_override_uses_later_settings() -> None:
    with override_settings(CELERY_TASK_ALWAYS_EAGER=True):
        app = Celery("conf", set_as_current=False)
        app.on_after_configure.connect(read_settings_directly)
        app.config_from_object("django.conf:settings", namespace="CELERY")
        assert app.conf.task_always_eager is True
    assert app.conf.task_always_eager is False


def test_an_application_that_is_no_longer_used_is_not_told_of_overrides() -> None:
    app = Celery("conf", set_as_current=False)
    app.on_after_configure.connect(read_settings_directly)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    assert app.conf.task_acks_late is True
    receiver = ref(vars(app.conf)["choose"])
    del app
    gc.collect()
    assert receiver() is None


def test_an_assigned_setting_is_used(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(settings, "CELERY_TASK_ALWAYS_EAGER", True, raising=False)
        assert app.conf.task_always_eager is True
    assert app.conf.task_always_eager is False


def test_settings_of_the_application_override_djangos(app: Celery) -> None:
    app.conf.update(task_acks_late=False)
    with override_settings(CELERY_TASK_ACKS_LATE=True):
        assert app.conf.task_acks_late is False


def test_the_projects_application_reads_settings_directly() -> None:
    from config.celery import app

    assert app.conf.task_acks_late is True
    assert any(values is vars(lazy_settings._wrapped) for values in app.conf.maps or ())


def test_an_application_with_other_settings_keeps_them() -> None:
    app = Celery("conf", set_as_current=False)
    app.on_after_configure.connect(read_settings_directly)
    app.config_from_object(SimpleNamespace(task_acks_late=False))
    assert app.conf.task_acks_late is False
