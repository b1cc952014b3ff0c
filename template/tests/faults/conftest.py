"""A broker for each test, and the table at the end."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from config.settings.env import env
from tests.faults.harness import FULL, Row
from tests.faults.servers import RabbitMQ, Server, Valkey

ROW = pytest.StashKey[Row]()
ROWS = pytest.StashKey[list[Row]]()


def kind_of_broker() -> str:
    own = "rabbitmq" if env.str("CELERY_BROKER_URL").startswith("amqp") else "redis"
    return os.environ.get("FAULTS_BROKER", own)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    """A broker that a test may kill."""
    kind = RabbitMQ if kind_of_broker() == "rabbitmq" else Valkey
    with kind(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The test's line of the table."""
    return row_of(request.node, request.config)


def row_of(item: pytest.Item, config: pytest.Config) -> Row:
    if ROW not in item.stash:
        marker = item.get_closest_marker("faults")
        item.stash[ROW] = Row(fault=marker.args[0] if marker and marker.args else item.name)
        config.stash.setdefault(ROWS, []).append(item.stash[ROW])
    return item.stash[ROW]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    row = row_of(item, item.config)
    if report.failed:
        row.verdict = "FAILED"
    elif report.skipped:
        row.verdict = f"skipped: {call.excinfo.value}" if call.excinfo else "skipped"
    elif call.when == "call":
        row.verdict = "holds"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(ROWS, [])
    if not rows:
        return
    rounds = "full" if FULL else "short"
    terminalreporter.section(f"faults, {rounds} round, {kind_of_broker()}")
    heads = ["fault", "injected", "accepted", "done", "lost", "back after", "verdict"]
    cells = [cells_of(row) for row in rows]
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
