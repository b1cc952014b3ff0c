"""A project under `just dev`, and its page in a browser."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Page, expect

from support.projects import environment
from support.tutorial_steps import Terminal
from support.waiting import wait_until
from tests.faults.servers import PostgreSQL, Valkey

START_TIMEOUT = 90_000  # milliseconds, on a busy machine
SHOWN_TIMEOUT = 90_000  # a state is shown within 10 s on a machine that is not busy

TASKS = """

@shared_task(name="<script>document.title='taken'</script>")
def answer_with_markup(message: str) -> str:
    return "<img src=x onerror=\\"document.title='taken'\\">"


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task
def refuse(message: str) -> str:
    raise ValueError(f"no {message}")


@shared_task(max_retries=0)
def die_once(file: str) -> str:
    import os, pathlib, signal
    if pathlib.Path("var", file).exists():
        return "alive"
    pathlib.Path("var", file).touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def processes() -> list[tuple[int, int, str]]:
    """All processes: the id, the id of the parent, and the command."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parent = re.search(r"^PPid:\s+(\d+)$", (directory / "status").read_text(), re.MULTILINE)
            command = (directory / "cmdline").read_text().replace("\0", " ")
            if parent:
                found.append((int(directory.name), int(parent[1]), command))
    return found


class Project:
    """A project under `just dev`, with a broker and a database that can be stopped."""

    def __init__(self, directory: Path, broker: Valkey, database: PostgreSQL, port: int) -> None:
        self.directory = directory
        self.broker = broker
        self.database = database
        self.address = f"http://127.0.0.1:{port}/"
        variables = {"CELERY_BROKER_URL": broker.url, "PORT": str(port)}
        variables |= {"DATABASE_URL": database.url, "APP_VERSION": "1.4.0"}
        self.environment = environment(**variables, PYTHONUNBUFFERED="1")
        log = directory.parent / "dev.log"
        self.dev = Terminal("just dev", directory, self.environment, log)

    def answers(self) -> bool:
        """Whether the web process answers."""
        with suppress(OSError), urlopen(f"{self.address}healthz"):  # noqa: S310
            return True
        return False

    def stop(self, command: str, number: signal.Signals) -> None:
        """Send a signal to worker or Beat. Its watchfiles stays, and waits for a change."""
        rows = processes()
        family = {self.dev.process.pid}
        while more := {pid for pid, parent, _ in rows if parent in family} - family:
            family |= more
        watchers = {pid for pid, _, words in rows if "watchfiles" in words and command in words}
        [process] = [
            pid
            for pid, parent, words in rows
            if pid in family and parent in watchers and "watchfiles" not in words
            if command in words
        ]
        os.kill(process, number)

    def send(self, code: str) -> None:
        """Run Python that sends tasks of apps.tasks."""
        command = ["python", "manage.py", "shell", "--command"]
        code = f"from celery import chain; from apps.tasks import tasks; {code}"
        subprocess.run([*command, code], cwd=self.directory, env=self.environment, check=True)

    def start_again(self) -> None:
        """Change a file, so that web, worker and Beat start again."""
        (self.directory / "apps/__init__.py").touch()


def run_the_example_task(page: Page, press: Callable[[], object] | None = None) -> None:
    """Press the button until the task has run. The page waits for its end for at most 15 s."""
    press = press or page.get_by_role("button", name="Run the example task").click

    def has_run() -> bool:
        press()
        expect(page.locator("#run [aria-disabled]")).to_have_count(0)
        return page.locator("#outcome", has_text="Processed: Hello from the page").count() == 1

    wait_until(has_run, "the example task runs")


def card(page: Page, name: str) -> str:
    return f".part:has(h2:text-is('{name}'))"


def expect_state(page: Page, name: str, state: str) -> None:
    """Wait until the page, which is not reloaded, shows this state of a part."""
    mark = page.locator(f"{card(page, name)} .mark")
    expect(mark).to_have_text(state, timeout=SHOWN_TIMEOUT)
