"""Several Beats send each due time once. The tests start and kill Beats on a real broker."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest
import redis
from django.conf import settings

from apps.pipeline.testing import running

WAIT_TIMEOUT = 60  # seconds
TAKEOVER = 60  # seconds; on a machine that is not busy 1, and 12 where a lease has to end


class Queue:
    """Takes the messages of Beats from the broker, and records when they were sent."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._stop = Event()
        self._thread = Thread(target=self._take)
        self.times: list[float] = []
        self.senders: list[str] = []

    def __enter__(self) -> "Queue":
        self._client.flushdb()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _take(self) -> None:
        while not self._stop.is_set():
            message = self._client.brpop(["celery"], timeout=0.2)
            if message and b"tick" in message[1]:
                headers = json.loads(message[1])["headers"]
                self.senders.append(headers["origin"])
                self.times.append(headers["sent_at"])

    def wait_for(self, count: int, within: float = WAIT_TIMEOUT) -> None:
        deadline = time.monotonic() + within
        while len(self.times) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(self.times) >= count

    def assert_none_twice(self) -> None:
        """Assert that one Beat sent, then the other, and no due time was sent by both."""
        senders = sorted(set(self.senders), key=self.senders.index)
        assert len(senders) == 2
        assert self.senders == sorted(self.senders, key=senders.index)
        second = self.senders.index(senders[1])
        assert self.times[second] - self.times[second - 1] > 0.5


class Beats:
    """Beats that share the database, the broker and the runtime directory."""

    def __init__(self, broker: str, directory: Path, stack: ExitStack) -> None:
        self._broker = broker
        self._directory = directory
        self._stack = stack
        self.logs: list[Path] = []

    def start(self) -> Path:
        own = self._directory / f"beat-{len(self.logs)}"
        own.mkdir()
        self.logs.append(
            self._stack.enter_context(
                running(
                    "beat",
                    *("-l", "info"),
                    broker=self._broker,
                    directory=own,
                    RUNTIME_DIR=str(self._directory),
                    CELERY_BEAT_SCHEDULE_FILENAME=str(self._directory / "celerybeat-schedule"),
                    DJANGO_SETTINGS_MODULE="tests.settings",
                )
            )
        )
        return self.logs[-1]

    def leaders(self) -> list[int]:
        """The process ids of the leaders, in the order of the logs."""
        return [
            int(number)
            for log in self.logs
            for number in re.findall(r"Process (\d+) leads", log.read_text())
        ]

    def wait_for_a_standby(self) -> None:
        deadline = time.monotonic() + WAIT_TIMEOUT
        while not any("stands by" in log.read_text() for log in self.logs):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def broker(broker_url: str) -> str:
    """The URL of a database in the embedded broker that no other test uses."""
    return broker_url.removesuffix("/0") + "/7"


@pytest.fixture
def beats(transactional_db: None, broker: str, tmp_path: Path) -> Iterator[Beats]:
    with ExitStack() as stack:
        yield Beats(broker, tmp_path, stack)


@pytest.mark.faults
def test_a_standby_sends_nothing_until_the_leader_stops(beats: Beats, broker: str) -> None:
    # After a kill, redbeat's lock ends with its lease. The long test below measures this time.
    end = signal.SIGTERM if "redbeat" in settings.CELERY_BEAT_SCHEDULER else signal.SIGKILL
    with Queue(broker) as queue:
        for _ in range(2):
            beats.start()
        queue.wait_for(1)
        beats.wait_for_a_standby()
        queue.wait_for(len(queue.times) + 1)
        [leader] = beats.leaders()
        os.kill(leader, end)
        queue.wait_for(len(queue.times) + 2, within=TAKEOVER)
        assert len(set(beats.leaders())) == 2
    queue.assert_none_twice()


@pytest.mark.faults
def test_two_beats_for_half_a_minute_then_one_is_killed(
    beats: Beats, broker: str, record_property: Callable[[str, object], None]
) -> None:
    with Queue(broker) as queue:
        for _ in range(2):
            beats.start()
        queue.wait_for(1)
        beats.wait_for_a_standby()
        began, before = time.monotonic(), len(queue.times)
        time.sleep(30)
        queue.wait_for(before + 10)  # later on a busy machine
        assert len(queue.times) - before <= time.monotonic() - began + 1
        [leader] = beats.leaders()
        os.kill(leader, signal.SIGKILL)
        killed, before = time.time(), len(queue.times)
        queue.wait_for(before + 1, within=TAKEOVER)
        record_property("takeover in seconds", round(queue.times[before] - killed, 1))
        time.sleep(10)
        queue.wait_for(before + 3)
        assert len(queue.times) - before <= time.time() - queue.times[before] + 2
    queue.assert_none_twice()
