"""All parts together: a real broker, a real worker and a real Beat."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chord, shared_task
from celery.signals import task_success
from celery.worker.control import Panel
from django.contrib.auth.models import Group
from django.db import transaction
from kombu import Queue
from pytest_django import Settings

from apps.pipeline.broker.queues import declared
from apps.pipeline.broker.redis.transport import Transport
from apps.pipeline.liveness import heartbeat
from apps.pipeline.status import report
from apps.pipeline.status.parts import Part
from apps.pipeline.status.queues import queues
from apps.pipeline.status.trace import Trace, follow
from apps.pipeline.status.workers import workers
from apps.pipeline.tasks import ping
from apps.pipeline.testing import running
from apps.pipeline.tests.waiting import wait_until
from apps.pipeline.worker import answer

WAIT_TIMEOUT = 60  # seconds


@shared_task
def echo(message: str) -> str:
    return message


@shared_task
def count_groups() -> int:
    return Group.objects.filter(name="ada").count()


@shared_task(autoretry_for=[ValueError], max_retries=1, retry_backoff=False, default_retry_delay=0)
def fail() -> None:
    raise ValueError("no such shop")


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.fixture
def done(live_worker: Celery) -> Iterator[list[object]]:
    """A list that gets the result of each task that the worker has run."""
    results: list[object] = []

    def note(result: object, **kwargs: Any) -> None:
        results.append(result)

    task_success.connect(note, weak=False)
    yield results
    task_success.disconnect(note)


def wait_for(results: list[object], count: int) -> None:
    wait_until(lambda: len(results) >= count)


def test_a_task_returns_its_result(live_worker: Celery) -> None:
    assert echo.delay("Hello").get(timeout=WAIT_TIMEOUT) == "Hello"


def test_a_task_with_a_countdown_waits(live_worker: Celery) -> None:
    started = time.monotonic()
    result = echo.apply_async(args=["later"], countdown=0.5)
    assert result.get(timeout=WAIT_TIMEOUT) == "later"
    assert time.monotonic() - started >= 0.5


def test_a_chord_joins_the_results_of_its_tasks(live_worker: Celery) -> None:
    header = [count_groups.s() for _ in range(3)]
    assert chord(header)(total.s()).get(timeout=WAIT_TIMEOUT) == 0


def test_a_task_sent_on_commit_sees_the_committed_rows(done: list[object]) -> None:
    with transaction.atomic():
        Group.objects.create(name="ada")
        count_groups.delay_on_commit()
        echo.delay("sent at once")
        wait_for(done, 1)
        assert done == ["sent at once"]
    wait_for(done, 2)
    assert done == ["sent at once", 1]


def test_a_rollback_discards_the_task(done: list[object]) -> None:
    with transaction.atomic():
        echo.delay_on_commit("never")
        transaction.set_rollback(True)
    echo.delay("marker")
    wait_for(done, 1)
    assert done == ["marker"]


def test_beat_sends_due_tasks_and_writes_a_heartbeat(
    done: list[object], live_app: Celery, broker_url: str, tmp_path: Path, settings: Settings
) -> None:
    settings.RUNTIME_DIR, live_app.conf.redbeat_redis_url = tmp_path, broker_url
    with running(
        "beat", broker=broker_url, directory=tmp_path, DJANGO_SETTINGS_MODULE="tests.settings"
    ):
        wait_for(done, 2)
        age = heartbeat.age("beat")
        assert age is not None
        assert age < heartbeat.STALE_AFTER
        part = report.beat(Part("broker", True, "answers"))
        assert (part.ok, part.words.partition(", ")[2]) == (True, "a Beat leads"), part.words
    assert set(done) == {"pong"}
    assert heartbeat.age("beat") is None


def trace(task: Any, *args: object, timeout: float) -> Trace:
    """Follow the task to its end."""
    *_, seen = follow(task, *args, timeout=timeout)
    return seen


@pytest.fixture
def events_in_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace waits for events, and does not end early because the result is there."""
    monkeypatch.setattr("apps.pipeline.status.trace._is_stored", lambda _: False)


