"""Who holds a message on Redis: one worker, for as long as it renews its lease."""

import os
import signal
import time
from pathlib import Path

import pytest

from apps.pipeline.broker.redis import lease
from tests.faults.harness import APP, FULL, WAIT_TIMEOUT, Row, Supervised, System
from tests.faults.sentinels import Sentinels
from tests.faults.servers import Server, wait_until

RETURNED_WITHIN = lease.SECONDS + 10
LONG = (20 if FULL else 2) * lease.SECONDS


def start_long_tasks(system: System) -> None:
    """Start two workers, with a task that takes LONG seconds, and one that waits as long."""
    system.worker("one")
    system.worker("two")
    system.wait_ready()
    for number, countdown, seconds in ((0, 0, LONG), (1, LONG, 0)):
        system.app.send_task(f"{APP}.tasks.work", [number, seconds], countdown=countdown)


@pytest.mark.faults("a task and a countdown longer than the lease, the broker restarts meanwhile")
def test_a_long_task_runs_once(broker: Server, row: Row) -> None:
    with System(broker) as system:
        start_long_tasks(system)
        row.injected, row.accepted, row.done = f"{LONG} s, 2 restarts", 2, 0
        for _ in range(2):
            time.sleep(LONG / 4)
            broker.end(signal.SIGKILL)
            broker.start()
        system.wait_done({"0": "", "1": ""}, LONG + WAIT_TIMEOUT)
        time.sleep(lease.SECONDS + 10)
        row.done = len(system.recorded("done"))
        assert not system.recorded("running")
        assert system.runs("done", 0) == system.runs("done", 1) == 1


@pytest.mark.faults(
    "a worker is frozen for longer than its lease, continues, and the next worker is killed"
)
def test_a_late_acknowledgement_loses_no_task(broker: Server, row: Row) -> None:
    seconds = lease.SECONDS
    with System(broker) as system:
        frozen = system.worker("frozen")
        system.wait_ready()
        system.app.send_task(f"{APP}.tasks.work", [0, seconds])
        row.injected, row.accepted, row.done = "SIGSTOP, SIGCONT, kill -9", 1, 0
        system.wait_more("running", 0)
        os.killpg(frozen.process.pid, signal.SIGSTOP)
        successor = system.worker("successor")
        try:
            system.wait_more("running", 1)
        finally:
            os.killpg(frozen.process.pid, signal.SIGCONT)
        system.wait_done({"0": ""})  # the frozen one's, which acknowledges it
        time.sleep(2)
        frozen.end()
        successor.kill_group()
        began = time.monotonic()
        wait_until(lambda: system.runs("done", 0) > 1, WAIT_TIMEOUT, "another run")
        row.recovered(time.monotonic() - began)
        row.done = len(system.recorded("done"))


@pytest.mark.faults("a task and a countdown longer than the lease, Sentinels fail over meanwhile")
def test_a_failover_ends_no_lease(tmp_path: Path, row: Row) -> None:
    with Sentinels(tmp_path / "sentinels") as broker, System(broker) as system:
        start_long_tasks(system)
        row.injected, row.accepted, row.done = f"{LONG} s, 1 failover", 2, 0
        time.sleep(LONG / 3)
        began = time.monotonic()
        broker.fail_over()
        more = {"2": system.send_work(2)}
        system.wait_done(more)
        row.recovered(time.monotonic() - began)
        system.wait_done({"0": "", "1": ""}, LONG + WAIT_TIMEOUT)
        time.sleep(lease.SECONDS + 10)
        row.done = len(system.recorded("done") - more.keys())
        assert [system.runs("done", number) for number in range(3)] == [1, 1, 1]


@pytest.mark.faults("workers whose clocks are five minutes fast, right, and five minutes slow")
def test_clocks_do_not_matter(broker: Server, row: Row) -> None:
    """With a visibility timeout that is shorter than their difference."""
    offsets = (300, 0, -300)
    with System(broker, visibility=240) as system:
        workers = [system.worker(f"by{offset}", FAULTS_CLOCK=str(offset)) for offset in offsets]
        system.wait_ready()
        for number in range(9):
            system.app.send_task(f"{APP}.tasks.hold", [number])
        row.injected, row.accepted, row.done = "1 of 3 killed", 9, 0
        system.wait_more("running", 5)
        time.sleep(10)  # each has looked for what is overdue
        assert len(system.recorded("running")) == 6
        workers[0].end()
        began = time.monotonic()
        time.sleep(20)  # the others look again, while they hold theirs
        (system.records / "released").touch()
        try:
            system.wait_done(
                {str(number): "" for number in range(9)}, RETURNED_WITHIN + WAIT_TIMEOUT
            )
        finally:
            row.done = len(system.recorded("done"))
        row.recovered(time.monotonic() - began)
        assert [system.runs("done", number) for number in range(9)] == [1] * 9
        wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")


@pytest.mark.faults("workers with and without leases at one broker, both killed")
def test_workers_of_an_earlier_release_may_share_the_broker(broker: Server, row: Row) -> None:
    visibility, later = 40, 65
    with System(broker, visibility=visibility) as system:
        new = system.worker("new")
        system.wait_ready()
        for number in range(5):  # held for longer than the visibility timeout
            system.send_work(number, countdown=later)
        wait_until(lambda: system.unacknowledged() == 5, WAIT_TIMEOUT, "a worker that has them")
        old = system.worker("old", FAULTS_CELERY_TRANSPORT="1")
        system.wait_ready()
        system.wait_done({str(number): "" for number in range(5)}, later + WAIT_TIMEOUT)
        assert [system.runs("done", number) for number in range(5)] == [1] * 5
        sent = {str(number): "" for number in range(100, 1100)}
        row.injected, row.accepted, row.done = "1 kill of each", len(sent), 0
        for name in sent:
            system.send_work(name)
        system.wait_more("done", 300)
        kill_without_loss(system, old, sent)
        system.wait_more("done", 600)
        new.kill_group()
        began = time.monotonic()
        try:
            system.wait_done(sent, RETURNED_WITHIN + 3 * visibility + WAIT_TIMEOUT)
        finally:
            row.done = len(system.recorded("done") & sent.keys())
        row.recovered(time.monotonic() - began)
        twice = sum(system.runs("done", number) - 1 for number in sent)
        row.injected += f", {twice} ran twice"
        assert twice <= 4  # what their processes had
        wait_until(lambda: not system.held(), WAIT_TIMEOUT, "nothing recorded as held")


def kill_without_loss(system: System, old_worker: Supervised, sent: dict[str, str]) -> None:
    """Kill a worker with Celery's own transport at an instant at which it loses nothing."""

    def holds_still() -> bool:
        os.killpg(old_worker.process.pid, signal.SIGSTOP)
        if sent.keys() <= system.ran_or_recorded():
            return True
        os.killpg(old_worker.process.pid, signal.SIGCONT)
        return False

    wait_until(holds_still, WAIT_TIMEOUT, "an instant at which each message is recorded")
    old_worker.kill_group()
