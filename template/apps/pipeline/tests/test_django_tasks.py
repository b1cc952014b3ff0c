"""Tasks of Django's Tasks API in the project's worker. They need Django 6.0 or django-tasks."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from asgiref.sync import async_to_sync
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery, current_task, states
from celery.app.backends import BACKEND_ALIASES
from celery.app.task import Task
from django.apps import apps
from django.db import transaction
from django.utils import timezone
from kombu import Queue
from kombu.exceptions import OperationalError
from kombu.utils.imports import symbol_by_name
from pytest_django import Settings

from apps.pipeline import django_tasks
from apps.pipeline.broker.backlog import waiting
from apps.pipeline.outbox import publishing, sender
from apps.pipeline.outbox.models import Message
from apps.pipeline.outbox.relay import relay
from apps.pipeline.testing import worker_thread
from apps.pipeline.tests.waiting import wait_until
from config.celery import app as project_app

if not django_tasks.is_available():
    pytest.skip("not installed: django-tasks", allow_module_level=True)

from apps.pipeline.django_tasks import api, running
from apps.pipeline.django_tasks.priorities import celery_priority

WAIT_TIMEOUT = 60  # seconds


@api.task
def add(one: int, two: int) -> int:
    return one + two


@api.task
async def add_async(one: int, two: int) -> int:
    return one + two


@api.task
def fail() -> None:
    raise KeyError("a key")


@api.task
def return_an_object() -> object:
    return object()


@api.task(takes_context=True)
def attempt_and_id(context: Any) -> list[object]:
    return [context.attempt, context.task_result.id]


done: list[str] = []


@api.task
def note(text: str) -> None:
    done.append(text)


@pytest.fixture(autouse=True)
def named(settings: Settings) -> None:
    settings.TASKS = {"default": {"BACKEND": django_tasks.BACKEND}}
    done.clear()


def finished(result: Any) -> Any:
    """The result, when the task has ended."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not result.is_finished:
        assert time.monotonic() < deadline, result
        time.sleep(0.02)
        result.refresh()
    return result


def messages(app: Celery, queue: str = "") -> int:
    """The number of messages that wait in a queue, the default queue for example."""
    with app.connection_for_read() as connection:
        return waiting(connection, queue or app.conf.task_default_queue)


