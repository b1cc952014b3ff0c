"""`just dev` as a person meets it: one command, a page, a button, and nothing left behind."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.conf import settings

from apps.pipeline.embedded import free_port
from config.settings.celery import CELERY_RESULT_BACKEND

pytestmark = pytest.mark.faults  # it starts everything there is, twice

PATIENCE = 60  # seconds to wait for what takes a few
FAMILY = 5  # process groups: its own, broker, web, worker, Beat


def start(directory: Path, *, port: int, screen: str = "") -> "subprocess.Popen[bytes]":
    """A `manage.py dev` with a database and a broker of its own, that writes to a screen or file.

    A terminal that it opens first thing in its new session is its own, and hangs up on it.
    """
    variables = {
        "CELERY_BROKER_URL": "",  # an embedded one, whatever .env says
        "DATABASE_URL": f"sqlite:///{directory}/db.sqlite3",
        "DJANGO_SETTINGS_MODULE": "config.settings.local",
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
        """The page, and the token that a form on it needs; both empty while nobody answers."""
        page = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
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
    # While this holds the lock, or your own `just dev` does, the one started here keeps to a
    # directory beside it: what waits in your broker stays there.
    with (settings.BASE_DIR / "var" / "dev.lock").open("w") as lock:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = start(directory, port=port)
        yield Dev(process, port, directory / "output")
        process.terminate()
        process.wait(PATIENCE)


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def groups(root: int) -> set[int]:
    """The process groups of a process and of all that descend from it."""
    found, family = set(), {root}
    for pid, parent, group in sorted(running()):
        if pid in family or parent in family:
            family.add(pid)
            found.add(group)
    return found


def running() -> list[tuple[int, int, int]]:
    """Id, parent and group of every process that has not ended."""
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


def test_closing_the_terminal_leaves_no_process_behind(dev: Dev, tmp_path: Path) -> None:
    window, screen = os.openpty()
    process = start(tmp_path, port=free_port(), screen=os.ttyname(screen))
    wait_until(lambda: len(groups(process.pid)) == FAMILY)
    family = groups(process.pid)
    os.close(screen)
    os.close(window)
    assert_all_end(family)
    process.wait(PATIENCE)


def test_a_port_that_is_taken_is_one_clear_sentence(dev: Dev, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert start(tmp_path, port=port).wait(PATIENCE) == 1
    sentence = f"CommandError: PORT={port} cannot be used: set it to a port that is free.\n"
    assert (tmp_path / "output").read_text() == sentence


def test_the_page_says_that_all_parts_are_alive(dev: Dev) -> None:
    def alive() -> list[str]:
        page, _ = dev.ask()
        return re.findall(r"<th>(\w+)</th>\s*<td[^>]*>alive</td>", page)

    wait_until(lambda: alive() == ["database", "broker", "worker", "beat"])


def test_the_button_sends_a_task_through_the_pipeline(dev: Dev) -> None:
    wait_until(lambda: all(dev.ask()))
    _, token = dev.ask()
    page, _ = dev.ask("POST", csrfmiddlewaretoken=token)
    assert "Processed: Hello" in page
    assert "<tr><th>the task itself</th>" in page


@pytest.mark.skipif(
    CELERY_RESULT_BACKEND in ("django-db", "disabled://"), reason="results have another place"
)
def test_results_are_kept_by_its_own_broker(dev: Dev) -> None:
    def ports() -> list[str]:
        banner = r"(?:transport|results): +redis://\S*127\.0\.0\.1:(\d+)"
        return re.findall(banner, dev.output.read_text())

    wait_until(lambda: "[tasks]" in dev.output.read_text())
    assert len(ports()) == 2
    assert len(set(ports())) == 1


def test_told_to_end_it_leaves_no_process_behind(dev: Dev) -> None:
    wait_until(lambda: all(dev.ask()))
    family = groups(dev.process.pid)
    assert len(family) == FAMILY
    dev.process.send_signal(signal.SIGTERM)
    assert_all_end(family)
    assert dev.process.wait(PATIENCE) == 0
