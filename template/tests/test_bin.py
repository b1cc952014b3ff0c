"""The programs in bin/."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from django.conf import settings

from apps.pipeline.testing import skip_if_no_worker_starts

BIN: Path = settings.BASE_DIR / "bin"
WAIT_TIMEOUT = 60  # seconds


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server_port() -> Iterator[int]:
    with HTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class TestHttpOk:
    def run(self, *arguments: object) -> int:
        command = [sys.executable, "-S", str(BIN / "http_ok.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True).returncode

    def test_exits_with_zero_only_for_status_200(self, server_port: int) -> None:
        # The thread of a busy machine can take longer to answer than the program waits.
        assert any(self.run(server_port, "/healthz") == 0 for _ in range(20))
        assert self.run(server_port, "/other") == 1

    def test_exits_with_one_if_no_server_listens(self) -> None:
        with socket.socket() as unused:
            unused.bind(("localhost", 0))
            assert self.run(unused.getsockname()[1], "/healthz") == 1


class TestBench:
    def test_prints_each_figure(self) -> None:
        skip_if_no_worker_starts()
        command = [sys.executable, str(BIN / "bench.py"), "--rounds", "1", "--tasks", "20"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = [line.split("|")[1:-1] for line in output.splitlines() if line.startswith("|")]
        assert [name.strip() for name, *_ in rows[2:]] == [
            "publish, tasks per second",
            "worker start to the first result, s",
            "end to end, tasks per second",
            "CPU of the worker per task, ms",
            "latency of one task, p50, ms",
            "latency of one task, p95, ms",
        ]
        assert all(float(figure.replace(",", "")) >= 0 for row in rows[2:] for figure in row[1:])
        assert "1 rounds of 20 tasks" in output


class TestHeartbeat:
    def run(self, role: str, directory: Path) -> int:
        environment = os.environ | {"RUNTIME_DIR": str(directory)}
        command = [sys.executable, "-S", str(BIN / "heartbeat.py"), role]
        return subprocess.run(command, env=environment).returncode

    @pytest.mark.parametrize("node", ["", "mail@here."])
    def test_exits_with_zero_only_for_a_recent_heartbeat_of_this_machine(
        self, tmp_path: Path, node: str
    ) -> None:
        file = tmp_path / f"worker@{socket.gethostname()}.{node}heartbeat"
        assert self.run("worker", tmp_path) == 1
        (tmp_path / "worker@other.heartbeat").touch()
        assert self.run("worker", tmp_path) == 1
        file.touch()
        assert self.run("worker", tmp_path) == 0
        assert self.run("beat", tmp_path) == 1
        os.utime(file, (time.time() - 31,) * 2)
        assert self.run("worker", tmp_path) == 1

    def test_imports_only_modules_that_start_fast(self) -> None:
        command = [sys.executable, "-S", "-X", "importtime", str(BIN / "heartbeat.py"), "worker"]
        report = subprocess.run(command, capture_output=True, text=True).stderr
        assert "| os" in report
        assert not re.search(r"\| +(re|socket|pathlib)$", report, re.MULTILINE)


PROGRAM = """
import pathlib, signal, sys, time

def note(line):
    with open("log", "a") as log:
        log.write(line + "\\n")

def stop(*args):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("stopping")
    while pathlib.Path("busy").exists():
        time.sleep(0.02)
    note("stopped")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
try:
    from apps import code
except SyntaxError:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a late signal does not change the exit code
    note("does not load")
    raise
note(f"started with {code.value}")
time.sleep(600)
"""
RELOAD = """
import reload, sys
reload.QUICK_FAILURE = 600  # without it a failure counts as quick for 11 s
sys.exit(reload.main())
"""


class TestReload:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        for name in ("apps", "config"):
            (tmp_path / name).mkdir()
        (tmp_path / "program.py").write_text(PROGRAM)
        self.write(tmp_path, "value = 1")
        return tmp_path

    @contextmanager
    def reloading(self, project: Path, code: str) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, sys.executable, "program.py"],
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(BIN)},
            start_new_session=True,
        )
        try:
            self.wait(project, "started with 1")
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @pytest.fixture
    def process(self, project: Path) -> Iterator["subprocess.Popen[bytes]"]:
        with self.reloading(project, RELOAD) as process:
            yield process

    def write(self, project: Path, code: str) -> None:
        """Change the code. Each has another length, by which Python notices the change too."""
        (project / "apps/new").write_text(f"{code}\n")
        (project / "apps/new").rename(project / "apps/code.py")

    def wait(self, project: Path, last_line: str) -> None:
        """Wait until the log ends with a line."""
        deadline, log = time.monotonic() + WAIT_TIMEOUT, project / "log"
        while not log.exists() or log.read_text().splitlines()[-1:] != [last_line]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_restarts_the_command_on_a_change_and_passes_sigterm_on(
        self, project: Path, process: "subprocess.Popen[bytes]"
    ) -> None:
        self.write(project, "value = 22")
        self.wait(project, "started with 22")
        process.terminate()
        assert process.wait(WAIT_TIMEOUT) == 0
        log = (project / "log").read_text()
        assert "stopped\nstarted with 22\n" in log
        assert log.endswith("started with 22\nstopping\nstopped\n")

    def test_waits_for_a_change_when_the_code_does_not_load(
        self, project: Path, process: "subprocess.Popen[bytes]"
    ) -> None:
        self.write(project, "value = ")
        self.wait(project, "does not load")
        self.write(project, "value = 333")
        self.wait(project, "started with 333")
        assert process.poll() is None

    def test_sigterm_ends_it_while_it_waits_for_a_change(
        self, project: Path, process: "subprocess.Popen[bytes]"
    ) -> None:
        self.write(project, "value = ")
        self.wait(project, "does not load")
        process.terminate()
        assert process.wait(WAIT_TIMEOUT) == 1

    def test_sigterm_while_the_command_stops_ends_it_without_a_new_start(
        self, project: Path, process: "subprocess.Popen[bytes]"
    ) -> None:
        (project / "busy").touch()
        self.write(project, "value = 22")
        self.wait(project, "stopping")
        process.terminate()
        (project / "busy").unlink()
        assert process.wait(WAIT_TIMEOUT) == 0
        assert (project / "log").read_text() == "started with 1\nstopping\nstopped\n"

    def test_a_command_that_does_not_exit_is_killed(self, project: Path) -> None:
        (project / "busy").touch()
        code = RELOAD.replace("sys.exit", "reload.STOP_LIMIT = 0.5; sys.exit")
        with self.reloading(project, code):
            self.write(project, "value = 22")
            self.wait(project, "started with 22")

    def test_is_a_program(self, project: Path) -> None:
        command = [sys.executable, str(BIN / "reload.py"), sys.executable, "-c", ""]
        assert subprocess.run(command, cwd=project, timeout=WAIT_TIMEOUT).returncode == 0
