"""The table of the matrix. It is printed after the tests, and written to a file on request."""

import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

HEADS = ["broker", "result backend", "scheduler", "database", "seconds", "verdict"]
VERDICTS = {"passed": "works", "failed": "FAILED", "error": "FAILED", "skipped": "skipped"}

PACKAGES = (
    *("celery", "kombu", "redis", "django", "django-celery-beat", "django-celery-results"),
    *("celery-redbeat", "psycopg", "pymysql", "moto"),
)
SERVERS = {
    "Redis": ("redis-server", "--version"),
    "RabbitMQ": ("rabbitmqctl", "version"),
    "PostgreSQL": ("pg_ctl", "--version"),
    "MariaDB": ("mariadbd", "--version"),
}

PAGE = """\
# Tested combinations

The tests write this page. For each allowed combination of broker, result backend and scheduler they
render a project, migrate, and start worker and Beat with the documented commands. They check a task
and its result (or that no result is stored), a retry, a chord if the result backend supports it, a
task with an ETA, and a declared schedule that Beat sends. Then worker and Beat have to stop. The
databases take turns. A cell is one row of the table. Two rows are tested at the same time, and the
seconds are those of one row.

    uv run pytest tests/live/test_matrix.py --all-cells --dist load --write-table docs/matrix.md

Without `--all-cells` the tests run fewer cells, which contain all allowed pairs of answers.

Run on {versions}.

{table}
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-cells",
        action="store_true",
        help="run all cells of the matrix, and not only enough cells for all pairs of answers",
    )
    parser.addoption(
        "--write-table",
        metavar="FILE",
        help="write the page with the table to this file",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if cell := parameters.get("cell"):
            item.user_properties.append(("cell", cell.row()))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = [row for _, row in rows_of(terminalreporter)]
    if not rows:
        return
    cells = [HEADS, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    terminalreporter.section("matrix")
    terminalreporter.write("\n".join([*lines, ""]))
    if page := config.getoption("--write-table"):
        ruled = [cells[0], ["---"] * len(HEADS), *cells[1:]]
        table = "\n".join(f"| {' | '.join(row)} |" for row in ruled)
        Path(page).write_text(PAGE.format(versions=", ".join(versions()), table=table))


def rows_of(terminalreporter: pytest.TerminalReporter) -> list[tuple[int, list[str]]]:
    """The index and the row of each cell that was run, in order."""
    rows = []
    for category, verdict in VERDICTS.items():
        for report in terminalreporter.stats.get(category, ()):
            properties = dict(getattr(report, "user_properties", ()))
            if "cell" in properties:
                place, *names = properties["cell"]
                rows.append((place, [*names, f"{report.duration:.0f}", verdict]))
    return sorted(rows)


def versions() -> list[str]:
    """The versions of servers and packages."""
    from support.servers import binary  # not at the top: most runs need no servers

    found = [f"Python {platform.python_version()}"]
    for name, (program, argument) in SERVERS.items():
        command = [binary(program), argument]
        printed = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
        number = re.search(r"\d+(\.\d+)+", printed)
        found.append(f"{name} {number[0] if number else '?'}")
    return found + [f"{package} {version(package)}" for package in PACKAGES]
