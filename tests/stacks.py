"""Container stacks for the tests: each under a name of its own, and gone without a trace."""

import json
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

from projects import run
from rendering import render

TRIAL = Path(__file__).with_name("trial")
"""An app with tasks that leave traces, and what makes the stack run it: laid over a project."""


def docker(*arguments: str, timeout: float = 600, codes: tuple[int, ...] = (0,)) -> str:
    """Run docker and return what it printed; AssertionError where it ends with another code."""
    return run(Path.cwd(), "docker", *arguments, timeout=timeout, codes=codes)


def wait_until(met: Callable[[], object], what: str, seconds: float = 120) -> float:
    """Wait until something is so; return how many seconds it took. AssertionError if it is not."""
    started = time.monotonic()
    while not met():
        passed = time.monotonic() - started
        assert passed < seconds, f"after {passed:.0f} s it is not so that {what}"
        time.sleep(0.3)
    return time.monotonic() - started


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_name(prefix: str) -> str:
    """A name for the engine that nothing else there has."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


class Stack:
    """A generated project's stack, run by the engine under the name of the project's directory."""

    def __init__(self, project: Path, *files: str, **variables: str) -> None:
        self.project = project
        self.port = free_port()
        self.files = list(files or ["compose.yaml"])
        self.variables = {"WEB_PORT": str(self.port), **variables}

    @property
    def name(self) -> str:
        return self.project.name

    def run(self, *command: str, timeout: float = 600, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command in the project, with the variables that make Compose find this stack."""
        variables = {"COMPOSE_FILE": ":".join(self.files), **self.variables}
        return run(self.project, *command, timeout=timeout, codes=codes, **variables)

    def compose(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        return self.run("docker", "compose", *arguments, codes=codes)

    def up(self, *arguments: str) -> None:
        """Start what does not run, and wait until all is healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "180", *arguments)

    def remove(self) -> None:
        """End all that belongs to it; AssertionError when something is left.

        Its last words are printed: pytest shows them where a test has failed.
        """
        print(self.compose("logs", "--timestamps", "--tail", "100"))
        self.compose("down", "--volumes", "--remove-orphans", "--rmi", "local")
        mine = ("--quiet", "--filter", f"label=com.docker.compose.project={self.name}")
        for kind in ("container", "volume", "network"):
            everything = ("--all",) if kind == "container" else ()
            assert docker(kind, "ls", *everything, *mine) == "", kind

    def try_out(self) -> None:
        """Add the trial app, as a user adds one, and run the stack with it."""
        shutil.copytree(TRIAL, self.project, dirs_exist_ok=True)
        ledger = self.project / "ledger"
        ledger.mkdir()
        ledger.chmod(0o777)  # the containers' user is another
        self.files.append("trial.yaml")
        self.up()

    def processes(self) -> list[dict[str, Any]]:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines]

    def containers(self, service: str) -> list[dict[str, Any]]:
        """A service's containers as the engine describes them, the oldest first."""
        found = self.compose("ps", "--all", "--quiet", service).split()
        described: list[dict[str, Any]] = json.loads(docker("inspect", *found))
        return sorted(described, key=lambda each: str(each["Name"]))

    def python(self, code: str) -> str:
        """What this code prints in the project's own shell, in the web's container."""
        shell = ("python", "manage.py", "shell", "--verbosity", "0", "--command", code)
        return self.compose("exec", "-T", "web", *shell).strip()

    def send(self, task: str, numbers: range | list[int], *arguments: object) -> None:
        """Send one of the trial's tasks, once with each number."""
        self.python(
            f"from apps.trial.tasks import {task}\n"
            f"for number in {list(numbers)}: {task}.delay(number, *{arguments})"
        )

    def hold(self, *numbers: int) -> None:
        """Send tasks that run until `release`, and wait until they all run."""
        (self.project / "ledger" / "released").unlink(missing_ok=True)
        self.send("hold", list(numbers))
        wait_until(lambda: self.numbers("started") >= set(numbers), "the tasks run")

    def release(self) -> None:
        (self.project / "ledger" / "released").touch()

    def noted(self, event: str) -> list[tuple[float, str, str]]:
        """What the trial's tasks wrote down: when, in which container, and what."""
        file = self.project / "ledger" / event
        lines = file.read_text().splitlines() if file.exists() else []
        return [(float(when), where, what) for when, where, what in map(str.split, lines)]

    def numbers(self, event: str) -> set[int]:
        return {int(what) for _, _, what in self.noted(event)}

    def open(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of a page."""
        browser = build_opener(ProxyHandler({}))
        request = Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with browser.open(request, timeout=30) as response:
            return response.status, response.read().decode()

    def press_the_button(self) -> str:
        """Press the landing page's button, and return the page that comes back."""
        browser = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))
        address = f"http://127.0.0.1:{self.port}/"
        shown = browser.open(address, timeout=30).read().decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', shown)
        assert token, shown
        form = urlencode({"csrfmiddlewaretoken": token[1]}).encode()
        return str(browser.open(address, form, timeout=60).read().decode())


@contextmanager
def running(template: Path, directory: Path, **answers: object) -> Iterator[Stack]:
    """The stack of a fresh copy, as `just up` leaves it; removed at the end."""
    name = new_name("stack")
    stack = Stack(render(template, directory / name, project_name=name, **answers))
    try:
        stack.run("just", "up", "--wait-timeout", "180")
        yield stack
    finally:
        stack.remove()