@pytest.mark.usefixtures("events_in_any_time")
def test_the_trace_lists_all_steps(live_worker: Celery) -> None:
    seen = trace(echo, "Hello", timeout=WAIT_TIMEOUT)
    assert (seen.ok, seen.outcome) == (True, "Hello")
    assert [step.name for step in seen.steps] == [
        "web to broker",
        "broker to worker",
        "wait for a free process",
        "run the task",
        "return the result to web",
    ]


@pytest.mark.usefixtures("events_in_any_time")
def test_the_trace_grows_with_each_event(live_worker: Celery) -> None:
    followed = follow(echo, "Hello", timeout=WAIT_TIMEOUT)
    assert [len(seen.steps) for seen in followed] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("events_in_any_time")
def test_the_trace_counts_retries_and_has_the_error(live_worker: Celery) -> None:
    seen = trace(fail, timeout=WAIT_TIMEOUT)
    assert (seen.ok, seen.retries) == (False, 1)
    assert "no such shop" in seen.outcome


def test_without_events_the_trace_has_the_result(
    live_app: Celery, request: pytest.FixtureRequest
) -> None:
    live_app.conf.update(task_send_sent_event=False, worker_send_task_events=False)
    request.getfixturevalue("live_worker")
    seen = trace(echo, "Hello", timeout=WAIT_TIMEOUT)
    assert (seen.ok, seen.outcome) == (True, "Hello")
    assert [step.name for step in seen.steps][1:] == ["broker, worker and back, without events"]
    failed = trace(fail, timeout=WAIT_TIMEOUT)
    assert (failed.ok, failed.outcome) == (False, "ValueError('no such shop')")


def test_on_sqs_the_trace_creates_no_receiver_of_events(
    live_worker: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("it creates a queue that nobody deletes")

    monkeypatch.setattr(Transport, "driver_type", "sqs")
    monkeypatch.setattr(live_worker.events, "Receiver", refuse)
    seen = trace(echo, "Hello", timeout=WAIT_TIMEOUT)
    assert (seen.ok, seen.outcome) == (True, "Hello")
    assert [step.name for step in seen.steps][1:] == ["broker, worker and back, without events"]


def test_a_worker_answers_what_it_does(live_worker: Celery) -> None:
    assert answer.describe_worker in Panel.data.values(), "the worker's steps import it"
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not (found := [worker for worker in workers() or () if worker.answers]):
        assert time.monotonic() < deadline  # a busy machine can need more than one call
    [one] = found
    assert (one.processes, one.busy) == (1, 0)
    assert sorted(one.queues) == sorted(declared(live_worker.conf))
    assert one.memory is None or one.memory > 1_000_000


def test_the_trace_says_that_no_worker_took_the_task(live_app: Celery) -> None:
    seen = trace(echo, "Hello", timeout=0.5)
    assert not seen.ok
    assert seen.outcome == "The task is in the broker. No worker took it within 0 s."


def test_a_queue_with_tasks_is_red_until_a_worker_consumes_it(
    live_app: Celery, broker_url: str, tmp_path: Path, settings: Settings, transactional_db: None
) -> None:
    settings.RUNTIME_DIR = tmp_path
    live_app.conf.task_queues = [Queue("mail")]
    live_app.tasks[ping.name].apply_async(queue="mail")
    seen, default = queues(), live_app.conf.task_default_queue
    nobody = "which no worker consumes"
    red = rf"0 waiting in {default}, {nobody}; 1 waiting in mail, the oldest for \d+ s, {nobody}"
    assert (seen.ok, re.fullmatch(red, seen.words) is not None) == (False, True), seen.words
    with running(
        "worker",
        "--concurrency=1",
        broker=broker_url,
        directory=tmp_path,
        DJANGO_SETTINGS_MODULE="tests.settings",
    ):
        green = rf"0 waiting in {default}, which (celery@\S+) consumes; "
        green += r"0 waiting in mail, which \1 consumes"
        wait_until(lambda: re.fullmatch(green, queues().words))
        assert queues().ok
    assert nobody in queues().words
