"""`just dev` restarts when a file changes that its processes read only at start."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.projects import environment, run
from support.rendering import render
from support.servers import free_port
from support.tutorial_steps import WAIT_TIMEOUT, Terminal

LEADS = "...leads: it sends due tasks"
READY = "...celery@... ready."
CHANGED = ".env or Procfile has changed: restarting all processes ..."


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return render(template, tmp_path / "project")


@pytest.fixture
def dev(project: Path) -> Iterator[Terminal]:
    variables = environment(PORT=str(free_port()), PYTHONUNBUFFERED="1")
    terminal = Terminal("just dev", project, variables, project.parent / "dev.log")
    try:
        terminal.expect([LEADS, READY])
        yield terminal
    finally:
        terminal.close()


def append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as end:
        end.write(line)


def test_it_moves_to_another_database_and_to_other_processes(dev: Terminal, project: Path) -> None:
    database = project / "var/other.sqlite3"
    append(project / ".env", f"DATABASE_URL=sqlite:///{database}\n")
    dev.expect([CHANGED, LEADS, READY])
    assert database.is_file()
    deadline = time.monotonic() + WAIT_TIMEOUT
    while "a Beat leads" not in (report := run(project, "just", "doctor", codes=(0, 1))):
        assert time.monotonic() < deadline, report
    append(project / "Procfile", 'clock: sh -c "echo tick; sleep 1000"\n')
    dev.expect([CHANGED, "...clock...| tick", LEADS])
    dev.interrupt()
    assert dev.process.returncode in (0, 130)


def test_ctrl_c_ends_it_while_it_starts_again(dev: Terminal, project: Path) -> None:
    append(project / ".env", "LOG_LEVEL=WARNING\n")
    dev.expect([CHANGED])
    dev.interrupt()
    assert dev.log.read_text().count("Status page: ") == 1
