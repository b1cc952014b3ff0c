"""Switching with tasks and schedules at work: nothing that was accepted is lost on the way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import git
from projects import environment, run
from rendering import ROOT, render
from servers import Simulator
from test_switching import committed

sys.path.append(str(ROOT / "template"))  # last, so that only its packages are found there

from tests.faults.servers import RabbitMQ, Valkey

PATIENCE = 120  # seconds for what takes a few on a quiet machine

TASKS = '''

@shared_task
def leave(name: str) -> None:
    """Leave a trace. One called `held` never comes to an end when it runs for the first time."""
    import time
    from pathlib import Path

    with Path("var", "traces").open("a") as traces:
        traces.write(f"{name} {time.time()}\\n")
    if name == "held" and Path("var", "traces").read_text().count("held") == 1:
        time.sleep(600)
'''

SCHEDULES = """
from datetime import datetime, timedelta

from apps.pipeline.schedules import Schedule

LEAVE = "apps.tasks.tasks.leave"
SCHEDULES = [
    Schedule(name="Tick", task=LEAVE, when=timedelta(seconds=1), args=["tick"]),
    Schedule(name="Daily", task=LEAVE, when=timedelta(days=1), args=["daily"]),
    Schedule(name="Once", task=LEAVE, when=datetime.fromisoformat("ONCE"), args=["once"]),
]
"""

SEND = """
from apps.tasks.tasks import leave
for number in range(3):
    leave.delay(f"waits-{number}")
