"""The outbox, while the broker is unavailable and the web process is killed."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.harness import FULL, RECOVERED_WITHIN, WAIT_TIMEOUT, Row, System
from tests.faults.servers import Server, wait_until


@contextmanager
def outboxed(broker: Server) -> Iterator[System]:
    """A project with the outbox, whose processes are ready."""
    with System(broker, visibility=12) as system:
        system.variables["TASK_OUTBOX"] = "on"
        system.manage("migrate", "--verbosity", "0")
        system.worker()
        system.beat()
        system.web()
        system.wait_ready()
        yield system


def order(system: System, number: int, ending: str = "") -> None:
    """Run a transaction in the web process, until one of its processes answers."""

    def is_answered() -> bool:
        status, answer = system.get(f"/order/{number}{ending}")
        assert status in (0, 200), answer
        return status == 200

    wait_until(is_answered, WAIT_TIMEOUT, f"order {number}")


def saved(system: System) -> set[str]:
    """The numbers of the transactions that were committed."""
    with sqlite3.connect(system.directory / "db.sqlite3") as database:
        rows = database.execute("SELECT name FROM auth_group WHERE name LIKE 'order %'")
        return {name.split()[1] for (name,) in rows}


def waiting(system: System) -> int:
    """The number of tasks in the outbox."""
    with sqlite3.connect(system.directory / "db.sqlite3") as database:
        [[count]] = database.execute("SELECT count(*) FROM pipeline_outbox_message")
        return int(count)


@pytest.mark.faults("outbox: broker unavailable, and web killed twice meanwhile")
def test_each_committed_transaction_runs_its_task_and_no_other(broker: Server, row: Row) -> None:
    count, seconds = (500, 60) if FULL else (60, 10)
    with outboxed(broker) as system:
        web = system.processes["web"]
        broker.end()
        began = time.monotonic()
        for number in range(count):
            if number in (count // 3, 2 * count // 3):
                web.kill_group()
            order(system, number)
            if number % 5 == 0:
                order(system, 10_000 + number, "?roll_back")
        time.sleep(max(0, began + seconds - time.monotonic()))
        assert waiting(system) > 0
        assert system.recorded("done") == set()
        row.injected = f"stopped for {seconds} s, 2 kills, {count // 5} rolled back"
        row.accepted = len(saved(system))
        broker.start()
        back = time.monotonic()
        system.wait_done(dict.fromkeys(saved(system), ""), RECOVERED_WITHIN)
        row.recovered(time.monotonic() - back)
        row.done = len(system.recorded("done"))
        wait_until(lambda: waiting(system) == 0, WAIT_TIMEOUT, "an empty outbox")
        assert system.recorded("done") == saved(system) == {str(it) for it in range(count)}


@pytest.mark.faults("outbox: web killed after the commit, before it publishes")
def test_a_task_of_a_killed_web_process_runs(broker: Server, row: Row) -> None:
    with outboxed(broker) as system:
        row.injected, row.accepted = "kill -9", 1
        system.get("/order/1?die")
        began = time.monotonic()
        assert saved(system) == {"1"}
        system.wait_done({"1": ""}, RECOVERED_WITHIN)
        row.recovered(time.monotonic() - began)
        row.done = system.runs("done", 1)
        assert row.done == 1


@pytest.mark.faults("outbox: a countdown while the broker is unavailable or frozen")
def test_a_countdown_counts_from_when_it_was_sent(broker: Server, row: Row) -> None:
    countdown = 25
    with outboxed(broker) as system:
        # If RabbitMQ 3.10 is killed within a second after a queue was declared, the queue does not
        # work. The first delay declares the queues, and ends before the test continues.
        order(system, 2, "?countdown=3")
        system.wait_done({"2": ""})
        broker.send(signal.SIGSTOP)
        began = time.monotonic()
        order(system, 1, f"?countdown={countdown}")
        assert time.monotonic() - began < RECOVERED_WITHIN
        broker.end(signal.SIGKILL)
        row.injected, row.accepted = "frozen, then stopped for 10 s", 1
        time.sleep(10)
        broker.start()
        system.wait_done({"1": ""}, countdown + RECOVERED_WITHIN)
        after = time.monotonic() - began
        row.recovered(max(0, after - countdown))
        row.done = system.runs("done", 1)
        assert after >= countdown - 1
