"""Tasks that fail while their worker is killed, and while the database is unavailable."""

import random
import signal
import sqlite3
import time
from contextlib import closing

import psycopg
import pytest

from tests.faults.harness import APP, FULL, RECOVERED_WITHIN, Row, System
from tests.faults.servers import Server, wait_until

KEPT = "SELECT task_id FROM pipeline_failed_failedtask"


def send(system: System, count: int) -> set[str]:
    """Send tasks that fail at once. Return their ids."""
    task = f"{APP}.tasks.refuse"
    return {system.app.send_task(task, [number]).id for number in range(count)}


def kept(system: System) -> set[str]:
    """The ids in the table of failed tasks."""
    if system.database:
        with psycopg.connect(system.database.url) as connection:
            return {name for (name,) in connection.execute(KEPT)}
    with closing(sqlite3.connect(system.directory / "db.sqlite3")) as connection:
        return {name for (name,) in connection.execute(KEPT)}


def wait_kept(system: System, sent: set[str], row: Row) -> None:
    began = time.monotonic()
    try:
        wait_until(lambda: sent <= kept(system), RECOVERED_WITHIN, "all failed tasks kept")
    finally:
        row.accepted, row.done = len(sent), len(sent & kept(system))
    row.recovered(time.monotonic() - began)


@pytest.mark.faults("failed tasks: kill -9 of a busy worker, at random instants")
def test_no_failed_task_is_missing_after_kills(broker: Server, row: Row) -> None:
    kills = 20 if FULL else 3
    with System(broker) as system:
        sent: set[str] = set()
        for kill in range(kills):
            sent |= send(system, 50)
            worker = system.worker(f"worker-{kill}")
            before = len(kept(system))
            wait_until(lambda: len(kept(system)) > before + 5, RECOVERED_WITHIN, "failed tasks")  # noqa: B023
            time.sleep(random.random() * 0.1)  # noqa: S311 - no secret
            worker.end()
        row.injected = f"{kills} kills"
        system.worker("last")
        wait_kept(system, sent, row)


@pytest.mark.faults("failed tasks: the database is unavailable")
def test_no_failed_task_is_missing_after_an_outage_of_the_database(
    broker: Server, database: Server, row: Row
) -> None:
    outages = 4 if FULL else 2
    with System(broker, database=database) as system:
        worker = system.worker()
        system.wait_ready()
        sent: set[str] = set()
        for outage in range(outages):
            sent |= send(system, 50)
            database.end(signal.SIGQUIT if outage % 2 else signal.SIGINT)
            sent |= send(system, 50)
            time.sleep(3)
            database.start()
        row.injected = f"{outages} outages"
        wait_kept(system, sent, row)
        assert worker.exits == []
