"""Every answer works: each broker, result backend, scheduler and database, on real servers."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import ClassVar

import pytest
import redis
from matrix import CELLS, Cell, Project, Servers, pairwise
from servers import Certificates, Sentinels, wait_until


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        cells = CELLS if metafunc.config.getoption("--all-cells") else pairwise(CELLS)
        marked = [
            pytest.param(it, id=str(it), marks=pytest.mark.live(*it.programs())) for it in cells
        ]
        metafunc.parametrize("cell", marked)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Servers for all tests, where the user that one of them runs as can go."""
    with TemporaryDirectory(prefix="servers-") as directory:
        Path(directory).chmod(0o755)
        with Servers(Path(directory)) as them:
            yield them


def test_the_chosen_cells_hold_every_pair_of_answers() -> None:
    chosen = pairwise(CELLS)
    assert len(chosen) < len(CELLS) / 2
    assert set().union(*(cell.pairs() for cell in chosen)) == set().union(
        *(cell.pairs() for cell in CELLS)
    )


FAR_AWAY = """
from config.settings.celery import CELERY_BROKER_TRANSPORT_OPTIONS as _options
_options["client-config"] = {"connect_timeout": 20, "read_timeout": 20}
"""
"""As docs/brokers.md says: what stands in for SQS on a busy machine is slower than Amazon."""


def test_a_cell_works(cell: Cell, servers: Servers, template: Path, tmp_path: Path) -> None:
    project = Project(template, tmp_path / "project", cell, **servers.variables(cell))
    if cell.broker == "sqs":
        project.add("config/settings/project.py", FAR_AWAY)
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    with project.at_work():
        project.run("python", "-m", "apps.probe")


IS_BROKER_THERE = "from apps.pipeline.status import broker; print(broker())"


@pytest.mark.live("redis-server", "rabbitmq-server")
@pytest.mark.parametrize("broker", ["rediss", "amqps"])
def test_a_broker_that_cannot_prove_who_it_is_is_refused(
    broker: str, servers: Servers, template: Path, tmp_path: Path
) -> None:
    variables = servers.variables(cell := Cell(broker, "none", "file", "sqlite"))
    project = Project(template, tmp_path / "project", cell, **variables)
    ask = ("python", "manage.py", "shell", "--verbosity", "0", "--command", IS_BROKER_THERE)
    assert "ok=True" in project.run(*ask)
    stranger = Certificates(tmp_path / "other").authority
    assert "certificate verify failed" in project.run(*ask, SSL_CERT_FILE=str(stranger))
    elsewhere = variables["CELERY_BROKER_URL"].replace("@localhost:", "@127.0.0.2:")
    assert "certificate is not valid for" in project.run(*ask, CELERY_BROKER_URL=elsewhere)


