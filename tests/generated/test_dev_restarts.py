"""`just dev` restarts when a file changes that its processes read only at start."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.projects import environment, run
from support.rendering import render
from support.servers import free_port
from support.tutorial_steps import Terminal
from support.waiting import wait_until

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
    doctor = ("just", "doctor")
    wait_until(lambda: "a Beat leads" in run(project, *doctor, codes=(0, 1)), "a Beat leads")
    append(project / "Procfile", "clock: cd apps && TEXT=tick sh -c 'echo $TEXT; sleep 1000'\n")
    dev.expect([CHANGED, "...clock...| tick", LEADS])
    dev.interrupt()
    assert dev.process.returncode in (0, 130)
    wait_until(lambda: not processes_in(project), "all of its processes have ended")


def processes_in(project: Path) -> set[int]:
    """The processes whose directory is in the project."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if (process / "cwd").readlink().is_relative_to(project):
                found.add(int(process.name))
    return found


def test_ctrl_c_ends_it_while_it_starts_again(dev: Terminal, project: Path) -> None:
    append(project / ".env", "LOG_LEVEL=WARNING\n")
    dev.expect([CHANGED])
    assert processes_in(project)
    dev.interrupt()
    wait_until(lambda: not processes_in(project), "all of its processes have ended")
