"""What the stack of `just up` promises, whatever its broker; a file for each broker runs it.

The tests of a class run in their order, on one stack: from nothing, through faults, to down and up.
"""

import json
import socket
import time
from abc import ABC, abstractmethod
from typing import ClassVar

import pytest
from stacks import Stack, docker, wait_until

OURS = {"web", "celery-worker", "celery-beat"}


class UpFromNothing:
    """A fresh copy, and `just up`."""

    servers: ClassVar[frozenset[str]]

    def test_every_service_becomes_healthy(self, stack: Stack) -> None:
        states = {each["Service"]: (each["State"], each["Health"]) for each in stack.processes()}
        assert states == {
            **dict.fromkeys(OURS | self.servers, ("running", "healthy")),
            "migrate": ("exited", ""),
        }

    def test_the_web_answers(self, stack: Stack) -> None:
        assert stack.open("/healthz") == (200, "ok")
        assert stack.open("/readyz")[0] == 200
        status, page = stack.open("/admin/login/")
        assert status == 200
        assert 'name="password"' in page

    def test_a_task_goes_from_the_page_to_the_worker_and_back(self, stack: Stack) -> None:
        page = stack.press_the_button()
        assert "Processed: Hello from the landing page" in page
        assert page.count(">alive<") == 4

    def test_nothing_but_the_web_answers_from_the_host_and_only_on_loopback(
        self, stack: Stack
    ) -> None:
        published = {
            (each["Service"], port["URL"], port["PublishedPort"])
            for each in stack.processes()
            for port in each["Publishers"] or []
            if port["PublishedPort"]
        }
        assert published == {("web", "127.0.0.1", stack.port)}
        gateway = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((gateway.strip(), stack.port), timeout=5)

    def test_a_container_of_another_network_reaches_neither_broker_nor_database(
        self, stack: Stack
    ) -> None:
        addresses = [
            (network["IPAddress"], port)
            for service, port in {"db": 5432, "redis": 6379, "rabbitmq": 5672}.items()
            if service in self.servers
            for network in stack.containers(service)[0]["NetworkSettings"]["Networks"].values()
        ]
        assert len(addresses) == len(self.servers)
        code = (
            "import socket\n"
            f"for address in {addresses}:\n"
            "    try: socket.create_connection(address, timeout=2)\n"
            "    except OSError: print('closed')\n"
        )
        network = f"--network={stack.name}_default"
        answers = docker("run", "--rm", network, "python:3.13-slim", "python", "-c", code)
        assert answers.split() == ["closed"] * len(addresses)

    def test_a_killed_worker_process_is_replaced(self, stack: Stack) -> None:
        def started() -> str:
            return str(stack.containers("celery-worker")[0]["State"]["StartedAt"])

        before = started()
        stack.compose("exec", "-T", "celery-worker", "sh", "-c", "kill -KILL -1 || true")
        wait_until(lambda: started() != before, "the container was started again")
        stack.up()
        assert "Processed: Hello" in stack.press_the_button()


