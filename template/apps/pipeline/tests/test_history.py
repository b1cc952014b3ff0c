"""The records of a worker's last tasks."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import current_app

from apps.pipeline.status.tasks import by_workers
from apps.pipeline.status.workers import Worker
from apps.pipeline.worker import history


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    history.under_way.clear()
    history.done.clear()
    yield
    history.under_way.clear()
    history.done.clear()


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


def seen(*workers: Worker) -> list[Any]:
    mine = Worker("celery@one", answers=True, tasks=history.latest())
    return by_workers([mine, *workers])


def test_a_dispatcher_that_sends_nothing_notes_the_events_of_tasks() -> None:
    link = current_app.connection_for_write("memory://")
    dispatcher = current_app.events.Dispatcher(link, groups=["worker"])
    receive()
    dispatcher.send("task-started", uuid="abc")
    dispatcher.send("task-succeeded", uuid="abc", result="'<b>'", runtime=1)
    [task] = seen()
    assert (task.ok, task.state, task.outcome) == (True, "succeeded", "'<b>'")
    words = [moment.words for moment in task.history]
    assert words == [
        "sent to the broker",
        "taken by the worker",
        "started in a process",
        "finished",
    ]


@pytest.mark.parametrize("header", ["schedule", "periodic_task_name"])
def test_a_record_names_the_schedule_with_each_scheduler(header: str) -> None:
    receive(headers={header: "nightly"})
    assert history.latest()[0]["schedule"] == "nightly"


def test_a_task_that_is_retried_is_one_task_also_if_its_next_try_arrives_early() -> None:
    receive()
    history.note("task-started", {"uuid": "abc"})
    receive(retries=1, parent_id="abc")
    history.note("task-retried", {"uuid": "abc", "exception": "away"})
    history.note("task-started", {"uuid": "abc"})
    history.note("task-failed", {"uuid": "abc", "exception": "gone", "traceback": "line 1"})
    [task] = seen()
    assert (task.state, task.retries, task.outcome) == ("failed", 1, "gone")
    assert [moment.words for moment in task.history].count("sent to the broker") == 1
    assert task.relatives == ()
    assert not history.under_way


def test_a_task_has_its_parent_and_its_children_also_from_another_worker() -> None:
    receive("first")
    [record] = history.latest()
    child = record | {"id": "second", "name": "shop.pay", "parent": "first"}
    first, second = seen(Worker("celery@two", answers=True, tasks=[child]))
    assert first.relatives == (("child", "second", "shop.pay"),)
    assert second.relatives == (("parent", "first", "shop.send"),)
    assert first.state == "waits"


def test_the_records_are_bounded() -> None:
    for number in range(2 * history.UNDER_WAY):
        receive(f"waits {number}")
    for number in range(3 * history.DONE):
        receive(f"ends {number}")
        history.note("task-succeeded", {"uuid": f"ends {number}", "result": "x" * 10_000})
    assert len(history.under_way) <= history.UNDER_WAY
    assert len(history.latest()) <= 2 * history.DONE
    assert len(history.done[0]["outcome"]) == history.TEXT
    assert history.last() == ("shop.send", history.done[-1]["events"][-1][1])


def test_events_of_a_task_that_is_not_known_change_nothing() -> None:
    history.note("task-succeeded", {"uuid": "gone"})
    assert history.latest() == []
