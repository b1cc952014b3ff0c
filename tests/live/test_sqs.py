"""SQS: messages for a worker that stops, failed receive requests, and a lost connection."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from support.matrix import Cell, Servers
from support.probe_project import TRY_TO_SEND, Project
from support.waiting import wait_until

WORKER = ("celery", "-A", "config", "worker", "-l", "info")


@pytest.mark.live
def test_a_worker_that_stops_takes_no_hidden_messages(
    servers: Servers, template: Path, tmp_path: Path
) -> None:
    """SQS answers a receive request with messages even if the worker no longer waits for it."""
    cell = Cell("sqs", "none", "file", "sqlite")
    project = Project(template, tmp_path / "project", cell, **servers.variables(cell))
    project.add("config/settings/project.py", '_options["wait_time_seconds"] = 10')
    project.run("python", "manage.py", "migrate", "--verbosity", "0")
    with project.started(*WORKER) as leaving:
        wait_until(lambda: "ready." in project.log("worker"), "a worker")
        leaving.terminate()  # its first receive request has just begun
        project.run(*TRY_TO_SEND)
        leaving.wait(300)
        project.run(*TRY_TO_SEND)
        assert not project.done()
    with project.started(*WORKER):
        wait_until(lambda: len(project.done()) == 2, "what was sent to a worker that left")


class Gate(BaseHTTPRequestHandler):
    """A proxy for a server on this port, which forwards requests or refuses them with a status.

    It also has credentials, as containers on AWS get them. They are asked for with each request,
    because they expire soon.
    """

    closed: ClassVar[bool] = False
    status: ClassVar[int] = 503
    refused: ClassVar[int] = 0
    beyond: ClassVar[int]

    def do_GET(self) -> None:
        if self.closed:
            self.send_error(self.status)
            return
        expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        names = ("AccessKeyId", "SecretAccessKey", "Token")
        content = json.dumps(dict.fromkeys(names, "nothing") | {"Expiration": expires})
        self.answer(200, "application/json", content.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.closed:
            Gate.refused += 1
            self.send_error(self.status)
            return
        with closing(HTTPConnection("127.0.0.1", self.beyond)) as link:
            link.request("POST", self.path, body, dict(self.headers.items()))
            answer = link.getresponse()
            self.answer(answer.status, str(answer.getheader("Content-Type")), answer.read())

    def answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def opened_gate(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a gate to the server, and yield its URL."""
    monkeypatch.setattr(Gate, "beyond", servers.sqs.port, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as gate:
        Thread(target=gate.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{gate.server_port}"
        gate.shutdown()


@pytest.mark.live
@pytest.mark.parametrize("status", [400, 503])
def test_a_failed_receive_request_does_not_stop_or_block_the_worker(
    servers: Servers, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Gate, "status", status)
    monkeypatch.setattr(Gate, "refused", 0)
    variables = servers.variables(cell := Cell("sqs", "none", "file", "sqlite"))
    with opened_gate(servers, monkeypatch) as url:
        variables["AWS_ENDPOINT_URL_SQS"] = url
        project = Project(template, tmp_path / "project", cell, **variables)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        with project.started(*WORKER) as worker:
            wait_until(lambda: "ready." in project.log("worker"), "a worker")
            monkeypatch.setattr(Gate, "closed", True)
            wait_until(lambda: Gate.refused > 10, "polls that are refused")
            monkeypatch.setattr(Gate, "closed", False)
            *_, words = project.run(*TRY_TO_SEND).splitlines()
            wait_until(project.done, f"a task that was sent in {words} s")
            assert worker.poll() is None
    with project.started(*WORKER):  # it has to stop even if the server does not run
        wait_until(lambda: "Cannot connect" in project.log("worker"), "a try to connect")


@pytest.mark.live
def test_a_worker_that_lost_its_connection_receives_messages(
    servers: Servers, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loses the connection if it needs new credentials and gets none."""
    variables = servers.variables(cell := Cell("sqs", "none", "file", "sqlite"))
    del variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
    with opened_gate(servers, monkeypatch) as url:
        variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url
        project = Project(template, tmp_path / "project", cell, **variables)
        project.run("python", "manage.py", "migrate", "--verbosity", "0")
        with project.started(*WORKER):
            wait_until(lambda: "ready." in project.log("worker"), "a worker")
            monkeypatch.setattr(Gate, "closed", True)
            wait_until(lambda: "broker lost" in project.log("worker"), "a lost connection")
            monkeypatch.setattr(Gate, "closed", False)
            project.run(*TRY_TO_SEND)
            wait_until(project.done, "a task that was sent after it")
