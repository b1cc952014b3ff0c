"""A broker for each test, and the table at the end."""

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from config.settings.env import env
from tests.faults.broken import BrokenProcesses, start_broken
from tests.faults.harness import FULL, Row
from tests.faults.servers import PostgreSQL, RabbitMQ, Server, Valkey

ROW = pytest.StashKey[Row]()


def kind_of_broker() -> str:
    own = "rabbitmq" if env.str("CELERY_BROKER_URL").startswith("amqp") else "redis"
    return os.environ.get("FAULTS_BROKER", own)


# RabbitMQ has no read-only replicas, and the server keeps what a worker holds.
ONLY_REDIS = ["test_busy.py", "test_lease.py", "test_replica.py"]
collect_ignore = [] if kind_of_broker() == "redis" else ONLY_REDIS


def new_broker(directory: Path) -> Server:
    return (RabbitMQ if kind_of_broker() == "rabbitmq" else Valkey)(directory)


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A broker for all tests, because RabbitMQ starts slowly."""
    with new_broker(tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A broker that a test can kill."""
    if kind_of_broker() == "redis":
        with new_broker(tmp_path / "broker") as server:
            yield server
        return
    server = request.getfixturevalue("shared_broker")
    yield server
    server.send(signal.SIGCONT)
    if not server.answers():
        server.end(signal.SIGKILL)
        server.start()


@pytest.fixture
def database() -> Iterator[Server]:
    """A PostgreSQL that a test can kill, in a directory that its user can read."""
    with TemporaryDirectory(prefix="faults-") as directory:
        Path(directory).chmod(0o755)
        with PostgreSQL(Path(directory) / "database") as server:
            yield server


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokenProcesses]:
    """Processes that are broken when the first test begins, on a broker that no test kills."""
    directory = tmp_path_factory.mktemp("broken")
    with new_broker(directory) as server, start_broken(server) as processes:
        yield processes


@pytest.fixture(scope="session", autouse=True)
def start_broken_processes_first(request: pytest.FixtureRequest) -> None:
    if any("broken" in getattr(item, "fixturenames", ()) for item in request.session.items):
        with suppress(Exception):  # the tests that use it raise the error again
            request.getfixturevalue("broken")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of `broken` last, because health checks need time to notice a failure.

    The longest tests run first, so that with `-n` none of them runs alone at the end.
    """
    items.sort(key=lambda item: item.path.name != "test_lease.py")
    items.sort(key=lambda item: "broken" in getattr(item, "fixturenames", ()))


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The row of the test in the table."""
    return row_of(request.node)


def row_of(item: pytest.Item) -> Row:
    marker = item.get_closest_marker("faults")
    fault = marker.args[0] if marker and marker.args else item.name
    return item.stash.setdefault(ROW, Row(fault=fault))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    row = row_of(item)
    if report.failed:
        row.verdict = "FAILED"
    elif report.skipped:
        row.verdict = f"skipped: {call.excinfo.value}" if call.excinfo else "skipped"
    elif call.when == "call":
        row.verdict = "passed"
    if call.when == "teardown":
        report.user_properties.append(("row", cells_of(row)))  # with `-n`, for another process
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for several in terminalreporter.stats.values() for report in several]
    properties = [dict(getattr(report, "user_properties", ())) for report in reports]
    cells = [found["row"] for found in properties if "row" in found]
    if not cells:
        return
    rounds = "full" if FULL else "short"
    terminalreporter.section(f"faults, {rounds} round, {kind_of_broker()}")
    heads = ["fault", "injected", "accepted", "done", "lost", "recovery", "verdict"]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for line in [heads, *cells]:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line("  ".join(padded).rstrip())


def cells_of(row: Row) -> list[str]:
    def number(value: int | None) -> str:
        return "" if value is None else str(value)

    lost = None if row.accepted is None or row.done is None else row.accepted - row.done
    after = "" if row.seconds is None else f"{row.seconds:.1f} s"
    counts = [number(row.accepted), number(row.done), number(lost)]
    return [row.fault, row.injected, *counts, after, row.verdict]
