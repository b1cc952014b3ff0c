"""Processes that run but do not work. Health checks notice them, and processes that hang exit.

These tests run last, and use processes that were broken when the first test began.
"""

import pytest

from tests.faults.broken import ENDED_WITHIN, NOTICED_WITHIN, BrokenProcess, BrokenProcesses
from tests.faults.harness import Row
from tests.faults.servers import wait_until


def noticed(broken: BrokenProcesses, name: str, row: Row) -> BrokenProcess:
    """A broken process, after the health check has noticed the failure in time."""
    process = broken[name]
    if isinstance(process, str):
        pytest.skip(process)
    wait_until(lambda: process.noticed is not None, NOTICED_WITHIN + 5, "unhealthy")
    assert process.noticed is not None
    row.recovered(process.noticed)
    assert process.noticed < NOTICED_WITHIN
    return process


def ended(process: BrokenProcess, row: Row) -> None:
    wait_until(lambda: process.ended is not None, ENDED_WITHIN, "it ended itself")
    row.injected += f", ended itself after {process.ended or 0:.0f} s"


@pytest.mark.faults("a frozen worker (SIGSTOP)")
def test_a_frozen_worker_is_unhealthy(broken: BrokenProcesses, row: Row) -> None:
    row.injected = "SIGSTOP"
    noticed(broken, "a frozen worker", row)


@pytest.mark.faults("a worker whose event loop hangs")
def test_a_worker_that_hangs_is_unhealthy_and_exits(broken: BrokenProcesses, row: Row) -> None:
    row.injected = "its loop sleeps"
    ended(noticed(broken, "a hung worker", row), row)


@pytest.mark.faults("a worker that runs but takes no messages")
def test_a_worker_that_takes_no_messages_is_unhealthy_and_exits(
    broken: BrokenProcesses, row: Row
) -> None:
    row.injected, row.accepted, row.done = "it takes no message", 5, 0
    process = noticed(broken, "a worker that takes no messages", row)
    ended(process, row)
    process.system.wait_done({str(number): "" for number in range(5)})
    row.done = len(process.system.recorded("done"))


@pytest.mark.faults("a frozen Beat (SIGSTOP)")
def test_a_frozen_beat_is_unhealthy(broken: BrokenProcesses, row: Row) -> None:
    row.injected = "SIGSTOP"
    noticed(broken, "a frozen Beat", row)


@pytest.mark.faults("a Beat that cannot reach its database")
def test_a_beat_without_its_database_is_unhealthy(broken: BrokenProcesses, row: Row) -> None:
    row.injected = "the database ends"
    noticed(broken, "a Beat without its database", row)