class TestRunning:
    def test_a_worker_runs_the_task_and_the_result_can_be_read(self, live_worker: Celery) -> None:
        sent = add.enqueue(1, two=2)
        assert (sent.status, sent.attempts) == (api.TaskResultStatus.READY, 0)
        result = finished(add.get_result(sent.id))
        assert (result.status, result.return_value) == (api.TaskResultStatus.SUCCESSFUL, 3)
        assert (result.task, result.args, result.kwargs) == (add, [1], {"two": 2})
        assert (result.attempts, result.errors, result.backend) == (1, [], "default")
        assert result.enqueued_at <= result.started_at <= result.finished_at

    def test_coroutines_and_the_async_methods(self, live_worker: Celery) -> None:
        async def send_and_read() -> Any:
            result = await add_async.aenqueue(1, 2)
            return await add_async.aget_result(result.id)

        result = finished(async_to_sync(send_and_read)())
        async_to_sync(result.arefresh)()
        assert result.return_value == 3

    def test_an_exception_is_kept_with_its_traceback(self, live_worker: Celery) -> None:
        result = finished(fail.enqueue())
        [error] = result.errors
        assert result.status == api.TaskResultStatus.FAILED
        assert error.exception_class is KeyError
        assert error.traceback.rstrip().endswith("KeyError: 'a key'")

    def test_a_return_value_that_is_not_json_is_an_error(self, live_worker: Celery) -> None:
        [error] = finished(return_an_object.enqueue()).errors
        assert error.exception_class is TypeError

    def test_the_context_has_attempt_and_id(self, live_worker: Celery) -> None:
        result = finished(attempt_and_id.enqueue())
        assert result.return_value == [1, result.id]

    def test_run_after(self, live_worker: Celery) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=1)
        result = finished(add.using(run_after=moment).enqueue(1, 2))
        assert result.started_at >= moment == result.task.run_after

    def test_signals(self, live_worker: Celery) -> None:
        seen: list[tuple[str, str]] = []
        ended = threading.Event()

        def see(task_result: Any, signal: Any, **kwargs: object) -> None:
            seen.append((task_result.id, task_result.status))
            if signal is api.signals.task_finished:
                ended.set()

        for name in ("task_enqueued", "task_started", "task_finished"):
            getattr(api.signals, name).connect(see)
        try:
            result = finished(fail.enqueue())
            assert ended.wait(WAIT_TIMEOUT)
        finally:
            for name in ("task_enqueued", "task_started", "task_finished"):
                getattr(api.signals, name).disconnect(see)
        assert {*seen} == {(result.id, each) for each in ("READY", "RUNNING", "FAILED")}

    def test_a_message_cannot_name_another_function(self, live_worker: Celery) -> None:
        sent = running.run.apply_async(args=[call(path="os.getpid")])
        with pytest.raises(Exception, match=r"os\.getpid is not a task"):
            sent.get(timeout=WAIT_TIMEOUT)

    def test_a_task_that_a_worker_does_not_know_is_retried(
        self, live_worker: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find, tries = running.find, []

        def find_later(path: str) -> Any:
            if threading.current_thread() is not threading.main_thread():
                tries.append(current_task.request.retries)
                if len(tries) < 3:
                    raise ImportError(path)
            return find(path)

        monkeypatch.setattr(running, "find", find_later)
        monkeypatch.setattr(running, "UNKNOWN_PAUSE", 0)
        result = finished(add.enqueue(1, 2))
        assert (result.return_value, result.attempts, tries) == (3, 1, [0, 0, 0])

    def test_the_task_runs_if_the_result_backend_does_not_take_its_start(
        self, live_worker: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = live_worker.backend.store_result

        def store_all_but_starts(task_id: str, result: Any, state: str, **kwargs: Any) -> Any:
            if state == states.STARTED:
                raise ConnectionError
            return store(task_id, result, state, **kwargs)

        monkeypatch.setattr(live_worker.backend, "store_result", store_all_but_starts)
        assert finished(add.enqueue(1, 2)).return_value == 3


def test_an_eager_task_runs_at_once(celery_app: Celery) -> None:
    note.enqueue("now")
    assert done == ["now"]
    with pytest.raises(KeyError):
        fail.enqueue()


def call(**values: object) -> dict[str, Any]:
    """A call as it is in a message."""
    options = {"backend": "default", "priority": 0, "queue_name": "default", "run_after": None}
    empty = {"args": [], "kwargs": {}, "worker_ids": [], "started_at": None}
    moment = datetime.now(UTC).isoformat()
    times = {"enqueued_at": moment, "last_attempted_at": None}
    return {"options": options, **empty, **times, **values}


def taken(app: Celery, result_id: str) -> running.Request:
    """The request with which a worker follows the fourth attempt of `add`, which has started."""
    headers, properties, body, _ = app.amqp.as_task_v2(
        result_id, running.run.name, args=(call(path=add.module_path, args=[1, 2]),), retries=3
    )
    message = SimpleNamespace(
        headers=headers,
        properties=properties,
        body=body,
        payload=body,
        delivery_info={"routing_key": "celery"},
        content_type="application/json",
        content_encoding="utf-8",
    )
    request = running.Request(message, app=app, hostname="celery@one", decoded=True)
    request.time_start = time.time()
    return request


def test_a_killed_process_is_an_attempt_of_the_next_call_and_of_the_result(
    live_app: Celery,
) -> None:
    sent = add.enqueue(1, 2)
    request = taken(live_app, sent.id)
    try:
        raise WorkerLostError("signal 9")
    except WorkerLostError:
        request.on_failure(ExceptionInfo())
    result = add.get_result(sent.id)
    assert (result.status, result.worker_ids) == (api.TaskResultStatus.FAILED, ["celery@one"])
    assert result.started_at
    assert result.errors[0].exception_class is WorkerLostError
    assert request._context.args[0]["worker_ids"] == ["celery@one"]


def test_its_requests_are_those_of_the_template() -> None:
    assert issubclass(running.Request, symbol_by_name(Task.Request))


@pytest.mark.skipif(
    not apps.is_installed("apps.pipeline.failed"), reason="failed tasks are not kept"
)
def test_a_task_that_a_time_limit_ends_is_kept_with_its_queue(live_worker: Celery) -> None:
    from apps.pipeline.failed.models import FailedTask

    taken(live_worker, "the-id").on_timeout(False, 5)
    wait_until(FailedTask.objects.exists)
    row = FailedTask.objects.get()
    assert (row.task_id, row.reason) == ("the-id", "time limit")
    assert (row.queue, row.worker, row.attempts) == ("celery", "celery@one", 4)


class TestSending:
    def test_the_default_queue_is_the_projects(self, live_app: Celery) -> None:
        add.enqueue(1, 2)
        assert messages(live_app) == 1

    def test_a_declared_queue(self, live_app: Celery, settings: Settings) -> None:
        live_app.conf.task_queues = [Queue("mail")]
        settings.TASKS = {"default": {"BACKEND": django_tasks.BACKEND}}
        add.using(queue_name="mail").enqueue(1, 2)
        assert messages(live_app, "mail") == 1

    @pytest.mark.parametrize("queues", [{}, {"QUEUES": []}])
    def test_an_undeclared_queue_is_refused(self, settings: Settings, queues: Any) -> None:
        settings.TASKS = {"default": {"BACKEND": django_tasks.BACKEND, **queues}}
        with pytest.raises(api.InvalidTask, match="mail"):
            add.using(queue_name="mail")

    @pytest.mark.django_db
    def test_it_is_sent_at_once_inside_a_transaction(self, live_app: Celery) -> None:
        with transaction.atomic():
            add.enqueue(1, 2)
            assert messages(live_app) == 1

    def test_what_waits_runs_in_the_order_of_its_priority(
        self, live_app: Celery, transactional_db: None
    ) -> None:
        for priority in (-100, -1, 0):
            last = note.using(priority=priority).enqueue(str(priority))
        with worker_thread(live_app):
            finished(last)
            wait_until(lambda: len(done) == 3)
        assert done == ["0", "-1", "-100"]

    @pytest.mark.usefixtures("live_app")
    def test_a_priority_that_the_broker_does_not_have_is_refused(self) -> None:
        with pytest.raises(api.InvalidTask, match="CELERY_TASK_DEFAULT_PRIORITY = 3"):
            add.using(priority=1)

    def test_nothing_is_kept_of_a_task_that_the_broker_does_not_take(
        self, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(producer: Any, name: str, message: Any, **options: Any) -> None:
            ids.append(message.headers["id"])
            raise OperationalError

        ids: list[str] = []
        monkeypatch.setattr(live_app.amqp, "send_task_message", refuse)
        with pytest.raises(OperationalError):
            add.enqueue(1, 2)
        with pytest.raises(api.TaskResultDoesNotExist):
            add.get_result(ids[0])

    def test_a_result_backend_that_does_not_answer_is_named(
        self, live_app: Celery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: object, **options: object) -> None:
            raise ConnectionError("no route")

        monkeypatch.setattr(live_app.backend, "store_result", refuse)
        with pytest.raises(OperationalError, match=r"did not accept .*\.add: no route"):
            add.enqueue(1, 2)
        assert messages(live_app) == 0

    @pytest.mark.django_db(transaction=True)
    def test_with_the_outbox_neither_broker_nor_results_have_to_answer(
        self, live_app: Celery, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.TASK_OUTBOX = True
        for name, path in sender.RESULT_BACKENDS.items():
            monkeypatch.setitem(BACKEND_ALIASES, name, path)
        sender.install(live_app)
        with monkeypatch.context() as away, transaction.atomic():
            away.setattr(live_app.backend, "store_result", Mock(side_effect=ConnectionError))
            away.setattr(publishing, "is_paused", lambda: True)
            sent = add.enqueue(1, 2)
            with pytest.raises(api.TaskResultDoesNotExist):
                add.get_result(sent.id)
        Message.objects.update(due_at=timezone.now())
        relay(live_app)
        assert add.get_result(sent.id).status == api.TaskResultStatus.READY
        assert messages(live_app) == 1


class TestResults:
    @pytest.mark.usefixtures("live_app")
    def test_an_unknown_result_does_not_exist(self) -> None:
        with pytest.raises(api.TaskResultDoesNotExist):
            add.get_result("unknown")

    def test_without_a_result_backend_tasks_are_sent_and_results_not_read(
        self, live_app: Celery
    ) -> None:
        live_app.conf.update(result_backend="disabled://")
        assert not add.get_backend().supports_get_result
        result = add.enqueue(1, 2)
        assert messages(live_app) == 1
        with pytest.raises(NotImplementedError):
            result.refresh()

    @pytest.mark.skipif(
        not apps.is_installed("django_celery_results"), reason="results are not in the database"
    )
    @pytest.mark.django_db
    def test_results_in_the_database(self, live_app: Celery) -> None:
        live_app.conf.update(result_backend="django-db")
        sent = fail.enqueue()
        assert fail.get_result(sent.id).status == api.TaskResultStatus.READY
        with pytest.raises(api.TaskResultDoesNotExist):
            add.get_result("unknown")


class TestPriorities:
    @pytest.fixture
    def app(self) -> Iterator[Celery]:
        app = Celery("priorities", amqp=project_app.amqp_cls, set_as_current=False)
        yield app
        app.close()

    @pytest.mark.parametrize(
        ("broker", "default", "expected"),
        [
            ("redis://", None, {0: None, -1: 3, -50: 6, -100: 9}),
            ("redis://", 3, {1: 0, 100: 0, -1: 6, -50: 6, -51: 9, -100: 9}),
            ("rediss://", 5, {1: 0, -100: 9}),
            ("amqp://", None, {1: 5, 100: 5}),
            ("amqp://", 5, {-1: 0, -100: 0}),
            ("memory://", None, {-1: None, 1: None}),
            ("sqs://", None, {0: None}),
        ],
    )
    def test_levels_of_a_broker(
        self, app: Celery, broker: str, default: int | None, expected: dict[int, int | None]
    ) -> None:
        app.conf.update(broker_url=broker, task_default_priority=default)
        app.conf.task_create_missing_queue_type = "quorum"
        assert {each: celery_priority(app, "celery", each) for each in expected} == expected

    def test_a_classic_queue_with_priorities(self, app: Celery) -> None:
        mail = Queue("mail", queue_arguments={"x-max-priority": 4})
        app.conf.update(broker_url="amqp://", task_queues=[mail])
        assert [celery_priority(app, "mail", each) for each in (1, 25, 26, 100)] == [1, 1, 2, 4]

    @pytest.mark.parametrize(
        ("broker", "priority", "hint"),
        [
            ("redis://", 1, "before the default. Set CELERY_TASK_DEFAULT_PRIORITY = 3 for that."),
            ("amqp://", -1, "after the default. Set CELERY_TASK_DEFAULT_PRIORITY = 5 for that."),
            ("sqs://", 1, "before the default."),
            ("sqs://", -1, "after the default."),
        ],
    )
    def test_a_priority_without_a_level(
        self, app: Celery, broker: str, priority: int, hint: str
    ) -> None:
        app.conf.update(broker_url=broker, task_create_missing_queue_type="quorum")
        with pytest.raises(LookupError) as caught:
            celery_priority(app, "celery", priority)
        assert caught.value.args[0].endswith(hint)
