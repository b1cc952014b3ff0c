"""The processes of a project, each with a supervisor, and the records of its tasks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from celery import Celery
from django.conf import settings
from redis import Redis

from apps.pipeline.broker import embedded
from tests.faults.servers import Server, Valkey, reserved_port, wait_until

WAIT_TIMEOUT = 120  # seconds; on a machine that is not busy each step takes a few
RECOVERED_WITHIN = 120  # seconds for a recovery; 60 on a machine that is not busy
ERROR_WITHIN = 28  # seconds; 3 on a machine that is not busy, and 30 or more without the limits
APP = "tests.faults"
MIGRATED: list[bytes] = []  # an SQLite database, which is created once
FULL = os.environ.get("FAULTS_ROUNDS", "full") == "full"


@dataclass
class Row:
    """A row of the table: the fault, and the number of accepted and completed tasks."""

    fault: str
    injected: str = ""
    accepted: int | None = None
    done: int | None = None
    seconds: float | None = None  # the longest recovery
    verdict: str = ""

    def recovered(self, seconds: float) -> None:
        self.seconds = max(seconds, self.seconds or 0)


class Supervised:
    """A process with a supervisor that restarts it, as systemd or a container engine does."""

    def __init__(self, command: list[str], variables: dict[str, str], directory: Path) -> None:
        directory.mkdir()
        self.command, self.variables, self.directory = command, variables, directory
        self.exits: list[tuple[float, int]] = []  # time and exit code
        self.restarts = True
        self._lock = threading.Lock()
        self._start()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def _start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                embedded.end_with_parent(self.command),
                cwd=settings.BASE_DIR,
                env=os.environ | self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _supervise(self) -> None:
        while True:
            code = self.process.wait()
            self.exits.append((time.monotonic(), code))
            with suppress(ProcessLookupError):  # a container engine also kills the child processes
                os.killpg(self.process.pid, signal.SIGKILL)
            with self._lock:
                if not self.restarts:
                    return
                self._start()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, as a container engine does."""
        self.process.send_signal(number)

    def kill_group(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        for file in self.directory.glob("*.heartbeat"):  # a new container has no old files
            file.unlink(missing_ok=True)

    def do_not_restart(self) -> None:
        """Do not restart it when it exits."""
        with self._lock:
            self.restarts = False

    def wait_end(self, within: float) -> int:
        """Wait until a process that is not restarted exits, and return its exit code."""
        self._thread.join(within)
        assert not self._thread.is_alive(), f"still there after {within:.0f} s"
        return self.exits[-1][1]

    def end(self) -> None:
        self.do_not_restart()
        with suppress(ProcessLookupError):
            self.kill_group()
        self._thread.join(WAIT_TIMEOUT)

    def is_healthy(self, role: str) -> bool:
        """Whether the health check of the project's containers succeeds."""
        command = [sys.executable, "-S", "bin/heartbeat.py", role]
        variables = os.environ | {"RUNTIME_DIR": str(self.directory)}
        done = subprocess.run(
            command, cwd=settings.BASE_DIR, env=variables, capture_output=True, check=False
        )
        return done.returncode == 0


@dataclass
class System:
    """The project's processes on a broker and a database. They stop with the context."""

    broker: Server
    database: Server | None = None  # SQLite without one
    migrated: bool = True
    grace: int = 0  # seconds; with 0, the project's setting. The same for `visibility`
    visibility: int = 0
    processes: dict[str, Supervised] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(TemporaryDirectory(prefix="faults-")))
        self.queue = self.directory.name  # unique, because several tests can use the same broker
        self.records = self.directory / "records"
        results = self.broker.url
        if not results.startswith("redis"):
            results = "django-db"
            if not find_spec("django_celery_results"):
                results = self._stack.enter_context(Valkey(self.directory / "results")).url
        file = self.directory / "db.sqlite3"
        self.variables = {
            "CELERY_BROKER_URL": self.broker.url,
            "CELERY_RESULT_BACKEND": results,
            "DATABASE_URL": self.database.url if self.database else f"sqlite:///{file}",
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "FAULTS_APPS": APP,
            "FAULTS_GRACE": str(self.grace),
            "FAULTS_QUEUE": self.queue,
            "FAULTS_RECORDS": str(self.records),
            "FAULTS_VISIBILITY": str(self.visibility),
        }
        if self.migrated and not self.database and MIGRATED:
            file.write_bytes(MIGRATED[0])
        elif self.migrated:
            self.manage("migrate", "--verbosity", "0")
            if not self.database:
                MIGRATED.append(file.read_bytes())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self.processes.values():
            process.end()
        if error and (kept := os.environ.get("FAULTS_KEEP")):
            shutil.copytree(self.directory, Path(kept) / self.directory.name)
        self._stack.close()

    def manage(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR,
            env=os.environ | self.variables,
            check=True,
        )

    def start(self, name: str, *command: str, **variables: str) -> Supervised:
        directory = self.directory / name
        variables = self.variables | {"RUNTIME_DIR": str(directory)} | variables
        self.processes[name] = Supervised([sys.executable, *command], variables, directory)
        return self.processes[name]

    def worker(self, name: str = "worker", *options: str, **variables: str) -> Supervised:
        options = (
            "--loglevel",
            "info",
            "--concurrency",
            "2",
            "--hostname",
            self.node(name),
            *options,
        )
        return self.start(name, "-m", "celery", "-A", "config", "worker", *options, **variables)

    def node(self, name: str = "worker") -> str:
        """The name of a worker in Celery."""
        return f"{name}@{self.queue}"

    def beat(self, name: str = "beat") -> Supervised:
        return self.start(name, "-m", "celery", "-A", "config", "beat", "--loglevel", "info")

    def web(self, timeout: int = 0) -> Supervised:
        """Start web. It waits for the broker for so many seconds; with 0, the project's setting."""
        self.port = reserved_port()
        bind = ["--bind", f"127.0.0.1:{self.port}", "--threads", "4"]
        command = ("-m", "gunicorn", "config.wsgi", *bind)
        return self.start("web", *command, FAULTS_TIMEOUT=str(timeout))

    def wait_ready(self) -> None:
        """Wait until all processes are ready."""

        def is_ready(process: Supervised) -> bool:
            role = next((role for role in ("worker", "beat") if role in process.command), "web")
            return self.get("/healthz")[0] == 200 if role == "web" else process.is_healthy(role)

        for name, process in self.processes.items():
            if process.restarts:
                wait_until(partial(is_ready, process), WAIT_TIMEOUT, f"{name} at work")

    def get(self, path: str) -> tuple[int, str]:
        """The status and the text of a page; status 0 if the web server does not answer."""
        page = HTTPConnection("127.0.0.1", self.port, timeout=WAIT_TIMEOUT)
        try:
            page.request("GET", path)
            response = page.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            page.close()

    def send_through_web(
        self, name: str, first: int, count: int, seconds: float = 0.0, countdown: int = 0
    ) -> dict[str, str]:
        """Send tasks through the web process. Return the ids of the accepted tasks by number."""
        details = f"countdown={countdown}" + (f"&seconds={seconds}" if seconds else "")
        _, answer = self.get(f"/send/{name}/{first}/{count}?{details}")
        accepted: dict[str, str] = json.loads(answer)["accepted"]
        return accepted

    def send_work(self, number: object, seconds: float = 0.02, countdown: int = 0) -> str:
        """Send a task without the web process. Return its id."""
        sent = self.app.send_task(f"{APP}.tasks.work", [number, seconds], countdown=countdown)
        return str(sent.id)

    @cached_property
    def app(self) -> Celery:
        """A connection to the broker, independent of the processes."""
        app = Celery("tests", amqp="apps.pipeline.broker.queues:AMQP", set_as_current=False)
        app.conf.update(broker_url=self.broker.url, task_default_queue=self.queue)
        if self.broker.url.startswith("sentinel"):
            app.conf.broker_transport_options = {"master_name": "mymaster"}
        if self.broker.url.startswith("amqp"):  # as in config/settings/celery.py
            app.conf.task_default_queue_type = app.conf.task_create_missing_queue_type = "quorum"
            app.conf.task_default_exchange_type = "topic"
            app.conf.task_create_missing_queue_exchange_type = "topic"
        return app

    def waiting(self) -> int:
        """The number of messages in the queue."""
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            return int(channel.queue_declare(queue=self.queue, passive=True).message_count)

    def unacknowledged(self) -> int:
        """The number of unacknowledged messages, on Redis."""
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            return int(channel.client.hlen("unacked"))

    def recorded(self, kind: str) -> set[str]:
        """The names in the records of tasks, of the kind `done` or `running`."""
        with suppress(FileNotFoundError), os.scandir(self.records / kind) as files:
            # An empty file is still being written.
            return {file.name for file in files if file.stat().st_size}
        return set()

    def runs(self, kind: str, name: object) -> int:
        """How often a task ran."""
        with suppress(FileNotFoundError):
            return len((self.records / kind / str(name)).read_text().splitlines())
        return 0

    def wait_more(self, kind: str, than: int, within: float = WAIT_TIMEOUT) -> float:
        """Wait until there are more than `than` records of a kind."""
        return wait_until(
            lambda: len(self.recorded(kind)) > than, within, f"more than {than} {kind}"
        )

    def wait_done(self, tasks: dict[str, str], within: float = WAIT_TIMEOUT) -> float:
        """Wait until all accepted tasks have run."""

        def missing() -> set[str]:
            return tasks.keys() - self.recorded("done")

        try:
            return wait_until(lambda: not missing(), within, "all tasks done")
        except AssertionError:
            lost = sorted(missing())
            raise AssertionError(f"{len(lost)} tasks are lost: {lost[:20]}") from None

    def held(self) -> list[bytes]:
        """The keys in which a Redis records what workers have."""
        with Redis.from_url(self.broker.url) as redis:
            return [*redis.keys("unacked*"), *redis.keys("pipeline.held.*")]

    def ran_or_recorded(self) -> set[str]:
        """The tasks of a Redis broker that ran, wait, or are recorded as held by a worker."""
        with Redis.from_url(self.broker.url) as redis, redis.pipeline() as at_once:
            messages, records = at_once.lrange(self.queue, 0, -1).hvals("unacked").execute()
        messages += [json.dumps(json.loads(record)[0]) for record in records]
        bodies = [json.loads(b64decode(json.loads(message)["body"])) for message in messages]
        return {str(body[0][0]) for body in bodies} | self.recorded("done")

    def kill_a_process_at_work(self) -> None:
        """Kill a process while it runs a task."""
        wait_until(lambda: self.recorded("running"), WAIT_TIMEOUT, "a task that runs")
        for process in self.recorded("running"):
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
            (self.records / "running" / process).unlink(missing_ok=True)
            return
