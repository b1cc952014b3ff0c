"""Brokers and a database that tests can kill, freeze and restart."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from apps.pipeline.broker import embedded

START_TIMEOUT = 120  # seconds; RabbitMQ takes five, and many more on a busy machine
RESERVATIONS: list[socket.socket] = []


def wait_until(met: Callable[[], object], within: float, what: str) -> float:
    """Wait until a condition is met, and return the seconds."""
    began = time.monotonic()
    while not met():
        waited = time.monotonic() - began
        assert waited < within, f"not within {within:.0f} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def is_frozen(group: int) -> bool:
    """Whether all threads of a process group have stopped, which takes a moment."""
    for file in Path("/proc").glob("[0-9]*/task/*/stat"):
        with suppress(OSError):  # it has ended
            state, _, found, *_ = file.read_text().rpartition(") ")[2].split()
            if int(found) == group and state not in "TZX":
                return False
    return True


def reserved_port() -> int:
    """A free port that no other process gets while this process runs, even if no server is on it.

    On Linux a server with SO_REUSEADDR can listen on a port to which another such socket is bound.
    """
    if sys.platform != "linux":
        return embedded.free_port()
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    RESERVATIONS.append(holder)
    port: int = holder.getsockname()[1]
    return port


class Server:
    """A server process that keeps its data and its port when it restarts."""

    url: str

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = reserved_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def variables(self) -> dict[str, str]:
        return {}

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def start(self) -> None:
        with (self.directory / "output.log").open("ab") as output:
            self.process = subprocess.Popen(
                embedded.end_with_parent([*self.command()]),
                cwd=self.directory,
                env=os.environ | self.variables(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self.answers, START_TIMEOUT, f"a server on port {self.port}, see {output.name}")

    def send(self, number: signal.Signals) -> None:
        if self.process:
            os.killpg(group := self.process.pid, number)
            if number is signal.SIGSTOP:
                wait_until(lambda: is_frozen(group), START_TIMEOUT, "a frozen server")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the server, and wait until it has exited."""
        if self.process:
            with suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
                self.send(number)
            try:
                self.process.wait(START_TIMEOUT)
            finally:
                with suppress(ProcessLookupError):
                    self.send(signal.SIGKILL)
            self.process = None
            wait_until(lambda: not self.answers(), START_TIMEOUT, "a server that has gone")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(signal.SIGKILL)


class Valkey(Server):
    """The embedded broker with an append-only file, as in compose.yaml."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        binary = str(embedded._binary())
        listen = ["--bind", "127.0.0.1", "--port", str(self.port)]
        return [binary, *listen, "--dir", str(self.directory), "--save", "", "--appendonly", "yes"]

    def answers(self) -> bool:
        """Whether it has loaded its file. Until then it answers that it is loading."""
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        return False


class RabbitMQ(Server):
    """A node with its own name service, independent of other nodes on this machine."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.names, self.peers = reserved_port(), reserved_port()
        self.binary = shutil.which("rabbitmq-server") or pytest.skip("no rabbitmq-server on PATH")

    def command(self) -> Sequence[str]:
        # Debian's wrapper changes the user and the directory. Use the program beside it.
        return [str(Path(self.binary).resolve().with_name("rabbitmq-server"))]

    def variables(self) -> dict[str, str]:
        (self.directory / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        return {
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.names),
            "HOME": str(self.directory),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self.peers),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_NODENAME": f"faults-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
        }

    def answers(self) -> bool:
        """Whether it answers a client. Its port is open earlier."""
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(b"AMQP\0\0\x09\x01")
            return bool(connection.recv(8))
        return False

    def __exit__(self, *error: object) -> None:
        self.end(signal.SIGKILL)
        wait_until(self._forgotten, START_TIMEOUT, "the end of its name service")

    def _forgotten(self) -> bool:
        """Stop the name service, which refuses until it has noticed that its node has stopped."""
        command = ["epmd", "-port", str(self.names), "-kill"]
        variables = os.environ | self.variables()
        done = subprocess.run(command, env=variables, capture_output=True, check=False)
        return b"living nodes" not in done.stdout + done.stderr


class PostgreSQL(Server):
    """A separate cluster. Root starts it as another user, because PostgreSQL refuses root."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.url = f"postgres://app@127.0.0.1:{self.port}/postgres"
        found = [*Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")]  # not on PATH on Debian
        found += [Path(path).resolve() for path in [shutil.which("pg_ctl")] if path]
        self.binaries = (found or pytest.skip("no PostgreSQL server on this machine"))[0].parent
        self.user: list[str] = []
        if os.geteuid() == 0:
            self.user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("no user for PostgreSQL: there is none called postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
        subprocess.run(
            [
                *[*self.user, str(self.binaries / "initdb"), "--pgdata", str(directory / "data")],
                *["--username", "app", "--auth", "trust", "--no-sync", "--encoding", "UTF8"],
            ],
            cwd=directory,
            capture_output=True,
            check=True,
        )

    def command(self) -> Sequence[str]:
        return [
            *[*self.user, str(self.binaries / "postgres"), "-D", str(self.directory / "data")],
            *["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.directory)],
        ]

    def answers(self) -> bool:
        command = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0
