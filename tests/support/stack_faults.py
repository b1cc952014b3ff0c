"""Tests of failures in containers, for every broker.

The tests of a class run in their order, and share the containers.
"""

import time
from abc import ABC, abstractmethod
from typing import ClassVar

import pytest

from support.stacks import NetworkDisconnection, Stack, docker, has_run
from support.waiting import wait_until


class FailureTests(ABC):
    """Failures in containers that run a user's app."""

    broker: ClassVar[str]

    @abstractmethod
    def waiting(self, stack: Stack) -> int:
        """How many messages wait in the queue."""

    def test_a_declared_schedule_fires(self, trial: Stack) -> None:
        wait_until(lambda: len(trial.records("ticks")) >= 3, "Beat's task ran three times")
        row = "PeriodicTask.objects.get(task='apps.trial.tasks.tick')"
        assert trial.python(
            "from django_celery_beat.models import PeriodicTask\n"
            f"print({row}.last_run_at is not None, {row}.total_run_count >= 3)"
        ).split() == ["True", "True"]

    def test_the_task_of_a_killed_worker_runs_again(self, trial: Stack) -> None:
        trial.hold(1)
        trial.compose("kill", "--signal", "KILL", "celery-worker")
        trial.release()
        assert 1 not in trial.numbers("done")
        trial.up()
        wait_until(lambda: 1 in trial.numbers("done"), "its task is done")
        assert [number for _, _, number in trial.records("started")].count("1") == 2

    @pytest.mark.parametrize("server", ["broker", "db"])
    def test_a_restart_of_a_server_loses_no_task(self, trial: Stack, server: str) -> None:
        numbers = range(100, 300) if server == "broker" else range(300, 500)
        trial.hold(*numbers[:2])  # the worker is busy until all tasks wait
        trial.send("work", numbers[2:100], 0.2)
        trial.send("count_users", numbers[100:])
        trial.release()
        assert not trial.numbers("done") >= set(numbers), "the run is over before the restart"
        trial.compose("restart", self.broker if server == "broker" else server)
        wait_until(lambda: trial.numbers("done") >= set(numbers), "all tasks are done")
        wait_until(lambda: works(trial), "the page works")

    def test_a_worker_stops_within_the_grace_period_and_returns_its_task(
        self, trial: Stack
    ) -> None:
        trial.compose("stop", "celery-beat")
        wait_until(lambda: self.waiting(trial) == 0, "nothing waits")
        trial.hold(2)
        started = time.monotonic()
        trial.compose("stop", "celery-worker")
        assert time.monotonic() - started < 90  # a worker is killed after 45: see its exit code
        for service in ("celery-worker", "celery-beat"):
            assert trial.containers(service)[0]["State"]["ExitCode"] == 0, service
        assert 2 not in trial.numbers("done")
        # RabbitMQ updates the length of a quorum queue every five seconds.
        wait_until(lambda: self.waiting(trial) == 1, "the task waits again")
        trial.release()
        trial.up()
        wait_until(lambda: 2 in trial.numbers("done"), "the task is done")

    def test_more_workers_share_the_work_and_two_beats_send_each_due_time_once(
        self, trial: Stack
    ) -> None:
        taken_before, done_before = self.taken_and_done(trial)
        trial.run("just", "celery-scale", "3")
        trial.up("--no-recreate", "--scale", "celery-worker=3", "--scale", "celery-beat=2")
        trial.hold(*range(500, 506))  # two for each worker
        where = {host for _, host, number in trial.records("started") if 500 <= int(number) < 506}
        assert len(where) == 3
        trial.release()
        wait_until(lambda: ticks(trial) > done_before + 5, "Beats send")
        taken, done = self.taken_and_done(trial)
        assert done - done_before == taken - taken_before > 5
        trial.compose("start", "celery-beat")

    def test_a_worker_that_is_cut_off_loses_nothing_and_comes_back(self, trial: Stack) -> None:
        trial.hold(*range(600, 606))  # two for each worker
        disconnection = NetworkDisconnection(trial.containers("celery-worker")[0]["Id"])
        trial.release()
        wait_until(
            lambda: (
                {
                    int(number)
                    for _, host, number in trial.records("done")
                    if host != disconnection.host and int(number) in range(600, 606)
                }
                == set(range(600, 606))
            ),
            "other workers ran the tasks that the disconnected worker could not acknowledge",
        )
        disconnection.reconnect()

        def takes_tasks() -> bool:
            trial.send("work", range(700, 712), 0.3)
            later = [
                host
                for when, host, _ in trial.records("done")
                if when > disconnection.reconnected_at
            ]
            return disconnection.host in later

        wait_until(takes_tasks, "the worker takes tasks again")

    def test_a_leading_beat_that_is_cut_off_is_replaced_within_a_lease(self, trial: Stack) -> None:
        taken_before, done_before = self.taken_and_done(trial)
        trial.compose("start", "celery-beat")
        wait_until(lambda: len(trial.records("ticks")) > done_before, "a Beat leads")
        first, second = trial.containers("celery-beat")
        leader = first if leads(first["Id"]) > leads(second["Id"]) else second
        disconnection = NetworkDisconnection(leader["Id"])
        wait_until(
            lambda: any(
                when > disconnection.disconnected_at + 3 for when, _, _ in trial.records("ticks")
            ),
            "the other Beat leads",
        )
        times = sorted(when for when, _, _ in trial.records("ticks"))
        gap = (
            min(when for when in times if when > disconnection.disconnected_at + 3)
            - disconnection.disconnected_at
        )
        # On a machine that is not busy it is below 25, and without a lease hours.
        assert gap < 60, f"for {gap:.0f} s nothing was sent"
        disconnection.reconnect()
        trial.up("--no-recreate", "--scale", "celery-worker=3", "--scale", "celery-beat=2")
        time.sleep(5)
        taken, done = self.taken_and_done(trial)
        # The old leader may have taken one due time without sending it. No due time is sent twice.
        assert 0 <= (taken - taken_before) - (done - done_before) <= 1

    def test_down_and_up_keep_the_data(self, trial: Stack) -> None:
        trial.compose("stop", "celery-worker", "celery-beat")
        waiting = self.waiting(trial)
        trial.send("work", [3])
        trial.python("from apps.users.models import User; User.objects.create(username='kept')")
        wait_until(lambda: self.waiting(trial) == waiting + 1, "the task waits")
        trial.compose("down")
        trial.up()
        wait_until(lambda: 3 in trial.numbers("done"), "the task that waited is done")
        kept = "from apps.users.models import User; print(User.objects.get().username)"
        assert trial.python(kept) == "kept"

    def taken_and_done(self, trial: Stack) -> tuple[int, int]:
        """Stop all Beats. Return the number of due times that they took, and of tasks that ran."""
        trial.compose("stop", "celery-beat")
        # A task in each process of the workers starts after all earlier tasks have ended.
        first = 10_000 + len(trial.records("started"))
        trial.hold(*range(first, first + 2 * len(trial.containers("celery-worker"))))
        trial.release()
        taken = trial.python(
            "from django_celery_beat.models import PeriodicTask\n"
            "print(PeriodicTask.objects.get(task='apps.trial.tasks.tick').total_run_count)"
        )
        return int(taken), ticks(trial)


def ticks(trial: Stack) -> int:
    """How many of Beat's tasks ran."""
    return len({what for _, _, what in trial.records("ticks")})


def works(trial: Stack) -> bool:
    """Whether the page runs a task. The server may be restarting."""
    try:
        return has_run(trial.press_the_button())
    except OSError:
        return False


def leads(container: str) -> str:
    """The last line in which a Beat logs that it leads; empty if it never did."""
    lines = docker("logs", "--timestamps", container).splitlines()
    return max((line for line in lines if "leads: it sends" in line), default="")
