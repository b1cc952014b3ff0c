"""Retries of eager tasks, and the errors of tasks that cannot be sent."""

import logging
from typing import Any

import pytest
from celery import Celery, shared_task
from celery.backends import asynchronous
from django.contrib.auth.models import Group
from kombu.exceptions import EncodeError

from apps.pipeline.logs.corrections import ResultBackendReconnect


@shared_task
def welcome(group: Any, copies: Any = 1) -> None: ...


@shared_task(autoretry_for=(OSError,), max_retries=2, retry_backoff=True)
def fetch(answers: list[str]) -> str:
    attempt = fetch.request.retries
    if answers[attempt] == "error":
        raise ConnectionRefusedError
    return answers[attempt]


def test_retries_of_an_eager_task_run_at_once(celery_app: Celery) -> None:
    assert fetch.delay(["error", "error", "done"]).get() == "done"
    with pytest.raises(ConnectionRefusedError):
        fetch.delay(["error", "error", "error"])


class TestArguments:
    @pytest.mark.parametrize("eager", [True, False])
    def test_the_error_for_a_model_instance_says_to_pass_its_primary_key(
        self, request: pytest.FixtureRequest, eager: bool
    ) -> None:
        request.getfixturevalue("celery_app" if eager else "live_app")
        with pytest.raises(EncodeError) as caught:
            welcome.delay(Group(name="ada"))
        assert str(caught.value) == (
            "apps.pipeline.tests.test_task.welcome: group is a Group, "
            "which is not JSON serializable. "
            "Pass its primary key, group.pk, and fetch it in the task."
        )

    def test_the_error_for_a_queryset_says_to_pass_primary_keys(self, celery_app: Celery) -> None:
        with pytest.raises(EncodeError, match=r"group is a QuerySet, .* a list of primary keys"):
            welcome.delay(Group.objects.all())

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            ([1, object()], {}, "copies is a object, which"),
            ([1], {"copies": {"a": object()}}, "copies is a dict with a value, which"),
            ([[object()]], {}, "group is a list with a value, which"),
        ],
    )
    def test_the_error_names_the_argument(
        self, celery_app: Celery, args: Any, kwargs: Any, message: str
    ) -> None:
        with pytest.raises(EncodeError, match=message):
            welcome.apply_async(args=args, kwargs=kwargs)
        with pytest.raises(EncodeError, match=message):
            welcome.apply_async(tuple(args), kwargs)


def test_a_lost_result_backend_is_logged_as_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("celery.backends.asynchronous")
    assert any(isinstance(each, ResultBackendReconnect) for each in logger.filters)
    logger.critical(vars(asynchronous)["E_RETRY_LIMIT_EXCEEDED"])  # as Celery logs it
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("The result backend does not answer")
