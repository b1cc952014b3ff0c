"""Containers of projects for tests. Each project has a unique name and is removed afterwards."""

import json
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

from support.projects import run
from support.rendering import ROOT, render
from support.waiting import wait_until

TRIAL = ROOT / "tests" / "containers" / "trial"
"""Files that are added to a project: an app whose tasks record that they ran, and its settings."""


def docker(*arguments: str, timeout: float = 600, codes: tuple[int, ...] = (0,)) -> str:
    """Run docker and return its output. Raises AssertionError for another exit code."""
    return run(Path.cwd(), "docker", *arguments, timeout=timeout, codes=codes)


def free_port() -> int:
    """A free port on the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_name(prefix: str) -> str:
    """A name that is unique in the container engine."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


class Stack:
    """The containers of a project. The directory of the project names them."""

    def __init__(self, project: Path, *files: str, **variables: str) -> None:
        self.project = project
        self.port = free_port()
        self.files = list(files or ["compose.yaml"])
        self.variables = {"WEB_PORT": str(self.port), **variables}

    @property
    def name(self) -> str:
        return self.project.name

    def run(self, *command: str, timeout: float = 600, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command in the project, with the variables for Compose."""
        variables = {"COMPOSE_FILE": ":".join(self.files), **self.variables}
        return run(self.project, *command, timeout=timeout, codes=codes, **variables)

    def compose(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        return self.run("docker", "compose", *arguments, codes=codes)

    def up(self, *arguments: str) -> None:
        """Start all services, and wait until they are healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "180", *arguments)

    def remove(self) -> None:
        """Remove all containers, networks and volumes. Raises AssertionError if one is left.

        The logs are printed, so that pytest shows them if a test has failed.
        """
        print(self.compose("logs", "--timestamps", "--tail", "100"))
        self.compose("down", "--volumes", "--remove-orphans", "--rmi", "local")
        mine = ("--quiet", "--filter", f"label=com.docker.compose.project={self.name}")
        for kind in ("container", "volume", "network"):
            everything = ("--all",) if kind == "container" else ()
            assert docker(kind, "ls", *everything, *mine) == "", kind

    def add_trial_app(self) -> None:
        """Add the trial app, as a user adds an app, and run the containers with it."""
        shutil.copytree(TRIAL, self.project, dirs_exist_ok=True)
        ledger = self.project / "ledger"
        ledger.mkdir()
        ledger.chmod(0o777)  # containers run as another user
        self.files.append("trial.yaml")
        self.up()

    def processes(self) -> list[dict[str, Any]]:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines]

    def containers(self, service: str) -> list[dict[str, Any]]:
        """The containers of a service, as the engine describes them. The oldest is first."""
        found = self.compose("ps", "--all", "--quiet", service).split()
        described: list[dict[str, Any]] = json.loads(docker("inspect", *found))
        return sorted(described, key=lambda each: str(each["Name"]))

    def python(self, code: str) -> str:
        """The output of Python code in Django's shell, in the container of the web server."""
        shell = ("python", "manage.py", "shell", "--verbosity", "0", "--command", code)
        return self.compose("exec", "-T", "web", *shell).strip()

    def send(self, task: str, numbers: range | list[int], *arguments: object) -> None:
        """Send a trial task once for each number."""
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

    def records(self, event: str) -> list[tuple[float, str, str]]:
        """The records of the trial tasks: time, container and text."""
        file = self.project / "ledger" / event
        lines = file.read_text().splitlines() if file.exists() else []
        return [(float(when), where, what) for when, where, what in map(str.split, lines)]

    def numbers(self, event: str) -> set[int]:
        return {int(what) for _, _, what in self.records(event)}

    def open(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and text of a page."""
        browser = build_opener(ProxyHandler({}))
        request = Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with browser.open(request, timeout=120) as response:
            return response.status, response.read().decode()

    def press_the_button(self) -> str:
        """Press the button of the page, and return the new page."""
        browser = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))
        address = f"http://127.0.0.1:{self.port}/"
        shown = browser.open(address, timeout=120).read().decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', shown)
        assert token, shown
        form = urlencode({"csrfmiddlewaretoken": token[1]}).encode()
        return str(browser.open(address, form, timeout=120).read().decode())


def has_run(page: str) -> bool:
    """Whether the page that the button returns has the result of its task."""
    good = re.search(r'id="outcome"[^>]* class="good"', page)
    return good is not None and "Processed: Hello" in page


class NetworkDisconnection:
    """Disconnect a container from all networks, like a machine without a network cable."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.host = container[:12]
        (described,) = json.loads(docker("inspect", container))
        self.networks = list(described["NetworkSettings"]["Networks"])
        assert len(self.networks) > 1
        for network in self.networks:
            docker("network", "disconnect", network, container)
        self.disconnected_at = time.time()

    def reconnect(self) -> None:
        for network in self.networks:
            docker("network", "connect", network, self.container)
        self.reconnected_at = time.time()


@contextmanager
def running(template: Path, directory: Path, **answers: object) -> Iterator[Stack]:
    """The containers of a new project after `just up`. They are removed at the end."""
    name = new_name("stack")
    stack = Stack(render(template, directory / name, project_name=name, **answers))
    try:
        stack.run("just", "up", "--wait-timeout", "180")
        yield stack
    finally:
        stack.remove()
