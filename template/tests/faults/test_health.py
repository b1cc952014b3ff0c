"""What lives and does not work: the containers' health check says so, and what hangs ends itself.

All of them are broken at once, for each takes a minute to be noticed.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.conftest import kind_of_broker
from tests.faults.harness import PATIENCE, TASKS, Row, Supervised, System
from tests.faults.servers import PostgreSQL, RabbitMQ, Server, Valkey, wait_until

UNHEALTHY_WITHIN = 60  # seconds
ENDED_WITHIN = 120


@dataclass
class Patient:
    """A process that is broken, and when that was."""

    system: System
    process: Supervised
    since: float = field(default_factory=time.monotonic)

    def is_unhealthy_in_time(self, role: str, row: Row) -> None:
        left = self.since + UNHEALTHY_WITHIN - time.monotonic()
        wait_until(lambda: not self.process.is_healthy(role), max(left, 1), "unhealthy")
        row.recovered(time.monotonic() - self.since)

    def ends_itself(self, row: Row) -> None:
        left = self.since + ENDED_WITHIN - time.monotonic()
        wait_until(lambda: self.process.exits, max(left, 1), "a process that ended itself")
        row.injected += f", ended itself after {self.process.exits[0][0] - self.since:.0f} s"


@pytest.fixture(scope="module")
def ward() -> Iterator[dict[str, Patient]]:
    """Four processes at work, each then broken in its way."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="faults-")))
        directory.chmod(0o755)
        kind = RabbitMQ if kind_of_broker() == "rabbitmq" else Valkey

        def system(name: str, database: Server | None = None) -> System:
            broker = stack.enter_context(kind(directory / name))
            return stack.enter_context(System(broker, database=database))

        frozen, hung, deaf = system("frozen"), system("hung"), system("deaf")
        workers = [one.worker(ready=False) for one in (frozen, hung, deaf)]
        beat = frozen.beat()
        wait_until(lambda: all(worker.is_healthy("worker") for worker in workers), PATIENCE, "all")

        patients = {}
        workers[0].send(signal.SIGSTOP)
        patients["frozen worker"] = Patient(frozen, workers[0])
        beat.send(signal.SIGSTOP)
        patients["frozen beat"] = Patient(frozen, beat)
        hung.app.control.broadcast("hang")
        patients["hung worker"] = Patient(hung, workers[1])
        deaf.app.control.broadcast("go_deaf")
        for number in range(5):
            deaf.app.send_task(f"{TASKS}.work", [number])
        patients["deaf worker"] = Patient(deaf, workers[2])
        yield patients


@pytest.mark.faults("a frozen worker (SIGSTOP)")
def test_a_frozen_worker_is_unhealthy(ward: dict[str, Patient], row: Row) -> None:
    row.injected = "SIGSTOP"
    ward["frozen worker"].is_unhealthy_in_time("worker", row)


@pytest.mark.faults("a frozen Beat (SIGSTOP)")
def test_a_frozen_beat_is_unhealthy(ward: dict[str, Patient], row: Row) -> None:
    row.injected = "SIGSTOP"
    ward["frozen beat"].is_unhealthy_in_time("beat", row)


@pytest.mark.faults("a worker whose event loop hangs")
def test_a_hung_worker_is_unhealthy_and_ends_itself(ward: dict[str, Patient], row: Row) -> None:
    row.injected = "its loop sleeps"
    ward["hung worker"].is_unhealthy_in_time("worker", row)
    ward["hung worker"].ends_itself(row)


@pytest.mark.faults("a consumer that is dead in a live process")
def test_a_deaf_worker_is_unhealthy_and_ends_itself(ward: dict[str, Patient], row: Row) -> None:
    patient = ward["deaf worker"]
    row.injected, row.accepted, row.done = "it takes no message", 5, 0
    patient.is_unhealthy_in_time("worker", row)
    patient.ends_itself(row)
    patient.system.wait_done({str(number): "" for number in range(5)})
    row.done = len(patient.system.traced("done"))


@pytest.mark.faults("a Beat that cannot reach its database")
def test_a_beat_without_its_database_is_unhealthy(ward: dict[str, Patient], row: Row) -> None:
    row.injected = "the database ends"
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="faults-")))
        directory.chmod(0o755)
        database = stack.enter_context(PostgreSQL(directory / "database"))
        broker = ward["frozen beat"].system.broker
        system = stack.enter_context(System(broker, database=database))
        beat = system.beat()
        database.end(signal.SIGINT)
        Patient(system, beat).is_unhealthy_in_time("beat", row)