@pytest.mark.live("redis-server")
def test_projects_with_a_prefix_each_do_not_meet_on_one_redis(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    cell = Cell("redis", "redis", "redbeat", "sqlite")
    url = f"{servers.redis.url}/2"
    project = Project(
        template, tmp_path / "project", cell, CELERY_BROKER_URL=url, KEY_PREFIX="one:"
    )
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    ping = ("celery", "-A", "config", "inspect", "ping")
    with project.at_work():
        project.run("python", "-m", "apps.probe")
        assert "1 node online" in project.run(*ping)
        assert "No nodes replied" in project.run(*ping, codes=(69,), KEY_PREFIX="two:")
        with redis.Redis.from_url(url) as client:
            keys = client.keys()
    assert {key.partition(b":")[0] for key in keys} == {b"one", b"two"}


SEND = """
import json
from apps.probe.tasks import nap
print(json.dumps([nap.delay(0.1).id for _ in range(300)]))
"""


@pytest.mark.live("redis-server")
def test_a_failover_in_mid_run_loses_nothing_that_was_accepted(
    template: Path, tmp_path: Path
) -> None:
    cell = Cell("sentinel", "redis", "database", "sqlite")
    send = ("python", "manage.py", "shell", "--verbosity", "0", "--command", SEND)
    with TemporaryDirectory(prefix="servers-") as directory, Sentinels(Path(directory)) as watched:
        project = Project(template, tmp_path / "project", cell, CELERY_BROKER_URL=watched.url)
        accepted = set(json.loads(project.run(*send)))
        with project.started("celery", "-A", "config", "worker", "-l", "info"):
            wait_until(lambda: len(project.done()) > 20, 300, "tasks that were done")
            killed = watched.master()
            killed.end(signal.SIGKILL)
            wait_until(lambda: watched.master() != killed, 300, "another master")
            assert accepted - project.done(), "all was done before there was another master"
            wait_until(lambda: accepted <= project.done(), 300, "the tasks that were left")


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
TOLD_WITHIN = 10
"""Seconds until a view is told on a busy machine: 3 are promised, and it used to be minutes."""
TRY_TO_SEND = ("python", "manage.py", "shell", "--verbosity", "0", "--command", TRY)


@pytest.mark.parametrize(
    ("broker", "url"),
    [
        ("rediss", "rediss://:secret@127.0.0.1:{}/0"),
        ("amqps", "amqps://me:secret@127.0.0.1:{}//"),
        ("sqs", "sqs://me:secret@127.0.0.1:{}/0"),
    ],
)
def test_a_broker_that_takes_the_call_and_says_nothing_is_named(
    template: Path, tmp_path: Path, broker: str, url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = url.format(silent.getsockname()[1])
        cell = Cell(broker, "none", "file", "sqlite")
        project = Project(template, tmp_path / "project", cell, CELERY_BROKER_URL=url)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        *_, words, seconds = project.run(*TRY_TO_SEND).splitlines()
    said = url.replace("secret", "**")
    assert words.startswith(f"{said} does not take apps.probe.tasks.nap: "), words
    assert float(seconds) < TOLD_WITHIN


@pytest.mark.live("redis-server")
def test_sentinels_that_are_frozen_hold_nobody_up(template: Path, tmp_path: Path) -> None:
    """One of three costs a moment; of all three a view is told as of any broker that is away."""
    cell = Cell("sentinel", "redis", "redbeat", "sqlite")
    with TemporaryDirectory(prefix="servers-") as directory, Sentinels(Path(directory)) as watched:
        project = Project(template, tmp_path / "project", cell, CELERY_BROKER_URL=watched.url)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        first, *others = watched.sentinels
        first.send(signal.SIGSTOP)
        (seconds,) = project.run(*TRY_TO_SEND).splitlines()
        assert float(seconds) < TOLD_WITHIN
        with project.at_work():
            project.run("python", "-m", "apps.probe")
        for sentinel in others:
            sentinel.send(signal.SIGSTOP)
        *_, words, seconds = project.run(*TRY_TO_SEND).splitlines()
        assert words.endswith("does not take apps.probe.tasks.nap: No master found for 'mymaster'")
        assert float(seconds) < TOLD_WITHIN


WORKER = ("celery", "-A", "config", "worker", "-l", "info")


@pytest.mark.live
def test_what_sqs_gives_a_worker_that_leaves_is_hidden_from_nobody(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    """SQS answers a poll that is under way with messages, whether or not somebody listens."""
    cell = Cell("sqs", "none", "file", "sqlite")
    project = Project(template, tmp_path / "project", cell, **servers.variables(cell))
    project.add("config/settings/project.py", FAR_AWAY + '_options["wait_time_seconds"] = 10')
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    with project.started(*WORKER) as leaving:
        wait_until(lambda: "ready." in project.log("worker"), 300, "a worker")
        leaving.terminate()  # its first poll has just begun
        project.run(*TRY_TO_SEND)
        leaving.wait(300)
        project.run(*TRY_TO_SEND)
        assert not project.done()
    with project.started(*WORKER):
        wait_until(lambda: len(project.done()) == 2, 300, "what was sent to a worker that left")


class Gate(BaseHTTPRequestHandler):
    """Before a server on this port: lets everything through, or says that it is unavailable."""

    closed: ClassVar[bool] = False
    refused: ClassVar[int] = 0
    beyond: ClassVar[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.closed:
            Gate.refused += 1
            self.send_error(503)
            return
        with closing(HTTPConnection("127.0.0.1", self.beyond)) as link:
            link.request("POST", self.path, body, dict(self.headers.items()))
            answer = link.getresponse()
            content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", str(answer.getheader("Content-Type")))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.live
def test_a_poll_that_sqs_refuses_ends_no_worker_and_keeps_none(
    servers: Servers, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = servers.variables(cell := Cell("sqs", "none", "file", "sqlite"))
    monkeypatch.setattr(Gate, "beyond", servers.sqs.port, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as gate:
        Thread(target=gate.serve_forever, daemon=True).start()
        variables["AWS_ENDPOINT_URL_SQS"] = f"http://127.0.0.1:{gate.server_port}"
        project = Project(template, tmp_path / "project", cell, **variables)
        project.add("config/settings/project.py", FAR_AWAY)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        with project.started(*WORKER) as worker:
            wait_until(lambda: "ready." in project.log("worker"), 300, "a worker")
            monkeypatch.setattr(Gate, "closed", True)
            wait_until(lambda: Gate.refused > 10, 300, "polls that are refused")
            monkeypatch.setattr(Gate, "closed", False)
            *_, words = project.run(*TRY_TO_SEND).splitlines()
            wait_until(project.done, 300, f"a task that was sent in {words} s")
            assert worker.poll() is None
        gate.shutdown()
    with project.started(*WORKER):  # leaves though nobody is there to be asked
        wait_until(lambda: "Cannot connect" in project.log("worker"), 300, "a try to connect")
