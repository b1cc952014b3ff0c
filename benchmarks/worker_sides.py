"""The two sides of benchmarks/worker.py: how their processes start, and their CPU and memory."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "template"))

from apps.pipeline.broker.embedded import end_with_parent
from apps.pipeline.broker.embedded import server as server

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "benchmarks" / "worker_client.py"
PROCESSES = 2  # of each worker's pool
TIMEOUT = 120  # seconds for any single step
TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds of CPU are counted in these


@dataclass(frozen=True)
class Side:
    """An application, and how its processes are started."""

    directory: Path
    app: str  # what `celery -A` names
    tasks: str  # the module with the task `ping`
    variables: dict[str, str]

    def environment(self) -> dict[str, str]:
        named = ("CELERY_", "DJANGO_")
        inherited = {key: word for key, word in os.environ.items() if not key.startswith(named)}
        return inherited | self.variables

    def client(self, what: str, count: int) -> dict[str, Any]:
        """The figures that worker_client.py prints."""
        command = [sys.executable, str(CLIENT), self.tasks, what, str(count)]
        process = subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment(),
            timeout=TIMEOUT,
            check=True,
            stdout=subprocess.PIPE,
        )
        figures: dict[str, Any] = json.loads(process.stdout)
        return figures

    def manage(self, *arguments: str) -> str:
        """What a command of manage.py prints."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.directory,
            env=self.environment(),
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        ).stdout

    def worker(self, log: Path) -> AbstractContextManager[int]:
        """Run a worker; give the session that all of its processes are in."""
        options = [f"--concurrency={PROCESSES}", "--loglevel=INFO"]
        command = [sys.executable, "-m", "celery", "-A", self.app, "worker", *options]
        return running(command, self.directory, self.environment(), log)


@contextmanager
def running(
    command: list[str], directory: Path, environment: dict[str, str], log: Path
) -> Iterator[int]:
    """Run a command; give the session that all of its processes are in."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            end_with_parent(command),
            cwd=directory,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        finally:
            with suppress(ProcessLookupError):  # nothing is left of it, nor its watcher
                os.killpg(process.pid, signal.SIGKILL)


def new_project(root: Path, broker: str, results: str, settings: str = "production") -> Side:
    """A new project with the default answers and these settings."""
    copy = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD"]
    subprocess.run([*copy, str(ROOT), str(root / "project")], check=True)
    variables = {
        "CELERY_BROKER_URL": broker,
        "CELERY_RESULT_BACKEND": results,
        "DATABASE_URL": f"sqlite:///{root / 'db.sqlite3'}",
        "DJANGO_ALLOWED_HOSTS": "example.com",
        "DJANGO_SECRET_KEY": "only-for-this-benchmark-and-fifty-characters-long",
        "DJANGO_SETTINGS_MODULE": f"config.settings.{settings}",
        "RUNTIME_DIR": str(root),
    }
    return Side(root / "project", "config", "apps.pipeline.tasks", variables)


def processes(session: int) -> Iterator[tuple[Path, list[str]]]:
    """The directory in /proc of each process of the session, with the fields of its `stat`."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        name, _, rest = stat.partition(" (")[2].rpartition(") ")
        fields = rest.split()
        if int(fields[3]) == session and name not in ("sh", "sleep"):  # the watcher's
            yield directory, fields


def cpu(session: int) -> float:
    """Seconds of CPU that the session's processes have used."""
    return TICK * sum(int(fields[11]) + int(fields[12]) for _, fields in processes(session))


def memory(session: int) -> float:
    """MiB of the session's processes; what several share is divided among them."""
    rollups = [(directory / "smaps_rollup").read_text() for directory, _ in processes(session)]
    lines = [line.split() for rollup in rollups for line in rollup.splitlines()]
    return sum(int(words[1]) for words in lines if words[0] == "Pss:") / 1024
