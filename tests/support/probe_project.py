"""A project for a cell of the matrix, with a running worker and Beat."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from support.matrix import Cell
from support.projects import environment, run
from support.rendering import ROOT, render
from support.servers import end_with_parent
from support.waiting import WAIT_TIMEOUT

LONG_TIMEOUTS = """
from config.settings.celery import CELERY_BROKER_TRANSPORT_OPTIONS as _options
from config.settings.celery import SENTINEL as _sentinel
_timeouts = {"socket_timeout": 30, "socket_connect_timeout": 30}
_sentinel["sentinel_kwargs"] |= _timeouts
_timeouts["answer_timeout"] = 30
_timeouts["client-config"] = {"connect_timeout": 30, "read_timeout": 30}
_options |= {name: value for name, value in _timeouts.items() if name in _options}
CELERY_BROKER_CONNECTION_TIMEOUT = 30
CELERY_REDIS_SOCKET_TIMEOUT = CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 30
"""
"""Settings for programs that send: they fail within 3 s otherwise, and a server can be slow."""

TRY = """
import time
from kombu.exceptions import OperationalError
from apps.probe.tasks import nap
began = time.monotonic()
try:
    nap.delay(0)
except OperationalError as error:
    print(error)
print(time.monotonic() - began)
"""
SEND_TIMEOUT = 30
"""Seconds until sending fails on a busy machine. The limit is 3 s, and without it minutes."""
TRY_TO_SEND = ("python", "manage.py", "shell", "--verbosity", "0", "--command", TRY)


def production(directory: Path) -> dict[str, str]:
    """The environment of a project with production settings and a database in this directory."""
    return {
        "DATABASE_URL": f"sqlite:///{directory}/db.sqlite3",
        "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
        "DJANGO_SECRET_KEY": "only-for-this-test-" * 3,
        "DJANGO_SETTINGS_MODULE": "config.settings.production",
    }


class Project:
    """A rendered project with the probe app, as a user adds an app, and its environment."""

    monitoring: ClassVar[list[str]] = []
    long_timeouts: ClassVar[bool] = True

    def __init__(self, template: Path, directory: Path, cell: Cell, **variables: str) -> None:
        answers = cell.answers() | {"monitoring": self.monitoring}
        self.directory = render(template, directory, **answers)
        self.variables = {
            "PROBE_NOTES": str(directory.with_suffix(".notes")),
            "PROBE_WORD": f"tick of {directory}",
            **variables,
        }
        shutil.copytree(ROOT / "tests" / "live" / "probe", directory / "apps" / "probe")
        self.add("config/settings/base.py", 'INSTALLED_APPS += ["apps.probe"]')
        if self.long_timeouts:
            self.add("config/settings/project.py", LONG_TIMEOUTS)
        if cell.database == "mysql":
            self.add("config/settings/project.py", "import pymysql; pymysql.install_as_MySQLdb()")

    def add(self, file: str, line: str) -> None:
        """Add a line to a file of the project, as a user does."""
        with (self.directory / file).open("a") as text:
            text.write(f"\n{line}\n")

    def run(self, *command: str, codes: tuple[int, ...] = (0,), **variables: str) -> str:
        """Run a command in the project's environment. See `projects.run`."""
        return run(self.directory, *command, codes=codes, timeout=600, **self.variables | variables)

    def done(self) -> set[str]:
        """The ids of the tasks that have run."""
        notes = Path(self.variables["PROBE_NOTES"])
        lines = notes.read_text().splitlines() if notes.exists() else []
        return {json.loads(line)[0] for line in lines}

    def log(self, process: str) -> str:
        """The logs of worker and Beat."""
        return self._log(process).read_text(errors="replace")

    def _log(self, process: str) -> Path:
        return self.directory.with_suffix(f".{process}.log")

    @contextmanager
    def started(
        self, *command: str, code: int = 0, **variables: str
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command in the background. It has to exit with this code on SIGTERM."""
        with self._log(command[3]).open("ab") as output:
            process = subprocess.Popen(
                end_with_parent([*command]),
                cwd=self.directory,
                env=environment(**self.variables | variables),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
            process.terminate()
            assert process.wait(WAIT_TIMEOUT) == code, f"{command} ends with {process.returncode}"
        except BaseException as error:
            error.add_note(f"{' '.join(command)}:\n{self.log(command[3])[-8000:]}")
            raise
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run worker and Beat with the documented commands. They have to exit with 0."""
        with (
            self.started("celery", "-A", "config", "worker", "-l", "info"),
            self.started("celery", "-A", "config", "beat", "-l", "info"),
        ):
            yield
