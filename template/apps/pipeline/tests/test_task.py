"""What a task says when it cannot be sent."""

import logging
from typing import Any

import pytest
from celery import Celery, shared_task
from celery.backends import asynchronous
from django.contrib.auth import get_user_model
from kombu.exceptions import EncodeError

from apps.pipeline.logs import ResultBackendAway


@shared_task
def welcome(user: Any, copies: Any = 1) -> None: ...


@shared_task(autoretry_for=(OSError,), max_retries=2, retry_backoff=True)
def fetch(answers: list[str]) -> str:
    attempt = fetch.request.retries
    if answers[attempt] == "away":
        raise ConnectionRefusedError
    return answers[attempt]


def test_retries_of_a_task_that_runs_in_place_do_not_wait(celery_app: Celery) -> None:
    assert fetch.delay(["away", "away", "here"]).get() == "here"
    with pytest.raises(ConnectionRefusedError):
        fetch.delay(["away", "away", "away"])


class TestArguments:
    @pytest.mark.parametrize("eager", [True, False])
    def test_a_model_instance_is_named_with_what_to_pass(
        self, request: pytest.FixtureRequest, eager: bool
    ) -> None:
        request.getfixturevalue("celery_app" if eager else "live_app")
        with pytest.raises(EncodeError) as caught:
            welcome.delay(get_user_model()(username="ada"))
        assert str(caught.value) == (
            "apps.pipeline.tests.test_task.welcome: user is a User, "
            "which is not JSON serializable. "
            "Pass its primary key, user.pk, and fetch it in the task."
        )

    def test_a_queryset_becomes_keys(self, celery_app: Celery) -> None:
        with pytest.raises(EncodeError, match=r"user is a QuerySet, .* a list of primary keys"):
            welcome.delay(get_user_model().objects.all())

    @pytest.mark.parametrize(
        ("args", "kwargs", "words"),
        [
            ([1, object()], {}, "copies is a object, which"),
            ([1], {"copies": {"a": object()}}, "copies is a dict that holds something, which"),
            ([[object()]], {}, "user is a list that holds something, which"),
        ],
    )
    def test_the_argument_is_named(
        self, celery_app: Celery, args: Any, kwargs: Any, words: str
    ) -> None:
        with pytest.raises(EncodeError, match=words):
            welcome.apply_async(args=args, kwargs=kwargs)
        with pytest.raises(EncodeError, match=words):
            welcome.apply_async(tuple(args), kwargs)


def test_a_result_backend_that_is_away_asks_for_no_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("celery.backends.asynchronous")
    assert any(isinstance(each, ResultBackendAway) for each in logger.filters)
    logger.critical(vars(asynchronous)["E_RETRY_LIMIT_EXCEEDED"])  # as Celery says it
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("The result backend does not answer")
