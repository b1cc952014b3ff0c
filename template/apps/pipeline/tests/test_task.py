"""The class of tasks: retries of eager tasks, and the errors of tasks that cannot be sent."""

import logging
from typing import Any

import pytest
from celery import Celery, Task, shared_task
from celery.backends import asynchronous
from celery.contrib.django.task import DjangoTask
from django.contrib.auth.models import Group
from kombu.exceptions import EncodeError

from apps.pipeline.logs.corrections import ResultBackendReconnect
from apps.pipeline.worker.task import Task as ProjectTask
from config.celery import app as project_app


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


def pay() -> None: ...


class LibraryTask(Task):  # type: ignore[type-arg]
    """The base class of a library, which does not know this project."""


class Slow(LibraryTask):
    name, default_retry_delay = "shop.slow", 7


class TestBaseClass:
    @pytest.fixture
    def app(self) -> Any:
        return Celery("bases", task_cls=project_app.task_cls, set_as_current=False)

    @pytest.mark.parametrize(
        ("base", "delay"),
        [(None, 10), (Task, 10), (DjangoTask, 10), (LibraryTask, 10), (ProjectTask, 10), (Slow, 7)],
    )
    def test_every_task_has_the_class_of_the_project(self, app: Any, base: Any, delay: int) -> None:
        task = app.task(base=base)(pay)
        assert isinstance(task, ProjectTask)
        assert isinstance(task, base or ProjectTask)
        assert task.default_retry_delay == delay

    def test_even_one_that_is_a_class(self, app: Any) -> None:
        class Slower(Slow):
            default_retry_delay = 8

        task = app.register_task(Slower())
        assert isinstance(task, ProjectTask)
        assert task.default_retry_delay == 8


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


def test_a_lost_result_backend_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("celery.backends.asynchronous")
    assert any(isinstance(each, ResultBackendReconnect) for each in logger.filters)
    logger.critical(vars(asynchronous)["E_RETRY_LIMIT_EXCEEDED"])  # as Celery logs it
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("The result backend does not answer")
