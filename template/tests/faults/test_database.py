"""A database that restarts, and an empty database."""

import signal
import time

import pytest

from tests.faults.harness import FULL, WAIT_TIMEOUT, Row, System
from tests.faults.servers import Server, wait_until


@pytest.mark.faults("database restart while tasks run")
def test_worker_beat_and_web_outlive_a_database_restart(
    broker: Server, database: Server, row: Row
) -> None:
    restarts = 4 if FULL else 2
    with System(broker, database=database) as system:
        worker, beat, web = system.worker(), system.beat(), system.web()
        system.wait_ready()
        row.accepted = row.done = 0
        try:
            for restart in range(restarts):
                sent = system.send_through_web("count_users", restart * 1000, 200)
                row.accepted += len(sent)
                database.end(signal.SIGQUIT if restart % 2 else signal.SIGINT)
                time.sleep(2)
                database.start()
                began = time.monotonic()
                system.wait_done(sent)
                wait_until(
                    lambda: system.get("/readyz")[0] == 200, WAIT_TIMEOUT, "a ready web server"
                )
                system.wait_more("ticks", len(system.recorded("ticks")) + 1)
                row.recovered(time.monotonic() - began)
        finally:
            row.done = len(system.recorded("done"))
            row.injected = f"{restarts} restarts"
        assert [worker.exits, beat.exits, web.exits] == [[], [], []]


@pytest.mark.faults("Beat or worker on an empty database")
def test_an_empty_database_is_logged_in_a_few_lines(broker: Server, row: Row) -> None:
    with System(broker, migrated=False) as system:
        beat, worker = system.beat(), system.worker()
        row.injected = "both started before migrate"
        wait_until(lambda: "migrate" in beat.log(), WAIT_TIMEOUT, "what to run, in Beat's log")
        wait_until(lambda: "ready" in worker.log(), WAIT_TIMEOUT, "a worker that waits for tasks")
        time.sleep(10)  # about ten attempts of Beat
        said = beat.log()
        assert "Traceback" not in said + worker.log()
        assert len(said.splitlines()) < 40
        began = time.monotonic()
        system.manage("migrate", "--verbosity", "0")
        system.wait_more("ticks", 1)
        row.recovered(time.monotonic() - began)
