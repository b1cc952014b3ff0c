"""The system as a whole: a real broker, a real worker, a real Beat."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord, shared_task
from celery.signals import task_success
from django.contrib.auth import get_user_model
from django.db import transaction
from kombu import Queue
from pytest_django import Settings

from apps.pipeline import heartbeat, status
from apps.pipeline.tasks import ping
from apps.pipeline.testing import running
from apps.pipeline.trace import trace

PATIENCE = 60  # seconds to wait for what takes one or two


@shared_task
def echo(message: str) -> str:
    return message


@shared_task
def count_users() -> int:
    return get_user_model().objects.count()


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.fixture
def done(live_worker: Celery) -> Iterator[list[object]]:
    """The results of the tasks that the worker has done, as they come."""
    results: list[object] = []

    def note(result: object, **kwargs: Any) -> None:
        results.append(result)

    task_success.connect(note, weak=False)
    yield results
    task_success.disconnect(note)


def wait_for(results: list[object], count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(results) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(results) >= count


def test_a_task_comes_back_with_its_result(live_worker: Celery) -> None:
    assert echo.delay("Hello").get(timeout=PATIENCE) == "Hello"


def test_a_countdown_is_kept(live_worker: Celery) -> None:
    started = time.monotonic()
    result = echo.apply_async(args=["later"], countdown=1)
    assert result.get(timeout=PATIENCE) == "later"
    assert time.monotonic() - started >= 1


def test_a_chord_joins_the_results_of_its_tasks(live_worker: Celery) -> None:
    header = [count_users.s() for _ in range(3)]
    assert chord(header)(total.s()).get(timeout=PATIENCE) == 0


def test_a_task_sent_on_commit_sees_what_was_committed(done: list[object]) -> None:
    with transaction.atomic():
        get_user_model().objects.create(username="ada")
        count_users.delay_on_commit()
        time.sleep(0.2)
        assert done == []
    wait_for(done, 1)
    assert done == [1]


def test_a_task_of_a_transaction_rolled_back_is_never_sent(done: list[object]) -> None:
    with transaction.atomic():
        echo.delay_on_commit("never")
        transaction.set_rollback(True)
    echo.delay("marker")
    wait_for(done, 1)
    assert done == ["marker"]


def test_beat_sends_what_is_due_to_the_worker_and_leaves_a_heartbeat(
    done: list[object], broker_url: str, tmp_path: Path, settings: Settings
) -> None:
    settings.RUNTIME_DIR = tmp_path
    with running(
        "beat", broker=broker_url, directory=tmp_path, DJANGO_SETTINGS_MODULE="tests.settings"
    ):
        wait_for(done, 2)
        age = heartbeat.age("beat")
        assert age is not None
        assert age < heartbeat.STALE_AFTER
    assert set(done) == {"pong"}
    assert heartbeat.age("beat") is None


def test_the_trace_of_a_task_names_every_leg(live_worker: Celery) -> None:
    seen = trace(echo, "Hello")
    assert (seen.ok, seen.outcome) == (True, "Hello")
    assert [leg.name for leg in seen.legs] == [
        "web to broker",
        "broker to worker",
        "wait for a free process",
        "the task itself",
        "result back to web",
    ]


def test_the_trace_says_that_nobody_took_the_task(live_app: Celery) -> None:
    seen = trace(echo, "Hello", timeout=0.5)
    assert not seen.ok
    assert seen.outcome == "The broker has it, and no worker took it within 0 s."


def test_a_queue_with_tasks_is_red_until_a_worker_takes_from_it(
    live_app: Celery, broker_url: str, tmp_path: Path, settings: Settings, transactional_db: None
) -> None:
    settings.RUNTIME_DIR = tmp_path
    live_app.conf.task_queues = [Queue("mail")]
    live_app.tasks[ping.name].apply_async(queue="mail")
    seen = status.queues()
    assert (seen.ok, seen.words) == (
        False,
        "0 waiting in celery, which no worker takes from; "
        "1 waiting in mail, which no worker takes from",
    )
    with running(
        "worker",
        "--concurrency=1",
        broker=broker_url,
        directory=tmp_path,
        DJANGO_SETTINGS_MODULE="tests.settings",
    ):
        deadline = time.monotonic() + PATIENCE
        while status.queues().words != "0 waiting in celery; 0 waiting in mail":
            assert time.monotonic() < deadline, status.queues()
            time.sleep(0.1)
        assert status.queues().ok
    assert "which no worker takes from" in status.queues().words
