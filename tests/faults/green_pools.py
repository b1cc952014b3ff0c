"""Workers with the pools gevent and eventlet, on Redis. A test copies this file into a project.

eventlet is used if it is installed. The environment of the tests does not have it, because it is
deprecated, and other packages that find it print a warning.
"""

import random
import signal
import time
from importlib.util import find_spec

import pytest

from apps.pipeline.broker.redis import lease
from tests.faults.harness import APP, WAIT_TIMEOUT, System
from tests.faults.servers import Server, wait_until

TASKS_AT_ONCE = 50

pools = pytest.mark.parametrize("pool", [*filter(find_spec, ["gevent", "eventlet"])])


def options(pool: str) -> tuple[str, ...]:
    return ("--pool", pool, "--concurrency", str(TASKS_AT_ONCE))


def send(system: System, first: int, count: int, task: str, *arguments: float) -> dict[str, str]:
    """Send tasks. Return their numbers as keys."""
    with system.app.producer_pool.acquire(block=True) as producer:
        for number in range(first, first + count):
            system.app.send_task(
                f"{APP}.tasks.{task}", [number, *arguments], ignore_result=True, producer=producer
            )
    return {str(number): "" for number in range(first, first + count)}


def run_twice(system: System, sent: dict[str, str]) -> int:
    """How many tasks ran twice, when no worker holds a message any more."""
    wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")
    return sum(system.runs("done", number) - 1 for number in sent)


@pools
@pytest.mark.faults("gevent and eventlet: SIGTERM while tasks wait")
def test_a_worker_that_stops_finishes_what_runs(broker: Server, pool: str) -> None:
    with System(broker) as system:
        worker = system.worker("worker", *options(pool))
        system.wait_ready()
        sent = send(system, 0, 2 * TASKS_AT_ONCE + 20, "work", 2)
        system.wait_more("running", 0)
        worker.do_not_restart()
        worker.send(signal.SIGTERM)
        assert worker.wait_end(WAIT_TIMEOUT) == 0
        done = len(system.recorded("done"))  # as many as the worker had taken
        assert 0 < done < len(sent)
        assert system.waiting() == len(sent) - done
        system.worker("next", *options(pool))
        system.wait_done(sent)
        assert run_twice(system, sent) == 0


@pools
@pytest.mark.faults("gevent and eventlet: SIGTERM, and tasks that take too long")
def test_a_worker_that_stops_returns_what_takes_too_long(broker: Server, pool: str) -> None:
    with System(broker, grace=4) as system:
        worker = system.worker("worker", *options(pool))
        system.wait_ready()
        sent = send(system, 0, TASKS_AT_ONCE + 10, "work", 600)
        system.wait_more("running", 0)
        worker.do_not_restart()
        worker.send(signal.SIGTERM)
        assert worker.wait_end(WAIT_TIMEOUT) == 0
        assert system.waiting() == len(sent)
        assert not system.unacknowledged()


@pools
@pytest.mark.faults("gevent and eventlet: kill -9 of a busy worker")
def test_a_busy_worker_that_is_killed_loses_nothing(broker: Server, pool: str) -> None:
    kills = 4
    with System(broker) as system:
        sent: dict[str, str] = {}
        for kill in range(kills):
            sent |= send(system, kill * 300, 300, "no_op")
            worker = system.worker(f"worker-{kill}", *options(pool))
            system.wait_more("done", len(system.recorded("done")) + 20)
            time.sleep(random.random() * 0.1)  # noqa: S311 - no secret
            worker.end()
            time.sleep(0.2)  # Redis may still run a command that the worker sent
            assert len(system.ran_or_recorded()) == len(sent)
        system.worker("last", *options(pool))
        system.wait_done(sent, lease.SECONDS + 10 + WAIT_TIMEOUT)
        assert run_twice(system, sent) <= kills * TASKS_AT_ONCE


@pools
@pytest.mark.faults("gevent and eventlet: the broker restarts under a busy worker")
def test_a_broker_that_restarts_loses_nothing(broker: Server, pool: str) -> None:
    with System(broker) as system:
        system.worker("worker", *options(pool))
        system.wait_ready()
        sent = send(system, 0, 1000, "no_op")
        system.wait_more("done", 50)
        broker.end(signal.SIGKILL)
        broker.start()
        system.wait_done(sent)
        sent |= send(system, 2000, TASKS_AT_ONCE, "work", 5)
        system.wait_more("running", 0)
        broker.end(signal.SIGTERM)
        broker.start()
        system.wait_done(sent)
        wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")
