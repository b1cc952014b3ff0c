"""The matrix's table: printed at the end of a run, and written to a file where one is named."""

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
# Every answer, run

This page is written by the tests themselves. For each allowed combination of broker, result backend
and scheduler they render a project, migrate, start worker and Beat as its docs say, and see a task
with its result (or that none is kept), a retry, a chord where the backend can join one, a task with
an ETA, and a declared schedule that Beat sends; then worker and Beat are told to end, and do.
Databases take turns. The seconds are of one cell, while another ran beside it.

    pytest tests/test_matrix.py --all-cells --dist load --write-table docs/matrix.md

Without `--all-cells` fewer cells are run, in which every two answers that can meet do meet.

Run on {versions}.

{table}
"""


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
    """Of each cell that was run its place among all, and its line of the table."""
    rows = []
    for category, verdict in VERDICTS.items():
        for report in terminalreporter.stats.get(category, ()):
            properties = dict(getattr(report, "user_properties", ()))
            if "cell" in properties:
                place, *names = properties["cell"]
                rows.append((place, [*names, f"{report.duration:.0f}", verdict]))
    return sorted(rows)


def versions() -> list[str]:
    """What the cells were run on."""
    from servers import binary  # which conftest does not need, where this module is imported

    found = [f"Python {platform.python_version()}"]
    for name, (program, argument) in SERVERS.items():
        command = [binary(program), argument]
        printed = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
        number = re.search(r"\d+(\.\d+)+", printed)
        found.append(f"{name} {number[0] if number else '?'}")
    return found + [f"{package} {version(package)}" for package in PACKAGES]
