"""Redis and workers that are killed while they work at full speed, on tasks that take no time."""

import random
import signal
import time

import pytest

from apps.pipeline.broker.redis import lease
from tests.faults.harness import APP, FULL, WAIT_TIMEOUT, Row, System
from tests.faults.servers import Server, wait_until

STOCK_KILLS = 40  # one in four loses a message
BACK = lease.SECONDS + 10


def send_marks(system: System, first: int, count: int) -> set[str]:
    """Send tasks that take no time; their numbers."""
    numbers = {str(number) for number in range(first, first + count)}
    for number in numbers:
        system.app.send_task(f"{APP}.tasks.mark", [number], ignore_result=True)
    return numbers


def kill_while_busy(system: System, kill: int) -> set[str]:
    """Kill a worker at a random instant of its work, with no other running; what it was sent."""
    sent = send_marks(system, kill * 200, 200)
    worker = system.worker(f"worker-{kill}")
    system.wait_more("done", len(system.traced("done")) + 20)
    time.sleep(random.random() * 0.1)  # noqa: S311 - no secret
    worker.end()
    time.sleep(0.2)  # Redis may still answer a client that is gone
    return sent


@pytest.mark.faults("kill -9 of a busy worker, Celery's own transport: loses a task")
def test_celerys_own_transport_loses_tasks_of_a_busy_worker(broker: Server, row: Row) -> None:
    with System(broker) as system:
        system.variables["FAULTS_STOCK"] = "1"
        sent: set[str] = set()
        for kill in range(STOCK_KILLS):
            sent |= kill_while_busy(system, kill)
            row.injected = f"{kill + 1} kills"
            row.accepted, row.done = len(sent), len(system.accounted())
            if row.done < row.accepted:
                return
        pytest.fail("It lost none, and this test could not see it if ours did.")


@pytest.mark.faults("kill -9 of a busy worker, at random instants")
def test_a_busy_worker_that_is_killed_loses_nothing(broker: Server, row: Row) -> None:
    kills = 100 if FULL else 5
    with System(broker) as system:
        sent: set[str] = set()
        for kill in range(kills):
            sent |= kill_while_busy(system, kill)
            row.injected = f"{kill + 1} kills"
            row.accepted, row.done = len(sent), len(system.accounted())
            assert row.done == row.accepted
        held = system.unacknowledged()
        began = time.monotonic()
        system.worker("last")
        try:
            system.wait_done(dict.fromkeys(sent, ""), BACK + WAIT_TIMEOUT)
        finally:
            row.done = len(system.traced("done"))
        row.recovered(time.monotonic() - began)
        twice = sum(system.runs("done", number) - 1 for number in sent)
        row.injected += f", the last with {held} held, {twice} ran twice"
        assert twice <= 2 * kills  # what its two processes had
        wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")


@pytest.mark.faults("broker restarts under a busy worker")
def test_a_broker_that_restarts_under_a_busy_worker_loses_nothing(broker: Server, row: Row) -> None:
    restarts = 10 if FULL else 2
    with System(broker) as system:
        worker = system.worker()
        system.wait_ready()
        sent: set[str] = set()
        for restart in range(restarts):
            sent |= send_marks(system, restart * 800, 800)
            system.wait_more("done", restart * 800 + 50)
            time.sleep(random.random() * 0.1)  # noqa: S311 - no secret
            broker.end(signal.SIGKILL if restart % 2 else signal.SIGTERM)
            broker.start()
            row.accepted, row.done = len(sent), len(system.traced("done"))
            try:
                row.recovered(system.wait_done(dict.fromkeys(sent, "")))
            finally:
                row.done = len(system.traced("done"))
        twice = sum(system.runs("done", number) - 1 for number in sent)
        row.injected = f"{restarts} restarts, {len(worker.exits)} workers replaced"
        row.injected += f", {twice} ran twice"
        wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")


@pytest.mark.faults("SIGTERM, and kill -9 before the tasks end")
def test_a_worker_that_is_killed_while_it_stops_loses_nothing(broker: Server, row: Row) -> None:
    with System(broker) as system:
        worker = system.worker()
        system.wait_ready()
        sent = {str(number): "" for number in range(6)}
        for number in sent:
            system.app.send_task(f"{APP}.tasks.work", [number, 5])
        system.wait_more("running", 1)
        worker.retire()
        worker.send(signal.SIGTERM)
        time.sleep(2.5)
        worker.end()
        began = time.monotonic()
        row.injected = f"SIGTERM, kill -9, {system.unacknowledged()} held"
        row.accepted, row.done = len(sent), 0
        system.worker("next")
        try:
            system.wait_done(sent, BACK + WAIT_TIMEOUT)
        finally:
            row.done = len(system.traced("done"))
        row.recovered(time.monotonic() - began)
        wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")