leave.apply_async(args=["reports"], queue="reports")
leave.apply_async(args=["later"], countdown=SECONDS)
"""


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.1)


class Project:
    """A project with a task that leaves traces, and with schedules of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with (directory / "apps" / "tasks" / "tasks.py").open("a") as file:
            file.write(TASKS)
        self.manage("migrate", "--verbosity", "0")
        once = datetime.now(UTC) + timedelta(seconds=60)  # before it is past, this is in place
        schedules = SCHEDULES.replace("ONCE", once.isoformat())
        (directory / "apps" / "tasks" / "schedules.py").write_text(schedules)
        committed(directory)
        self.manage("sync_schedules")

    def run(self, *command: str) -> str:
        return run(self.directory, *command)

    def manage(self, *arguments: str) -> str:
        return self.run(sys.executable, "manage.py", *arguments)

    def switch(self, **answers: str) -> None:
        """Answer otherwise, as a person does, and commit what changed."""
        given = [word for name in answers for word in ("-d", f"{name}={answers[name]}")]
        self.run("copier", "update", "-r", ":current:", "--defaults", *given)
        git(self.directory, "add", "--all")
        git(self.directory, "commit", "--quiet", "--message", "Switched")
        self.manage("migrate", "--verbosity", "0")

    @contextmanager
    def started(self, name: str, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A process, which is told to end in the end, and killed with all that it started."""
        with (self.directory / "var" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
            process.terminate()  # a Beat that is killed holds RedBeat's lock until its lease ends
            process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def celery(self, *arguments: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "celery", "-A", "config", *arguments, "-l", "info"]
        return self.started(arguments[0], *command)

    def worker(self) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        return self.celery("worker", "--concurrency", "2", "--queues", "celery,reports")

    def beat(self) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        return self.celery("beat")

    def traces(self) -> dict[str, list[float]]:
        """When each task ran, in seconds since 1970."""
        found: dict[str, list[float]] = {}
        with suppress(FileNotFoundError):
            for line in (self.directory / "var" / "traces").read_text().splitlines():
                name, moment = line.split()
                found.setdefault(name, []).append(float(moment))
        return found

    def wait_for(self, *names: str) -> None:
        wait_until(lambda: set(names) <= self.traces().keys(), f"{names} in {self.log()}")

    def wait_for_more(self, name: str) -> None:
        before = len(self.traces().get(name, []))
        wait_until(lambda: len(self.traces().get(name, [])) > before, f"more of {name}")

    def log(self) -> str:
        return f"{self.directory / 'var'}/*.log"


@contextmanager
def server(kind: str, directory: Path) -> Iterator[str]:
    kinds = {"redis": Valkey, "amqp": RabbitMQ, "sqs": Simulator}
    with kinds[kind](directory) as running, pytest.MonkeyPatch.context() as patch:
        if isinstance(running, Simulator):
            for name, value in running.client_variables().items():
                patch.setenv(name, value)
        yield running.url.replace("guest:guest@", "")  # no password may be answered


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("redis", "database"), ("amqp", "file")),
        (("amqp", "file"), ("redis", "redbeat")),
        (("redis", "redbeat"), ("redis", "database")),
        (("redis", "database"), ("sqs", "file")),
        (("sqs", "file"), ("redis", "database")),
    ],
    ids=lambda broker: "-".join(broker),
)
@pytest.mark.live("rabbitmq-server")
def test_what_waits_at_the_old_broker_is_run_by_the_recipe(
    template: Path, tmp_path: Path, old: tuple[str, str], new: tuple[str, str]
) -> None:
    with (
        server(old[0], tmp_path / "old") as old_url,
        server(new[0], tmp_path / "new") as new_url,
    ):
        answers = {"broker_url": old_url, "result_backend": "none", "beat_scheduler": old[1]}
        project = Project(render(template, tmp_path / "project", **answers))

        # A worker is stopped with a task in its hands; Beat and others send what nobody takes.
        project.manage("shell", "-c", "from apps.tasks.tasks import leave; leave.delay('held')")
        with project.worker() as worker:
            project.wait_for("held")
            worker.terminate()
            worker.wait(PATIENCE)
        with project.beat():
            wait_until(lambda: "Sending due task Tick" in log(project, "beat"), "a tick")
        project.manage("shell", "-c", SEND.replace("SECONDS", "20"))
        sent = time.time()
        assert project.traces().keys() == {"held"}

        project.switch(broker_url=new_url, result_backend="none", beat_scheduler=new[1])
        where = [old_url] if old[1] == "redbeat" else []
        dropped = project.run("just", "drop-schedules", old[1], *where)
        assert "Schedule removed: " in dropped
        assert "Nothing to remove." in project.run("just", "drop-schedules", old[1], *where)

        # The new worker leaves alone what waits at the old broker, which the recipe runs.
        with project.worker(), project.beat():
            project.wait_for_more("tick")
            project.wait_for_more("tick")
            assert "waits-0" not in project.traces()
        with project.started(
            "drain", "just", "drain", old_url, "none", "--queues", "celery,reports"
        ) as drain:
            project.wait_for("waits-0", "waits-1", "waits-2", "reports", "later")
            wait_until(lambda: len(project.traces()["held"]) == 2, "the held task again")
            os.killpg(drain.pid, signal.SIGINT)  # what a terminal does
            drain.wait(PATIENCE)
        traces = project.traces()
        assert traces["later"][0] - sent > 15
        assert {name: len(traces[name]) for name in ("waits-0", "reports", "later")} == {
            "waits-0": 1,
            "reports": 1,
            "later": 1,
        }
        assert "daily" not in traces


def log(project: Project, process: str) -> str:
    with suppress(FileNotFoundError):
        return (project.directory / "var" / f"{process}.log").read_text(errors="replace")
    return ""


STALE = """
from datetime import timedelta
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
last = timezone.now() - timedelta(days=3)
assert PeriodicTask.objects.filter(name="Daily").update(last_run_at=last) == 1
yearly = IntervalSchedule.objects.create(every=365, period="days")
PeriodicTask.objects.create(name="By hand", task="apps.tasks.tasks.leave", interval=yearly)
"""


def test_schedules_go_round_all_schedulers_and_nothing_fires_twice(
    template: Path, tmp_path: Path
) -> None:
    with server("redis", tmp_path / "broker") as url:
        project = Project(render(template, tmp_path / "project", broker_url=url))

        with project.worker(), project.beat():
            project.wait_for("tick", "once")
        project.manage("shell", "-c", STALE)

        project.switch(beat_scheduler="redbeat")
        dropped = project.run("just", "drop-schedules", "database").splitlines()
        assert dropped == [f"Schedule removed: {name}" for name in ("Daily", "Once", "Tick")]
        with project.worker(), project.beat():
            project.wait_for_more("tick")

        # RedBeat's code came with a later answer, and goes with it.
        drop_redbeat = ("just", "drop-schedules", "redbeat")
        assert project.run(*drop_redbeat).splitlines() == dropped
        project.switch(beat_scheduler="file")
        refusal = run(project.directory, *drop_redbeat, codes=(1,))
        assert "-d beat_scheduler=redbeat" in refusal
        with project.worker(), project.beat():
            project.wait_for_more("tick")

        project.switch(beat_scheduler="database")
        assert "celerybeat-schedule" in project.run("just", "drop-schedules", "file")
        with project.worker(), project.beat():
            project.wait_for_more("tick")
            project.wait_for_more("tick")
        assert len(project.traces()["once"]) == 1
        assert "daily" not in project.traces()
