"""Skips tests whose servers, programs or container engine are missing, by their marks."""

import os
import shutil
import socket
import subprocess
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import pytest

SERVERS = {"redis": 6379, "rabbitmq": 5672, "postgres": 5432, "mariadb": 3306}
"""The ports on loopback of running servers that `@pytest.mark.live(...)` can name.

Any other name in the mark is a program that the test starts.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-live",
        action="store_true",
        help="fail a test instead of skipping it if a server or program is missing",
    )


@cache
def reachable(port: int) -> bool:
    """Whether a server listens on this port of the loopback address. Waits up to a second."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@cache
def program(name: str) -> str | None:
    """The path of a program. Also looks in the directories of servers that are not on PATH."""
    hidden = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        Path("/usr/local/sbin"),
        Path("/usr/sbin"),
    ]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, hidden)))


@cache
def engine() -> bool:
    """Whether a container engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True).returncode == 0


def missing(item: pytest.Item) -> Iterator[str]:
    """The servers and programs in the test's marks that are missing."""
    for name in (name for mark in item.iter_markers("live") for name in mark.args):
        if name not in SERVERS and not program(name):
            yield f"the program {name}"
        if name in SERVERS and not reachable(SERVERS[name]):
            yield f"{name} on port {SERVERS[name]}"
    if item.get_closest_marker("containers") and not engine():
        yield "a container engine"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if absent := list(missing(item)):
        pytest.skip(f"missing: {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    live = item.get_closest_marker("live") or item.get_closest_marker("containers")
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if live and skipped and item.config.getoption("--require-live"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"--require-live: {reason}"
    return report
