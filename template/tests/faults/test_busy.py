"""Workers and Redis are killed while the workers run tasks that do nothing at full speed."""

import random
import signal
import time

import pytest

from apps.pipeline.broker.redis import lease
from tests.faults.harness import APP, FULL, WAIT_TIMEOUT, Row, System
from tests.faults.servers import Server, wait_until

CELERY_TRANSPORT_KILLS = 40  # one in four loses a message
RETURNED_WITHIN = lease.SECONDS + 10


def send_no_ops(system: System, first: int, count: int) -> set[str]:
    """Send tasks that do nothing. Return their numbers."""
    numbers = {str(number) for number in range(first, first + count)}
    for number in numbers:
        system.app.send_task(f"{APP}.tasks.no_op", [number], ignore_result=True)
    return numbers


def kill_while_busy(system: System, kill: int) -> set[str]:
    """Send tasks, and kill the only worker at a random time. Return the numbers of the tasks."""
    sent = send_no_ops(system, kill * 200, 200)
    worker = system.worker(f"worker-{kill}")
    system.wait_more("done", len(system.recorded("done")) + 20)
    time.sleep(random.random() * 0.1)  # noqa: S311 - no secret
    worker.end()
    time.sleep(0.2)  # Redis may still run a command that the worker sent
    return sent


@pytest.mark.faults("kill -9 of a busy worker, Celery's own transport: loses a task")
def test_celerys_own_transport_loses_tasks_of_a_busy_worker(broker: Server, row: Row) -> None:
    with System(broker) as system:
        system.variables["FAULTS_CELERY_TRANSPORT"] = "1"
        sent: set[str] = set()
        for kill in range(CELERY_TRANSPORT_KILLS):
            sent |= kill_while_busy(system, kill)
            row.injected = f"{kill + 1} kills"
            row.accepted, row.done = len(sent), len(system.ran_or_recorded())
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
            row.accepted, row.done = len(sent), len(system.ran_or_recorded())
            assert row.done == row.accepted
        held = system.unacknowledged()
        began = time.monotonic()
        system.worker("last")
        try:
            system.wait_done(dict.fromkeys(sent, ""), RETURNED_WITHIN + WAIT_TIMEOUT)
        finally:
            row.done = len(system.recorded("done"))
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
            sent |= send_no_ops(system, restart * 800, 800)
            system.wait_more("done", restart * 800 + 50)
            time.sleep(random.random() * 0.1)  # noqa: S311 - no secret
            broker.end(signal.SIGKILL if restart % 2 else signal.SIGTERM)
            broker.start()
            row.accepted, row.done = len(sent), len(system.recorded("done"))
            try:
                row.recovered(system.wait_done(dict.fromkeys(sent, "")))
            finally:
                row.done = len(system.recorded("done"))
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
        worker.do_not_restart()
        worker.send(signal.SIGTERM)
        time.sleep(2.5)
        worker.end()
        began = time.monotonic()
        row.injected = f"SIGTERM, kill -9, {system.unacknowledged()} held"
        row.accepted, row.done = len(sent), 0
        system.worker("next")
        try:
            system.wait_done(sent, RETURNED_WITHIN + WAIT_TIMEOUT)
        finally:
            row.done = len(system.recorded("done"))
        row.recovered(time.monotonic() - began)
        wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")
