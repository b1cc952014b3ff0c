"""A worker or one of its processes is killed, is replaced, or gets a task that it cannot run."""

import json
import signal
import time

import pytest
from django.conf import settings

from apps.pipeline.broker.redis import lease
from tests.faults.harness import APP, FULL, WAIT_TIMEOUT, Row, System
from tests.faults.servers import Server, wait_until


@pytest.mark.faults("kill -9 of the process that runs a task")
def test_a_killed_process_loses_no_task(broker: Server, row: Row) -> None:
    tasks, kills = (1000, 20) if FULL else (250, 5)
    with System(broker) as system:
        system.worker()
        system.web(timeout=WAIT_TIMEOUT)
        system.wait_ready()
        sent = system.send_through_web("work", 0, tasks)
        for kill in range(kills):
            system.wait_more("done", kill * tasks // kills)
            system.kill_a_process_at_work()
        row.injected, row.accepted = f"{kills} kills", len(sent)
        try:
            row.recovered(system.wait_done(sent, 120))
        finally:
            row.done = len(system.recorded("done"))
        assert len(sent) == tasks


@pytest.mark.faults("kill -9 of the whole worker group, which its supervisor restarts")
def test_the_tasks_of_a_killed_worker_run_again_after_its_lease(broker: Server, row: Row) -> None:
    back = lease.SECONDS + 10
    with System(broker) as system:
        worker = system.worker()
        system.web(timeout=WAIT_TIMEOUT)
        system.wait_ready()
        row.accepted = row.done = 0
        for kill in range(3 if FULL else 1):
            sent = system.send_through_web("work", kill * 100, 20, seconds=0.5)
            row.accepted += len(sent)
            system.wait_more("running", 1)
            worker.kill_group()
            for process in system.recorded("running"):
                (system.records / "running" / process).unlink()
            system.wait_ready()
            try:
                row.recovered(system.wait_done(sent, back + WAIT_TIMEOUT))
            finally:
                row.done = len(system.recorded("done"))
        row.injected = f"{len(worker.exits)} kills, lease {lease.SECONDS} s"


@pytest.mark.faults("a deploy: SIGTERM while a task longer than the grace runs")
def test_a_deploy_returns_the_task_at_once(broker: Server, row: Row) -> None:
    grace = settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT if FULL else 3
    seconds = settings.STOP_GRACE  # what the task takes: it cannot be done before the worker leaves
    with System(broker, grace=grace) as system:
        old = system.worker("old")
        system.web(timeout=WAIT_TIMEOUT)
        system.wait_ready()
        sent = system.send_through_web("work", 0, 1, seconds=seconds)
        system.wait_more("running", 0)
        began = time.monotonic()
        old.do_not_restart()
        old.send(signal.SIGTERM)
        code = old.wait_end(settings.STOP_GRACE - 5)
        left = time.monotonic() - began
        row.injected = f"grace {grace} s, left after {left:.1f} s with {code}"
        row.accepted, row.done = len(sent), 0
        assert code == 0
        wait_until(lambda: system.waiting() == 1, WAIT_TIMEOUT, "the task in the queue")
        before = system.recorded("running")
        system.worker("new")
        wait_until(
            lambda: system.recorded("running") - before, WAIT_TIMEOUT, "a new worker's run of it"
        )
        row.recovered(time.monotonic() - began)
        system.wait_done(sent, seconds + WAIT_TIMEOUT)
        row.done = len(system.recorded("done"))


@pytest.mark.faults("a deploy while a short task runs")
def test_a_worker_that_stops_exits_when_its_last_task_ends(broker: Server, row: Row) -> None:
    grace, seconds = 120, 2
    with System(broker, grace=grace) as system:
        worker = system.worker(STOP_GRACE=str(grace + 30))
        system.wait_ready()
        sent = {"0": str(system.app.send_task(f"{APP}.tasks.work", [0, seconds]).id)}
        system.wait_more("running", 0)
        began = time.monotonic()
        worker.do_not_restart()
        worker.send(signal.SIGTERM)
        code = worker.wait_end(grace + WAIT_TIMEOUT)
        left = time.monotonic() - began
        row.injected = f"SIGTERM, a task of {seconds} s, left after {left:.1f} s with {code}"
        row.accepted, row.done = len(sent), len(system.recorded("done"))
        assert code == 0
        assert left < grace
        assert system.runs("done", 0) == 1


@pytest.mark.faults("a task that kills its process every time it runs")
def test_a_poison_task_is_given_up(broker: Server, row: Row) -> None:
    with System(broker) as system:
        system.worker()
        system.web(timeout=WAIT_TIMEOUT)
        system.wait_ready()
        [poison] = system.send_through_web("poison", 0, 1).values()
        others = system.send_through_web("work", 1, 100)
        row.injected, row.accepted = "1 poison task", len(others)
        row.recovered(system.wait_done(others))
        row.done = len(system.recorded("done"))

        def outcome() -> dict[str, str]:
            answer: dict[str, str] = json.loads(system.get(f"/result/{poison}")[1])
            return answer

        wait_until(
            lambda: outcome()["state"] == "FAILURE", WAIT_TIMEOUT, "the poison task given up"
        )
        runs = system.runs("poison", 0)
        row.injected += f", {runs} deliveries"
        assert runs <= 5
        assert "SIGKILL" in outcome()["result"] or "exited" in outcome()["result"]
        time.sleep(3)
        assert system.runs("poison", 0) == runs
        more = system.send_through_web("work", 1000, 10)
        system.wait_done(more)


@pytest.mark.faults("a message for a task that this worker does not know yet")
def test_an_unknown_task_is_run_once_a_worker_knows_it(broker: Server, row: Row) -> None:
    with System(broker, grace=3) as system:
        old = system.worker("old")
        system.wait_ready()
        sent = [str(number) for number in range(5)]
        for number in sent:
            system.app.send_task(f"{APP}.release.tasks.added", [number])
        system.app.send_task(f"{APP}.tasks.work", [100])
        row.injected, row.accepted, row.done = "old, then new worker", len(sent), 0
        wait_until(lambda: system.runs("done", 100), WAIT_TIMEOUT, "a task that it knows")
        old.do_not_restart()
        old.send(signal.SIGTERM)
        old.wait_end(WAIT_TIMEOUT)
        began = time.monotonic()
        system.worker("new", FAULTS_APPS=f"{APP},{APP}.release")
        ids = dict.fromkeys(sent, "")
        try:
            system.wait_done(ids)
            row.recovered(time.monotonic() - began)
        finally:
            row.done = len(system.recorded("done") & ids.keys())


@pytest.mark.faults("tasks with a countdown, in a queue that no worker has declared")
def test_delayed_tasks_run_if_no_worker_ran_before(broker: Server, row: Row) -> None:
    with System(broker) as system:
        queue, delay = f"{system.queue}.later", 4
        row.injected, row.accepted, row.done = "no worker at first, then retries", 6, 0
        began = time.monotonic()
        for number in range(6):
            name, countdown = ("work", delay) if number % 2 else ("second_try", 0)
            system.app.send_task(f"{APP}.tasks.{name}", [number], queue=queue, countdown=countdown)
        system.worker("worker", "--queues", queue)
        try:
            system.wait_done({str(number): "" for number in range(6)})
        finally:
            row.done = len(system.recorded("done"))
        row.recovered(time.monotonic() - began)
        assert time.monotonic() - began > delay - 1