class NothingLost(ABC):
    """The same stack with an app of the user's, and what goes wrong in life."""

    broker: ClassVar[str]

    @abstractmethod
    def waiting(self, stack: Stack) -> int:
        """How many messages wait in the queue."""

    def test_a_declared_schedule_fires(self, trial: Stack) -> None:
        wait_until(lambda: len(trial.noted("ticks")) >= 3, "Beat's task ran three times")
        row = "PeriodicTask.objects.get(task='apps.trial.tasks.tick')"
        assert trial.python(
            "from django_celery_beat.models import PeriodicTask\n"
            f"print({row}.last_run_at is not None, {row}.total_run_count >= 3)"
        ).split() == ["True", "True"]

    def test_edited_code_runs_without_a_restart_by_hand(self, trial: Stack) -> None:
        file = trial.project / "apps" / "trial" / "tasks.py"
        file.write_text(file.read_text().replace('"first"', '"second"'))

        def runs() -> bool:
            trial.python("from apps.trial.tasks import version; version.delay()")
            return any(what == "second" for _, _, what in trial.noted("versions"))

        wait_until(runs, "the worker runs the edited task")
        assert trial.containers("celery-worker")[0]["RestartCount"] == 0
        beats = trial.compose("logs", "celery-beat").count("leads: it sends what is due")
        assert beats >= 2

    def test_code_that_does_not_load_is_run_as_soon_as_it_is_corrected(self, trial: Stack) -> None:
        file = trial.project / "apps" / "trial" / "tasks.py"
        whole = file.read_text()
        file.write_text("this is no Python\n")
        try:
            wait_until(
                lambda: all(
                    "invalid syntax" in trial.compose("logs", service)
                    for service in ("celery-worker", "web")
                ),
                "worker and web say what is wrong",
            )
            time.sleep(3)  # Django's own reloader misses what is saved within a second of that
        finally:
            file.write_text(whole.replace('"second"', '"third"'))
        trial.python("from apps.trial.tasks import version; version.delay()")
        wait_until(
            lambda: any(what == "third" for _, _, what in trial.noted("versions")),
            "the worker runs the corrected code",
        )
        wait_until(lambda: works(trial), "the page works")

    def test_a_worker_that_is_killed_in_the_middle_of_a_task(self, trial: Stack) -> None:
        trial.hold(1)
        trial.compose("kill", "--signal", "KILL", "celery-worker")
        trial.release()
        assert 1 not in trial.numbers("done")
        trial.up()
        wait_until(lambda: 1 in trial.numbers("done"), "its task is done")
        assert [number for _, _, number in trial.noted("started")].count("1") == 2

    @pytest.mark.parametrize("server", ["broker", "db"])
    def test_a_restart_in_the_middle_of_a_run(self, trial: Stack, server: str) -> None:
        numbers = range(100, 300) if server == "broker" else range(300, 500)
        trial.send("work", numbers[:100], 0.1)
        trial.send("count_users", numbers[100:])
        assert not trial.numbers("done") >= set(numbers), "the run is over before the restart"
        trial.compose("restart", self.broker if server == "broker" else server)
        wait_until(lambda: trial.numbers("done") >= set(numbers), "all tasks are done")
        wait_until(lambda: works(trial), "the page works")

    def test_stop_keeps_within_the_grace_and_returns_the_task(self, trial: Stack) -> None:
        trial.compose("stop", "celery-beat")
        wait_until(lambda: self.waiting(trial) == 0, "nothing waits")
        trial.hold(2)
        started = time.monotonic()
        trial.compose("stop", "celery-worker")
        assert time.monotonic() - started < 45
        for service in ("celery-worker", "celery-beat"):
            assert trial.containers(service)[0]["State"]["ExitCode"] == 0, service
        assert 2 not in trial.numbers("done")
        # RabbitMQ counts a quorum queue anew every five seconds.
        wait_until(lambda: self.waiting(trial) == 1, "the task waits again", seconds=20)
        trial.release()
        trial.up()
        wait_until(lambda: 2 in trial.numbers("done"), "the task is done")

    def test_more_workers_share_the_work_and_two_beats_send_each_due_time_once(
        self, trial: Stack
    ) -> None:
        taken_before, done_before = self.taken_and_done(trial)
        trial.run("just", "celery-scale", "3")
        trial.up("--no-recreate", "--scale", "celery-worker=3", "--scale", "celery-beat=2")
        trial.send("work", range(500, 560), 0.3)
        wait_until(lambda: trial.numbers("done") >= set(range(500, 560)), "all tasks are done")
        where = {host for _, host, number in trial.noted("done") if 500 <= int(number) < 560}
        assert len(where) == 3
        time.sleep(5)
        taken, done = self.taken_and_done(trial)
        assert done - done_before == taken - taken_before > 5
        trial.compose("start", "celery-beat")

    def test_a_worker_that_is_cut_off_loses_nothing_and_comes_back(self, trial: Stack) -> None:
        trial.hold(*range(600, 606))  # two for each worker
        cut = Cut(trial.containers("celery-worker")[0]["Id"])
        trial.release()
        wait_until(
            lambda: (
                {
                    int(number)
                    for _, host, number in trial.noted("done")
                    if host != cut.host and int(number) in range(600, 606)
                }
                == set(range(600, 606))
            ),
            "others did what the worker could not say that it had done",
        )
        cut.heal()

        def takes_tasks() -> bool:
            trial.send("work", range(700, 712), 0.3)
            later = [host for when, host, _ in trial.noted("done") if when > cut.healed]
            return cut.host in later

        wait_until(takes_tasks, "the worker takes tasks again", seconds=180)

    def test_a_leading_beat_that_is_cut_off_is_replaced_within_a_lease(self, trial: Stack) -> None:
        taken_before, done_before = self.taken_and_done(trial)
        trial.compose("start", "celery-beat")
        wait_until(lambda: len(trial.noted("ticks")) > done_before, "a Beat leads")
        first, second = trial.containers("celery-beat")
        leader = first if leads(first["Id"]) > leads(second["Id"]) else second
        cut = Cut(leader["Id"])
        wait_until(
            lambda: any(when > cut.made + 3 for when, _, _ in trial.noted("ticks")),
            "the other Beat leads",
            seconds=40,
        )
        times = sorted(when for when, _, _ in trial.noted("ticks"))
        gap = min(when for when in times if when > cut.made + 3) - cut.made
        assert gap < 25, f"for {gap:.0f} s nothing was sent"
        cut.heal()
        trial.up("--no-recreate", "--scale", "celery-worker=3", "--scale", "celery-beat=2")
        time.sleep(5)
        taken, done = self.taken_and_done(trial)
        # The one due time that it may have taken at that moment is left out; none is sent twice.
        assert 0 <= (taken - taken_before) - (done - done_before) <= 1

    def test_down_and_up_keep_the_data(self, trial: Stack) -> None:
        trial.compose("stop", "celery-worker", "celery-beat")
        waiting = self.waiting(trial)
        trial.send("work", [3])
        trial.python("from apps.users.models import User; User.objects.create(username='kept')")
        wait_until(lambda: self.waiting(trial) == waiting + 1, "the task waits", seconds=20)
        trial.compose("down")
        trial.up()
        wait_until(lambda: 3 in trial.numbers("done"), "the task that waited is done")
        kept = "from apps.users.models import User; print(User.objects.get().username)"
        assert trial.python(kept) == "kept"

    def taken_and_done(self, trial: Stack) -> tuple[int, int]:
        """How many due times Beat has taken, and how many of its tasks ran; ends all Beats."""
        trial.compose("stop", "celery-beat")
        wait_until(lambda: self.waiting(trial) == 0, "nothing waits")
        time.sleep(7)  # RabbitMQ's count is up to five seconds old; what no longer waits runs
        taken = trial.python(
            "from django_celery_beat.models import PeriodicTask\n"
            "print(PeriodicTask.objects.get(task='apps.trial.tasks.tick').total_run_count)"
        )
        return int(taken), len({what for _, _, what in trial.noted("ticks")})


def works(trial: Stack) -> bool:
    """Whether the page runs a task; the server may be about to start again."""
    try:
        return "Processed: Hello" in trial.press_the_button()
    except OSError:
        return False


def leads(container: str) -> str:
    """When a Beat said last that it leads; nothing where it never did."""
    lines = docker("logs", "--timestamps", container).splitlines()
    return max((line for line in lines if "leads: it sends" in line), default="")


class Cut:
    """A container that reaches nothing any more: a machine whose network cable is out."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.host = container[:12]
        (described,) = json.loads(docker("inspect", container))
        self.networks = list(described["NetworkSettings"]["Networks"])
        assert len(self.networks) > 1
        for network in self.networks:
            docker("network", "disconnect", network, container)
        self.made = time.time()

    def heal(self) -> None:
        for network in self.networks:
            docker("network", "connect", network, self.container)
        self.healed = time.time()
