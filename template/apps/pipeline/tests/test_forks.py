"""A pool process does not inherit locks that a thread of the worker held."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
from celery import current_app
from celery.worker import WorkController

from apps.pipeline.broker.redis.lease import Renewal as RedisRenewal
from apps.pipeline.broker.sqs.lease import Renewal as SQSRenewal
from apps.pipeline.liveness.forks import ForkLock
from apps.pipeline.worker.heartbeat import Heartbeat

Guard = AbstractContextManager[None]


@pytest.fixture(autouse=True)
def long_fork_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a thread may hold its lock for longer than a fork waits in production."""
    monkeypatch.setattr(ForkLock, "TIMEOUT", 60)


@contextmanager
def thread_holds(lock: threading.Lock, guard: Guard) -> Iterator[Callable[[], None]]:
    """A thread that holds the lock under this guard, until the returned function is called."""
    held, ended = threading.Event(), threading.Event()

    def work() -> None:
        with guard, lock:
            held.set()
            ended.wait()

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    try:
        yield ended.set
    finally:
        ended.set()
        thread.join()


def child_takes(lock: threading.Lock) -> bool:
    """Fork, and return whether the new process can take the lock."""
    if not (child := os.fork()):
        os._exit(0 if lock.acquire(timeout=0.5) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_a_fork_lock_a_process_inherits_the_locks_of_threads() -> None:
    lock = threading.Lock()
    with thread_holds(lock, nullcontext()):
        assert not child_takes(lock)


def test_a_fork_waits_until_the_thread_has_worked() -> None:
    lock = threading.Lock()
    with thread_holds(lock, ForkLock()) as end:
        threading.Timer(0.2, end).start()
        assert child_takes(lock)


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForkLock, "TIMEOUT", 0.1)
    lock, guard = threading.Lock(), ForkLock()
    with thread_holds(lock, guard):
        assert not child_takes(lock)
    with guard:  # the fork has not released what it did not hold
        pass


@pytest.mark.parametrize(
    ("cls", "step", "run"),
    [
        (RedisRenewal, "renew_until_ended", lambda renewal: renewal.run()),
        (SQSRenewal, "_renew_until_ended", lambda renewal: renewal.run()),
        (Heartbeat, "_consumes", lambda heartbeat: heartbeat._watch(None)),
    ],
)
def test_a_fork_waits_for_the_threads_of_a_worker(
    cls: Any, step: str, run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, held = threading.Lock(), threading.Event()
    worker = cls.__new__(cls)
    worker.app, worker.ended = current_app, threading.Event()

    def work(*args: Any) -> bool:
        worker.ended.set()
        with lock:
            held.set()
            time.sleep(0.2)
        return False

    monkeypatch.setattr(cls, step, work)
    thread = threading.Thread(target=run, args=(worker,))
    thread.start()
    held.wait()
    assert child_takes(lock)
    thread.join()


def test_a_process_forks_while_the_thread_waits() -> None:
    guard, event = ForkLock(), threading.Event()
    waits = threading.Event()

    def work() -> None:
        with guard:
            waits.set()
            guard.wait(event, 60)

    thread = threading.Thread(target=work)
    thread.start()
    waits.wait()
    signal.alarm(50)  # ends the test if the fork waits for the thread
    assert child_takes(threading.Lock())
    signal.alarm(0)
    event.set()
    thread.join()


@pytest.mark.parametrize("reverse", [False, True])
def test_the_threads_of_a_worker_start_after_its_pool(reverse: bool) -> None:
    """Celery keeps the steps in a set, whose order differs from process to process."""
    blueprint: Any = WorkController.Blueprint(steps=current_app.steps["worker"])
    steps = sorted(blueprint.claim_steps().items(), reverse=reverse)
    names = [step.__name__ for step in blueprint._finalize_steps(dict(steps))]
    assert names.index("Pool") < min(names.index("Lease"), names.index("SoftShutdown"))
