"""`just dev`: the page, its button, and the end of all processes."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.conf import settings

from apps.pipeline.broker.embedded import free_port
from apps.pipeline.management.commands.dev import Processes
from apps.pipeline.tests.waiting import wait_until
from config.settings.celery import CELERY_RESULT_BACKEND

pytestmark = pytest.mark.faults  # it starts all processes twice

WAIT_TIMEOUT = 180  # seconds, for five processes that start on a busy machine
STEP = '<tr><th scope="row">run the task</th>'
PROCESS_GROUPS = 5  # of the command itself, broker, web, worker and Beat


def start(directory: Path, *, port: int, screen: str = "") -> "subprocess.Popen[bytes]":
    """Start `manage.py dev` with its own database and broker. It writes to a terminal or a file.

    The shell opens the terminal first, so it is its controlling terminal. Closing it sends SIGHUP.
    """
    variables = {
        "CELERY_BROKER_URL": "",  # use an embedded broker, even if .env sets another
        "DATABASE_URL": f"sqlite:///{directory}/db.sqlite3",
        "DJANGO_SETTINGS_MODULE": "apps.pipeline.tests.settings",
        "PORT": str(port),
    }
    on = ["sh", "-c", 'exec "$@" >"$0" 2>&1', screen or str(directory / "output")]
    return subprocess.Popen(
        [*on, sys.executable, "manage.py", "dev"],
        cwd=settings.BASE_DIR,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


@dataclass
class Dev:
    process: "subprocess.Popen[bytes]"
    port: int
    output: Path

    def ask(self, method: str = "GET", **fields: str) -> tuple[str, str]:
        """The page and the CSRF token of its form. Both are empty while the server starts."""
        page = HTTPConnection("127.0.0.1", self.port, timeout=WAIT_TIMEOUT)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if fields:
            headers["Cookie"] = f"csrftoken={fields['csrfmiddlewaretoken']}"
        try:
            page.request(method, "/", urlencode(fields), headers)
            response = page.getresponse()
            cookie = SimpleCookie(response.headers["Set-Cookie"])
            return response.read().decode(), cookie["csrftoken"].value
        except OSError:
            return "", ""
        finally:
            page.close()


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    directory = tmp_path_factory.mktemp("dev")
    port = free_port()
    # Because the lock is held, here or by your own `just dev`, the command uses another runtime
    # directory. So it does not run the tasks that wait in your broker.
    with (settings.BASE_DIR / "var" / "dev.lock").open("w") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = start(directory, port=port)
        yield Dev(process, port, directory / "output")
        process.terminate()
        process.wait(WAIT_TIMEOUT)


def groups(root: int) -> set[int]:
    """The process groups of a process and its descendants."""
    processes, family, known = running(), {root}, 0
    while len(family) > known:
        known = len(family)
        family |= {pid for pid, parent, _ in processes if parent in family}
    return {group for pid, _, group in processes if pid in family}


def running() -> list[tuple[int, int, int]]:
    """Id, parent and group of each running process."""
    listing = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="], text=True)
    rows = [line.split() for line in listing.splitlines()]
    return [(int(pid), int(ppid), int(pgid)) for pid, ppid, pgid, stat in rows if stat[0] != "Z"]


def assert_all_end(family: set[int]) -> None:
    def left() -> set[int]:
        return family & {group for _, _, group in running()}

    try:
        wait_until(lambda: not left())
    finally:
        for group in left():
            os.killpg(group, signal.SIGKILL)


def test_closing_the_terminal_stops_all_processes(dev: Dev, tmp_path: Path) -> None:
    window, screen = os.openpty()
    process = start(tmp_path, port=free_port(), screen=os.ttyname(screen))
    wait_until(lambda: len(groups(process.pid)) == PROCESS_GROUPS)
    family = groups(process.pid)
    os.close(screen)
    os.close(window)
    assert_all_end(family)
    process.wait(WAIT_TIMEOUT)


def test_a_port_in_use_is_an_error_of_one_line(dev: Dev, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert start(tmp_path, port=port).wait(WAIT_TIMEOUT) == 1
    sentence = "CommandError: PORT={} cannot be used: set it to a free port.\n"
    assert (tmp_path / "output").read_text() == sentence.format(port)
    assert start(tmp_path, port=70_000).wait(WAIT_TIMEOUT) == 1
    assert (tmp_path / "output").read_text() == sentence.format(70_000)


def test_the_page_says_that_all_parts_are_alive(dev: Dev) -> None:
    def alive() -> list[str]:
        page, _ = dev.ask()
        return re.findall(r'<h2>(\w+)</h2>\s*<span class="state good">', page)

    everything = ["Web", "Broker", "Worker", "Results", "Beat", "Database"]
    if CELERY_RESULT_BACKEND == "disabled://":
        everything.remove("Results")
    wait_until(lambda: alive() == everything)


def test_the_button_sends_a_task_through_the_pipeline(dev: Dev) -> None:
    def press() -> str:
        """Press it. The page does not wait as long as a worker takes to start on a busy machine."""
        _, token = dev.ask()
        return dev.ask("POST", csrfmiddlewaretoken=token)[0] if token else ""

    wait_until(lambda: "Processed: Hello" in (page := press()) and STEP in page)


@pytest.mark.skipif(
    CELERY_RESULT_BACKEND in ("django-db", "disabled://"),
    reason="the embedded broker does not store results",
)
def test_results_are_stored_in_the_embedded_broker(dev: Dev) -> None:
    def ports() -> list[str]:
        banner = r"(?:transport|results): +redis://\S*127\.0\.0\.1:(\d+)"
        return re.findall(banner, dev.output.read_text())

    wait_until(lambda: "[tasks]" in dev.output.read_text())
    assert len(ports()) == 2
    assert len(set(ports())) == 1


def test_sigterm_stops_all_processes(dev: Dev) -> None:
    wait_until(lambda: all(dev.ask()))
    wait_until(lambda: len(groups(dev.process.pid)) == PROCESS_GROUPS)
    family = groups(dev.process.pid)
    dev.process.send_signal(signal.SIGTERM)
    assert_all_end(family)
    assert dev.process.wait(WAIT_TIMEOUT) == 0


def test_child_processes_of_a_command_get_no_signal() -> None:
    words = ["sh", "-c", "sleep 600 & echo $!; wait"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout
        child = int(process.stdout.readline())
        Processes().terminate(process.pid)
        assert process.wait(WAIT_TIMEOUT) == -signal.SIGTERM
        os.kill(child, 0)
        Processes().terminate(process.pid)  # it has exited
    finally:
        os.killpg(process.pid, signal.SIGKILL)
