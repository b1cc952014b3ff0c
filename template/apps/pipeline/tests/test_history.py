"""The records of a worker's last tasks."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, shared_task
from celery.exceptions import Reject, Retry
from celery.signals import task_internal_error
from celery.worker import request as celery_request
from celery.worker import state
from kombu.utils.imports import symbol_by_name

from apps.pipeline.signals import task_event
from apps.pipeline.status.tasks import by_workers
from apps.pipeline.status.workers import Worker
from apps.pipeline.worker import history


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    history.unfinished.clear()
    history.done.clear()
    yield
    history.unfinished.clear()
    history.done.clear()
    for requests in (state.active_requests, state.reserved_requests, state.requests):
        requests.clear()


def receive(task_id: str = "abc", **fields: Any) -> None:
    headers = {"sent_at": 1_000.0, "retries": fields.pop("retries", 0)}
    headers |= fields.pop("headers", {})
    options = {"parent_id": None, "root_id": task_id, "group": None} | fields
    request = SimpleNamespace(
        id=task_id,
        name="shop.send",
        argsrepr="(1,)",
        kwargsrepr="{}",
        request_dict=headers,
        **options,
    )
    history.received(request)


def note(event: str, task_id: str, **fields: Any) -> None:
    task_event.send(sender=event, request=SimpleNamespace(id=task_id), fields=fields)


def seen(*workers: Worker) -> list[Any]:
    mine = Worker("celery@one", answers=True, tasks=history.latest())
    return by_workers([mine, *workers])


@shared_task(name="shop.pack", send_events=False)
def pack() -> None:
    pass


def received_by_a_worker(app: Celery) -> Any:
    """A request of the class that Celery makes for a task, in a worker that sends no events."""
    task = app.tasks[pack.name]
    base = symbol_by_name(task.Request)
    create: Any = celery_request.create_request_cls  # type: ignore[attr-defined]
    made = create(base, task, Mock(), "one@here", Mock(enabled=False), app=app)
    headers, properties, body, _ = app.amqp.as_task_v2("abc", task.name)
    message = SimpleNamespace(
        headers=headers, properties=properties, body=body, payload=body, delivery_info={}
    )
    request = made(message, app=app, eventer=Mock(enabled=False), decoded=True)
    history.received(request)
    request.on_accepted(1, 0)
    return request


def raised(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except type(error):
        return ExceptionInfo()


def test_a_success_is_noted_although_the_worker_sends_no_events(live_app: Celery) -> None:
    request = received_by_a_worker(live_app)
    request.on_success((False, "'<b>'", 1))
    [task] = seen()
    assert (task.ok, task.state, task.outcome) == (True, "succeeded", "'<b>'")
    words = [moment.words for moment in task.history]
    assert words == ["taken by the worker", "started in a process", "finished"]


def test_the_error_is_shown_if_the_main_process_learns_of_it(live_app: Celery) -> None:
    received_by_a_worker(live_app).on_failure(raised(ValueError("no tape")))
    assert seen()[0].outcome == "ValueError: no tape"


@pytest.mark.parametrize(
    ("end", "state", "traceback"),
    [
        (lambda it: it.on_failure(raised(ValueError("no tape"))), "failed", "no tape"),
        (lambda it: it.on_failure(raised(Retry("later"))), "retries", "later"),
        (lambda it: it.on_timeout(False, 5), "failed", "TimeLimitExceeded(5"),
        (lambda it: it.reject(requeue=True), "rejected", ""),
        (lambda it: it.terminate(Mock()), "revoked", ""),
    ],
)
def test_each_end_is_noted_although_the_worker_sends_no_events(
    live_app: Celery, end: Any, state: str, traceback: str
) -> None:
    end(received_by_a_worker(live_app))
    [task] = seen()
    assert task.state == state
    assert traceback in dict(task.details).get("traceback", "")
    assert not history.unfinished


@pytest.mark.parametrize(
    "end",
    [lambda it: it.on_failure(raised(Reject("mouldy"))), lambda it: it.on_timeout(False, 5)],
)
def test_a_task_is_acknowledged_although_its_outcome_cannot_be_stored(
    live_app: Celery, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError("The disk is full.")

    heard = Mock()
    monkeypatch.setattr(live_app.backend, "store_result", refuse)
    task_internal_error.connect(heard)
    request = received_by_a_worker(live_app)
    end(request)
    assert request.acknowledged
    assert str(heard.call_args.kwargs["exception"]) == "The disk is full."


@pytest.mark.parametrize("header", ["schedule", "periodic_task_name"])
def test_a_record_names_the_schedule_with_each_scheduler(header: str) -> None:
    receive(headers={header: "nightly"})
    assert history.latest()[0]["schedule"] == "nightly"


def test_a_task_that_is_retried_is_one_task_also_if_its_next_try_arrives_early() -> None:
    receive()
    note("task-started", "abc")
    receive(retries=1, parent_id="abc")
    note("task-retried", "abc", exception="away")
    note("task-started", "abc")
    note("task-failed", "abc", exception="gone", traceback="line 1")
    [task] = seen()
    assert (task.state, task.retries, task.outcome) == ("failed", 1, "gone")
    assert [moment.words for moment in task.history].count("sent to the broker") == 1
    assert task.relatives == ()
    assert not history.unfinished


def test_a_task_has_its_parent_and_its_children_also_from_another_worker() -> None:
    receive("first")
    [record] = history.latest()
    child = record | {"id": "second", "name": "shop.pay", "parent": "first"}
    first, second = seen(Worker("celery@two", answers=True, tasks=[child]))
    assert first.relatives == (("child", "second", "shop.pay"),)
    assert second.relatives == (("parent", "first", "shop.send"),)
    assert first.state == "waits"


def test_the_records_are_bounded() -> None:
    for number in range(2 * history.UNFINISHED):
        receive(f"waits {number}")
    for number in range(3 * history.DONE):
        receive(f"ends {number}")
        note("task-succeeded", f"ends {number}", result="x" * 10_000)
    assert len(history.unfinished) <= history.UNFINISHED
    assert len(history.latest()) <= 2 * history.DONE
    assert len(history.done[0]["outcome"]) == history.TEXT
    assert history.last() == ("shop.send", history.done[-1]["events"][-1][1])


def test_events_of_a_task_that_is_not_known_change_nothing() -> None:
    note("task-succeeded", "gone")
    assert history.latest() == []
