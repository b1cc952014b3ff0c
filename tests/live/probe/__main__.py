"""Sends tasks as a web process does, and checks their results: `python -m apps.probe`."""

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import django
from celery import Celery, chord
from django.utils import timezone

from config.celery import app

WAIT_TIMEOUT = 300  # seconds, for a very busy machine

django.setup()

from apps.probe.tasks import add, echo, total, unlucky  # noqa: E402 - Django comes first

BROKER: str = app.conf.broker_url
BACKEND: str = app.conf.result_backend
KEEPS_RESULTS = BACKEND != "disabled://"
JOINS_RESULTS = KEEPS_RESULTS and BACKEND != "rpc://"


def noted(true: Callable[[str, str, object], bool]) -> tuple[object, float]:
    """Wait for the record of a task that matches. Return its result and its time."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    notes = Path(os.environ["PROBE_NOTES"])
    while time.monotonic() < deadline:
        for line in notes.read_text().splitlines() if notes.exists() else ():
            task_id, name, result, at = json.loads(line)
            if true(task_id, name, result):
                return result, at
        time.sleep(0.05)
    raise AssertionError("no such task was done: the logs of worker and Beat say why")


def is_refused(call: Callable[[], object]) -> bool:
    """Whether Celery raises an error because the result backend does not support the call."""
    try:
        call()
    except NotImplementedError:
        return True
    return False


def elsewhere() -> Celery:
    """Send a task from a program without the project's code, as in docs/brokers.md."""
    os.environ.pop("CELERY_RESULT_BACKEND", None)  # it overrides the settings
    client = Celery("elsewhere", broker=BROKER, set_as_current=False)
    for name in ("broker_use_ssl", "broker_transport_options"):
        client.conf[name] = app.conf[name]
    if BROKER.startswith("amqp"):
        client.conf.update(task_default_queue_type="quorum", task_default_exchange_type="topic")
    return client


if __name__ == "__main__":
    due = timezone.now() + timedelta(seconds=3)
    sum_of_two = add.delay(2, 3)
    retried = unlucky.delay()
    waited = echo.apply_async(args=["later"], eta=due)
    if JOINS_RESULTS:
        joined = chord([add.s(1, 1), add.s(2, 2)])(total.s())
        assert joined.get(timeout=WAIT_TIMEOUT) == 6
    else:
        assert is_refused(lambda: chord([add.s(1, 1), add.s(2, 2)])(total.s()))

    if KEEPS_RESULTS:
        assert sum_of_two.get(timeout=WAIT_TIMEOUT) == 5
    else:
        assert is_refused(lambda: sum_of_two.get(timeout=WAIT_TIMEOUT))
    assert noted(lambda task_id, *_: task_id == sum_of_two.id)[0] == 5
    assert noted(lambda task_id, *_: task_id == retried.id)[0] == 1

    word, at = noted(lambda task_id, *_: task_id == waited.id)
    assert (word, at >= due.timestamp()) == ("later", True)

    foreign = elsewhere().send_task("apps.probe.tasks.echo", ["from elsewhere"])
    assert noted(lambda task_id, *_: task_id == foreign.id)[0] == "from elsewhere"

    word = os.environ["PROBE_WORD"]
    noted(lambda _, name, result: (name, result) == (echo.name, word))
    print(
        "A result, a retry, an ETA, another program, Beat",
        *(["and a chord"] if JOINS_RESULTS else []),
    )
