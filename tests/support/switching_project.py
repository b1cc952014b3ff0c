"""A project whose tasks and schedules run while its answers change."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.git import git
from support.probe_project import LONG_TIMEOUTS
from support.projects import commit, environment, run
from support.servers import SQSServer
from support.waiting import WAIT_TIMEOUT, wait_until
from tests.faults.servers import RabbitMQ, Valkey

TASKS = '''

@shared_task
def record_run(name: str) -> None:
    """Record that the task ran. The first run of the task `held` never ends."""
    import time
    from pathlib import Path

    with Path("var", "runs").open("a") as runs:
        runs.write(f"{name} {time.time()}\\n")
    if name == "held" and Path("var", "runs").read_text().count("held") == 1:
        time.sleep(600)
'''

SCHEDULES = """
from datetime import datetime, timedelta

from apps.pipeline.schedules import Schedule

RECORD_RUN = "apps.tasks.tasks.record_run"
SCHEDULES = [
    Schedule(name="Tick", task=RECORD_RUN, when=timedelta(seconds=1), args=["tick"]),
    Schedule(name="Daily", task=RECORD_RUN, when=timedelta(days=1), args=["daily"]),
    Schedule(name="Once", task=RECORD_RUN, when=datetime.fromisoformat("ONCE"), args=["once"]),
]
"""

SEND = """
from apps.tasks.tasks import record_run
for number in range(3):
    record_run.delay(f"waits-{number}")
record_run.apply_async(args=["reports"], queue="reports")
record_run.apply_async(args=["later"], countdown=SECONDS)
"""


class Project:
    """A project with a task that records its runs, and with schedules of this task."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with (directory / "apps" / "tasks" / "tasks.py").open("a") as file:
            file.write(TASKS)
        with (directory / "config" / "settings" / "project.py").open("a") as file:
            file.write(LONG_TIMEOUTS)
        self.manage("migrate", "--verbosity", "0")
        once = datetime.now(UTC) + timedelta(seconds=100)  # Beat has to run before this time
        schedules = SCHEDULES.replace("ONCE", once.isoformat())
        (directory / "apps" / "tasks" / "schedules.py").write_text(schedules)
        commit(directory)
        self.manage("sync_schedules")

    def run(self, *command: str) -> str:
        return run(self.directory, *command)

    def manage(self, *arguments: str) -> str:
        return self.run(sys.executable, "manage.py", *arguments)

    def switch(self, **answers: str) -> None:
        """Change answers with `copier update`, and commit the changes."""
        given = [word for name in answers for word in ("-d", f"{name}={answers[name]}")]
        self.run("copier", "update", "-r", ":current:", "--defaults", *given)
        git(self.directory, "add", "--all")
        git(self.directory, "commit", "--quiet", "--message", "Switched")
        self.manage("migrate", "--verbosity", "0")

    @contextmanager
    def started(self, name: str, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a process. At the end it gets SIGTERM, then its process group is killed."""
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
            process.wait(WAIT_TIMEOUT)
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

    def runs(self) -> dict[str, list[float]]:
        """The times at which each task ran, in seconds since 1970."""
        found: dict[str, list[float]] = {}
        with suppress(FileNotFoundError):
            for line in (self.directory / "var" / "runs").read_text().splitlines():
                name, moment = line.split()
                found.setdefault(name, []).append(float(moment))
        return found

    def wait_for(self, *names: str) -> None:
        wait_until(lambda: set(names) <= self.runs().keys(), f"{names} in {self.log()}")

    def wait_for_more(self, name: str) -> None:
        before = len(self.runs().get(name, []))
        wait_until(lambda: len(self.runs().get(name, [])) > before, f"more of {name}")

    def log(self) -> str:
        return f"{self.directory / 'var'}/*.log"


@contextmanager
def server(kind: str, directory: Path) -> Iterator[str]:
    kinds = {"redis": Valkey, "amqp": RabbitMQ, "sqs": SQSServer}
    with kinds[kind](directory) as running, pytest.MonkeyPatch.context() as patch:
        if isinstance(running, SQSServer):
            for name, value in running.client_variables().items():
                patch.setenv(name, value)
        yield running.url.replace("guest:guest@", "")  # an answer must not contain a password
